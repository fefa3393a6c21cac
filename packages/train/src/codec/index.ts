export { type Adapter, type AdapterOptions, pictureAdapter } from './adapter.js';
export type { CodecArchitecture } from './architecture.js';
export { type BottleneckOptions, bottleneck } from './bottleneck.js';
export type { OutputKind } from './distortion.js';
export { type BranchShape, type EncoderBranchName, encoderBranches } from './encoder-branch.js';
export { type FitLandingOptions, fitLanding, type LinearLanding } from './fit-landing.js';
export { latentFront, pictureFront, type TrainingFront } from './fronts.js';
export { asHalf } from './halves.js';
export {
  type DecoderName,
  type DecoderShape,
  type LandingOptions,
  landing,
  landingDecoders,
} from './landing.js';
export { blockFor, type LandingGeometry, landingGeometry, type Maps, mapsOf } from './landing-geometry.js';
export { type CodecNetworks, type ExportOptions, exportAdapter, exportCodec } from './networks.js';
export {
  bottleneckPhases,
  landingPhases,
  landingStages,
  learningRateAt,
  type Phase,
  phaseAt,
  type Stages,
  singleStage,
} from './phases.js';
export { type CurvePoint, fitTradeoff, type Tradeoff } from './tradeoff.js';
export {
  type CodecTraining,
  type CodecTrainingOptions,
  draftCodecTraining,
  type Target,
} from './training-draft.js';
export { type TrainingTerm, trainingInputs, trainingTerms } from './training-inputs.js';
export { countComponents } from './transform-kernels.js';
export { tunedWeights } from './tuned.js';
