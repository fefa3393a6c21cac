import type { PricedPlan } from './price.js';

/** What is wanted most. */
export type Objective =
  /** The best answers in time: expected quality times the probability of meeting the deadline. */
  | { kind: 'quality' }
  /** The soonest answer. */
  | { kind: 'latency' }
  /** The least of the device's battery. */
  | { kind: 'energy' }
  /** The fewest bytes sent. */
  | { kind: 'bytes' }
  | { kind: 'utility'; weights: UtilityWeights };

/** What one unit of each is worth; costs are positive numbers, too. */
export interface UtilityWeights {
  /** Of a perfect answer in time. */
  quality: number;
  perSecond: number;
  perJoule: number;
  perMegabyte: number;
}

/** What a plan must keep. When none can, the least bad is taken and said to be infeasible. */
export interface Constraints {
  /** Milliseconds from capture to answer. @default none */
  deadlineMs?: number;
  /** Plans less likely than this to meet the deadline will not do. @default 0 */
  deadlineProbability?: number;
  /** Least expected quality, 0…1. @default 0 */
  minQuality?: number;
  /** Memory for spans and encoders on the device. Never exceeded. @default unlimited */
  maxDeviceBytes?: number;
  /** The largest packet the receiver takes. Never exceeded. @default unlimited */
  maxPacketBytes?: number;
  /** Bytes sent in an hour, evenly spent. Never exceeded. @default unlimited */
  maxBytesPerHour?: number;
  /** Never send the picture, in whatever coding. @default false */
  neverPixels?: boolean;
  /** Never send anything before this cut. @default 0 */
  minCut?: number;
  /** The deepest cut the device may run to. @default the last */
  maxDeviceCut?: number;
  /** Whether the device may answer alone. @default false */
  mayRunLocally?: boolean;
  /** Ids of the codecs both ends know. @default all of the manifest's */
  codecs?: readonly string[];
}

/** How much better a plan is by the objective; larger is better, and comparable only under the same objective. */
export function utilityOf(objective: Objective, priced: PricedPlan): number {
  const answered = priced.quality * priced.inTime * priced.share;
  switch (objective.kind) {
    case 'quality':
      return answered;
    case 'latency':
      return -priced.totalMs / 1000;
    case 'energy':
      return -priced.joules;
    case 'bytes':
      return -priced.numBytes / 1e6;
    case 'utility': {
      const { quality, perSecond, perJoule, perMegabyte } = objective.weights;
      return (
        quality * answered -
        (perSecond * priced.totalMs) / 1000 -
        perJoule * priced.joules -
        (perMegabyte * priced.numBytes) / 1e6
      );
    }
  }
}

/** No plan of that quality is more useful than this. */
export function mostUtility(objective: Objective, quality: number): number {
  if (objective.kind === 'quality') return quality;
  return objective.kind === 'utility' ? objective.weights.quality * quality : 0;
}

/** Whether a plan keeps what can be broken: deadline and quality. */
export function isFeasible(constraints: Constraints, { inTime, quality }: PricedPlan): boolean {
  return inTime >= (constraints.deadlineProbability ?? 0) && quality >= (constraints.minQuality ?? 0);
}
