import type { Plan } from '@isthmus/planner';
import { scheduledPolicy } from './fixed-policies.js';
import type { PolicyFactory } from './policy.js';
import type { Scenario } from './scenario.js';
import type { PlanOption, Workload } from './workload.js';

/** The best that was possible, and how to get it. */
export interface OracleSchedule {
  /** The plan of each frame; undefined for none. */
  plans: (Plan | undefined)[];
  /** Sum of the quality of all frames. */
  quality: number;
}

/** When device, link and receiver are free, and what it took to get there. */
interface State {
  deviceMs: number;
  linkMs: number;
  cloudMs: number;
  quality: number;
  from: State | undefined;
  option: number;
}

export interface OracleOptions {
  /** States kept from frame to frame. @default 64 */
  maxStates?: number;
}

// Rounding must not make an answer late that was planned to be just in time.
const marginMs = 1e-6;

/**
 * What a device that knew the trace, all frames and all noise could have got: dynamic programming over the frames, with
 * the times at which device, link and receiver are free as the state. A frame sent must be answered in time: what is
 * late is of no use, and only in the way. A state that is worse than another in everything is dropped, which loses
 * nothing, because starting earlier never ends later; of more than `maxStates` the best of each cell of a grid are kept,
 * the finest grid that leaves so many.
 */
export function planOracle(scenario: Scenario, { maxStates = 64 }: OracleOptions = {}): OracleSchedule {
  const { workload, trace, deadlineMs, intervalMs, numFrames, deviceNoise, cloudNoise } = scenario;
  const { options } = workload;
  const { delayMs } = trace;
  const useful = usefulOptions(workload);
  let states: State[] = [{ deviceMs: 0, linkMs: 0, cloudMs: 0, quality: 0, from: undefined, option: -1 }];
  for (let index = 0; index < numFrames; index++) {
    const capturedMs = index * intervalMs;
    const nextMs = capturedMs + intervalMs;
    const limitMs = capturedMs + deadlineMs - marginMs;
    const picture = index % workload.numPictures;
    const [slow, cloudSlow] = [deviceNoise[index] ?? 1, cloudNoise[index] ?? 1];
    const reached: State[] = [];
    for (const state of states) {
      reached.push({ ...state, from: state, option: -1 });
      // A newer frame would have taken its place.
      if (index + 1 < numFrames && state.deviceMs >= nextMs) continue;
      const startMs = Math.max(state.deviceMs, capturedMs);
      for (const at of useful[picture]!) {
        const { plan, deviceMs, encodeMs, decodeMs, cloudMs, quality, wireBytes } = options[at]!;
        const doneMs = startMs + slow * (deviceMs + encodeMs);
        const next = {
          ...state,
          deviceMs: doneMs,
          quality: state.quality + quality,
          from: state,
          option: at,
        };
        if (plan.kind === 'local') {
          if (doneMs <= limitMs) reached.push(next);
          continue;
        }
        const serviceMs = cloudSlow * decodeMs + cloudSlow * cloudMs;
        const sendMs = Math.max(doneMs, state.linkMs);
        if (Math.max(sendMs + delayMs, state.cloudMs) + serviceMs + delayMs > limitMs) continue;
        next.linkMs = trace.finishMs(sendMs, wireBytes[picture]!);
        next.cloudMs = Math.max(next.linkMs + delayMs, state.cloudMs) + serviceMs;
        if (next.cloudMs + delayMs <= limitMs) reached.push(next);
      }
    }
    // Before the next frame comes nobody is needed, so that being free earlier is worth nothing.
    for (const state of reached) {
      state.deviceMs = Math.max(state.deviceMs, nextMs);
      state.linkMs = Math.max(state.linkMs, nextMs);
      state.cloudMs = Math.max(state.cloudMs, nextMs + delayMs);
    }
    states = thin(withoutDominated(reached), maxStates, deadlineMs);
  }
  const best = states.reduce((a, b) => (b.quality > a.quality ? b : a));
  const plans: (Plan | undefined)[] = [];
  for (let state: State | undefined = best; state?.from !== undefined; state = state.from) {
    plans.push(options[state.option]?.plan);
  }
  return { plans: plans.reverse(), quality: best.quality };
}

/** The oracle as a policy: its schedule, met again in the simulation. */
export function oraclePolicy(scenario: Scenario, options?: OracleOptions): PolicyFactory {
  return scheduledPolicy('oracle', planOracle(scenario, options).plans);
}

/** For each picture the options that no other beats in time on the device, bytes, time in the cloud and quality. */
function usefulOptions({ options, numPictures }: Workload): number[][] {
  const beats = (a: PlanOption, b: PlanOption, picture: number): boolean =>
    a.quality >= b.quality &&
    a.deviceMs + a.encodeMs <= b.deviceMs + b.encodeMs &&
    a.decodeMs + a.cloudMs <= b.decodeMs + b.cloudMs &&
    (a.wireBytes[picture] ?? 0) <= (b.wireBytes[picture] ?? 0);
  return Array.from({ length: numPictures }, (_, picture) =>
    [...options.keys()].filter((at) => {
      const one = options[at]!;
      if (one.quality === 0) return false;
      return !options.some(
        (other, otherAt) =>
          otherAt !== at &&
          beats(other, one, picture) &&
          // Of equals the first stays.
          (otherAt < at || !beats(one, other, picture)),
      );
    }),
  );
}

function withoutDominated(states: State[]): State[] {
  states.sort((a, b) => b.quality - a.quality || a.linkMs - b.linkMs || a.deviceMs - b.deviceMs);
  const kept: State[] = [];
  for (const state of states) {
    let isBeaten = false;
    for (const other of kept) {
      if (
        other.linkMs <= state.linkMs &&
        other.deviceMs <= state.deviceMs &&
        other.cloudMs <= state.cloudMs
      ) {
        isBeaten = true;
        break;
      }
    }
    if (!isBeaten) kept.push(state);
  }
  return kept;
}

/** The best state of each cell of a grid over the times, which begins fine and is made coarser until few are left. */
function thin(states: State[], maxStates: number, deadlineMs: number): State[] {
  let kept = states;
  for (let cellMs = deadlineMs / 1024; kept.length > maxStates; cellMs *= 2) {
    const cells = new Map<string, State>();
    for (const state of kept) {
      const key = [state.deviceMs, state.linkMs, state.cloudMs].map((ms) => Math.floor(ms / cellMs)).join();
      // They come sorted by quality, so the first of a cell is its best.
      if (!cells.has(key)) cells.set(key, state);
    }
    kept = [...cells.values()];
  }
  return kept;
}
