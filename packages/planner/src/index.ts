export {
  type Controller,
  type ControllerOptions,
  type ControllerTuning,
  createController,
  type Decision,
  defaultControllerTuning,
  type FrameToPlan,
  type SkipPlan,
} from './controller.js';
export { type EnergyModel, type EnergyPreset, energyPresets, joulesOf } from './energy.js';
export {
  createLinkEstimator,
  defaultLinkTuning,
  type LinkEstimate,
  type LinkEstimator,
  type LinkPhase,
  type LinkTuning,
  type PacketArrival,
} from './link.js';
export type { Constraints, Objective, UtilityWeights } from './objective.js';
export {
  type ChosenPlan,
  checkPlan,
  deviceBytes,
  type LocalPlan,
  type Plan,
  profiledMs,
  type SplitPlan,
} from './plan.js';
export type { PricedPlan } from './price.js';
export type { Encoded } from './profile.js';
export { defaultSpanTuning, type SpanTuning } from './span-choice.js';
