export {
  type BatchNormOptions,
  batchNorm,
  frozenBatchNorm,
  type NormalizedBatch,
} from './batch-norm.js';
export * from './codec/index.js';
export { Draft, type DraftNodeOptions, type Parameter, type Statistic } from './draft.js';
export { foldBatchNorms } from './fold-batch-norm.js';
export { type GdnOptions, gdn, lowerBound } from './gdn.js';
export type { CompositeContext, CompositeRule } from './gradient-context.js';
export { addGradients, type GradientsOptions } from './gradients.js';
export { type GraftOptions, graft } from './graft.js';
export {
  addNoise,
  type ConvolutionOptions,
  conv2d,
  convTranspose2d,
  drawWeights,
  pixelShuffle,
  residualBlock,
  roundStraightThrough,
} from './layers.js';
export type { ParameterEntry, ParameterLayout } from './layout.js';
export { meanSquaredError, softmaxCrossEntropy } from './losses.js';
export type { OptimizerOptions, StateVector } from './optimizer.js';
export { readSafetensors, type SafetensorsFile, writeSafetensors } from './safetensors.js';
export { type CosineSchedule, cosineRate } from './schedule.js';
export {
  createTrainingState,
  loadTrainingState,
  saveTrainingState,
  stateTensors,
  type TrainingState,
} from './state.js';
export { buildTrainingStep, type TrainingPlan, type TrainingStepOptions } from './step.js';
export {
  type BatchResult,
  createTrainer,
  type StepResult,
  type Trainer,
  type TrainerOptions,
} from './trainer.js';
