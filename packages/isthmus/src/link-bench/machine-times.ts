import type { Plan, SplitPlan } from '@isthmus/planner';
import type { PlanOption, Workload } from './workload.js';

/** A frame that was answered by a live session: what of `FrameResult` a simulation needs. */
export interface AnsweredFrame {
  /** Which frame of the camera. */
  frame: number;
  plan: Plan;
  /** Milliseconds, as `FrameResult.timing`. */
  timing: { deviceMs: number; encodeMs: number; queueMs: number; decodeMs: number; cloudMs: number };
}

/** What a live session's machines took, for the simulation to take the same. */
export interface MachineTimes {
  /** With the options' times as measured; those of plans that were not used, by the factor of what was. */
  workload: Workload;
  /** What each packet waited at the receiver. */
  cloudWaitMs: Float64Array;
  /** Times of each frame over the median of its plan. */
  deviceNoise: Float64Array;
  cloudNoise: Float64Array;
}

/**
 * Medians of what answered frames took, and how each differed; a frame without an answer is taken to have differed as the
 * nearest with one.
 *
 * @param workload Made without any slowdown.
 */
export function measureMachines(
  workload: Workload,
  frames: readonly AnsweredFrame[],
  numFrames: number,
): MachineTimes {
  const split = frames.filter(
    (frame): frame is AnsweredFrame & { plan: SplitPlan } => frame.plan.kind === 'split',
  );
  const optionOf = (plan: Plan): PlanOption | undefined => workload.options[workload.indexOf(plan) ?? -1];
  const known = split.flatMap(({ plan, timing }) => {
    const option = optionOf(plan);
    return option === undefined ? [] : [{ option, plan, timing }];
  });
  type Stage = 'deviceMs' | 'encodeMs' | 'decodeMs' | 'cloudMs';
  // By plan, else by cut and codec, else by whatever ran: times over those of the profile.
  const factorOf = (stage: Stage): ((option: PlanOption) => number) => {
    const samples = known.filter(({ option }) => option[stage] > leastMs);
    const ratios = (isLike: (option: PlanOption) => boolean): number | undefined =>
      median(
        samples
          .filter(({ option }) => isLike(option))
          .map(({ option, timing }) => timing[stage] / option[stage]),
      );
    const overall = ratios(() => true) ?? 1;
    return (option) =>
      ratios((other) => other === option) ?? ratios((other) => isAlike(stage, other, option)) ?? overall;
  };
  const factors = {
    deviceMs: factorOf('deviceMs'),
    encodeMs: factorOf('encodeMs'),
    decodeMs: factorOf('decodeMs'),
    cloudMs: factorOf('cloudMs'),
  };
  const options = workload.options.map((option) => ({
    ...option,
    deviceMs: option.deviceMs * factors.deviceMs(option),
    encodeMs: option.encodeMs * factors.encodeMs(option),
    decodeMs: option.decodeMs * factors.decodeMs(option),
    cloudMs: option.cloudMs * factors.cloudMs(option),
  }));
  const noise = (first: Stage, second: Stage): Float64Array =>
    fillGaps(
      numFrames,
      split.flatMap(({ frame, plan, timing }) => {
        const option = options[workload.indexOf(plan) ?? -1];
        const expectedMs = option === undefined ? 0 : option[first] + option[second];
        return expectedMs > leastMs ? [{ frame, value: (timing[first] + timing[second]) / expectedMs }] : [];
      }),
      1,
    );
  return {
    workload: { ...workload, options },
    cloudWaitMs: fillGaps(
      numFrames,
      split.map(({ frame, timing }) => ({ frame, value: timing.queueMs })),
      0,
    ),
    deviceNoise: noise('deviceMs', 'encodeMs'),
    cloudNoise: noise('decodeMs', 'cloudMs'),
  };
}

/** A value for every frame: its own, or that of the nearest frame that has one. */
export function fillGaps(
  numFrames: number,
  known: readonly { frame: number; value: number }[],
  none: number,
): Float64Array {
  const sorted = [...known].sort((a, b) => a.frame - b.frame);
  let at = 0;
  return Float64Array.from({ length: numFrames }, (_, frame) => {
    const distance = (index: number): number => Math.abs((sorted[index]?.frame ?? Infinity) - frame);
    while (at + 1 < sorted.length && distance(at + 1) <= distance(at)) at++;
    return sorted[at]?.value ?? none;
  });
}

// Milliseconds shorter than this are mostly of the timer and the scheduler.
const leastMs = 0.05;

function isAlike(
  stage: 'deviceMs' | 'encodeMs' | 'decodeMs' | 'cloudMs',
  a: PlanOption,
  b: PlanOption,
): boolean {
  if (a.plan.kind === 'local' || b.plan.kind === 'local') return a.deviceCut === b.deviceCut;
  if (stage === 'deviceMs') return a.plan.from === b.plan.from;
  if (stage === 'cloudMs') return a.plan.to === b.plan.to;
  return a.plan.codec === b.plan.codec && a.plan.from === b.plan.from;
}

function median(values: readonly number[]): number | undefined {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}
