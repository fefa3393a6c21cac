export { choosePlan, type PlanRequest, type PricedPlan, pricePlans } from './choose.js';
export { createLinkEstimator, type LinkEstimate, type LinkEstimator, type PacketArrival } from './link.js';
export {
  type ChosenPlan,
  checkPlan,
  deviceBytes,
  type LocalPlan,
  type Plan,
  profiledMs,
  type SplitPlan,
} from './plan.js';
