export type { CodecArchitecture } from './architecture.js';
export { type BottleneckOptions, bottleneck, countComponents } from './bottleneck.js';
export type { OutputKind } from './distortion.js';
export { type CodecNetworks, exportCodec } from './networks.js';
export { bottleneckPhases, learningRateAt, type Phase, phaseAt } from './phases.js';
export { type CurvePoint, fitTradeoff, type Tradeoff } from './tradeoff.js';
export {
  type CodecTraining,
  type CodecTrainingOptions,
  draftCodecTraining,
  type Target,
  type TrainingTerm,
  trainingInputs,
  trainingTerms,
} from './training-draft.js';
