import { IsthmusError } from '@isthmus/core';
import {
  type Constraints,
  type EnergyModel,
  type EnergyPreset,
  energyPresets,
  type Objective,
} from '@isthmus/planner';

/** What plans are chosen for. Everything but the objective is a limit that plans must keep. */
export interface Target {
  /**
   * What is wanted most. @default the best answers in time, `{ kind: 'quality' }`, with a `deadlineMs`; else the
   * soonest, `{ kind: 'latency' }`, of those that lose practically nothing
   */
  objective?: Objective;
  /**
   * Milliseconds from `run()` to its answer: `auto` gives up quality to keep it, and skips what cannot. Not enforced
   * on what is under way; see `RunOptions.deadlineMs`.
   */
  deadlineMs?: number;
  /** Plans less likely than this to be in time will not do; when none does, the least bad is taken. @default 0 */
  deadlineProbability?: number;
  /**
   * Least expected quality, 0…1, as measured when the model was split. A frame that no such plan answers in time is
   * skipped, or, with a `deadlineProbability`, answered by the least bad plan.
   * @default 0 where quality is what is weighed; 0.99 for the objectives `latency`, `energy` and `bytes`, since the
   * soonest and cheapest answers are worth nothing; 0.9995 without objective and deadline
   */
  minQuality?: number;
  /** The same the other way round: `1 − minQuality`. */
  maxAccuracyDrop?: number;
  /** Bytes sent in an hour, evenly spent. @default unlimited */
  maxBytesPerHour?: number;
  /** Never send the picture, in whatever coding. @default false */
  neverPixels?: boolean;
  /** Never send anything before this cut. @default 0 */
  minCut?: number;
  /** What computing and sending take of the battery. @default 'phoneLte' */
  energy?: EnergyModel | EnergyPreset;
}

/** A target as the controller takes it. */
export interface ResolvedTarget {
  objective: Objective;
  constraints: Constraints;
  energy: EnergyModel;
}

// Half floats, and nothing coarser.
const plainMinQuality = 0.9995;
// Objectives that would take any answer.
const defaultMinQuality: Readonly<Record<Objective['kind'], number | undefined>> = {
  quality: undefined,
  utility: undefined,
  latency: 0.99,
  energy: 0.99,
  bytes: 0.99,
};

/** @throws IsthmusError `usage/invalid` */
export function resolveTarget(target: Target): ResolvedTarget {
  const { deadlineMs, deadlineProbability, maxAccuracyDrop, maxBytesPerHour, neverPixels, minCut } = target;
  const isPlain = target.objective === undefined && deadlineMs === undefined;
  const objective = target.objective ?? { kind: isPlain ? 'latency' : 'quality' };
  const asked = target.minQuality ?? (maxAccuracyDrop === undefined ? undefined : 1 - maxAccuracyDrop);
  const minQuality = asked ?? (isPlain ? plainMinQuality : defaultMinQuality[objective.kind]);
  const ranges: readonly (readonly [string, number | undefined, number])[] = [
    ['deadlineMs', deadlineMs, Infinity],
    ['deadlineProbability', deadlineProbability, 1],
    ['minQuality', target.minQuality, 1],
    ['maxAccuracyDrop', maxAccuracyDrop, 1],
    ['maxBytesPerHour', maxBytesPerHour, Infinity],
    ['minCut', minCut, Infinity],
  ];
  for (const [name, value, most] of ranges) {
    if (value === undefined || (value >= 0 && value <= most)) continue;
    const range = most === Infinity ? 'at least 0' : `0 to ${most}`;
    throw new IsthmusError('usage/invalid', `target.${name} must be a number of ${range}, not ${value}.`);
  }
  const given = { deadlineMs, deadlineProbability, minQuality, maxBytesPerHour, neverPixels, minCut };
  return {
    objective,
    constraints: Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
    energy: resolveEnergy(target.energy),
  };
}

function resolveEnergy(energy: Target['energy'] = 'phoneLte'): EnergyModel {
  if (typeof energy !== 'string') return energy;
  if (Object.hasOwn(energyPresets, energy)) return energyPresets[energy];
  const names = Object.keys(energyPresets).join(', ');
  throw new IsthmusError('usage/invalid', `target.energy is a model or one of ${names}, not ${energy}.`);
}
