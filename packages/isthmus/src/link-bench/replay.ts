import type { Manifest } from '@isthmus/core';
import type { Constraints } from '@isthmus/planner';
import type { FrameSet } from '../rd/frame-set.js';
import { controllerPolicy } from './controller-policy.js';
import { type AnsweredFrame, fillGaps, measureMachines } from './machine-times.js';
import { measureRuns } from './metrics.js';
import type { RunMetrics } from './result.js';
import { createScenario, type Pause } from './scenario.js';
import { type FrameOutcome, simulate } from './simulate.js';
import type { LinkTrace } from './trace.js';
import { createWorkload } from './workload.js';

export interface ReplayOptions {
  manifest: Manifest;
  /** What each picture takes; frame k was picture k modulo their number. @default every frame the mean */
  frameSet?: FrameSet | undefined;
  trace: LinkTrace;
  deadlineMs: number;
  framesPerSecond: number;
  durationMs: number;
  /** As the session's controller has them, but for the deadline. */
  constraints: Constraints;
  /** The frames that the live session answered: they tell how fast its machines are. */
  answered: readonly AnsweredFrame[];
  /** Milliseconds from the capture of frames until their plan was chosen. @default 0 */
  begun?: readonly { frame: number; value: number }[] | undefined;
  /** When the event loop of device and shaper was held up; since the camera began. @default never */
  pauses?: readonly Pause[] | undefined;
  /** Bytes that could not be taken back once they were sent. @default 65_536 */
  windowBytes?: number | undefined;
  seed: number;
}

/** What came of one frame. */
export interface ReplayedFrame extends Pick<FrameOutcome, 'state' | 'latencyMs' | 'wireBytes'> {
  /** As `--plan` takes it; empty where there was none. */
  plan: string;
}

/** What a simulation says came of a camera's frames. */
export interface ReplayResult {
  metrics: RunMetrics;
  frames: ReplayedFrame[];
}

/**
 * Simulates what a live session has been through, with the same controller: the same trace, bundle, pictures and times
 * of the machines. The same for the same seed.
 *
 * @throws IsthmusError `usage/invalid` as `createWorkload`
 */
export function replay(options: ReplayOptions): ReplayResult {
  const { manifest, frameSet, constraints, answered } = options;
  const lastCut = manifest.cuts.length - 1;
  const profiled = createWorkload({
    ...{ manifest, frameSet, deviceSlowdown: 1, cloudSlowdown: 1 },
    maxDeviceCut: constraints.mayRunLocally === true ? lastCut : lastCut - 1,
  });
  const numFrames = Math.floor((options.durationMs * options.framesPerSecond) / 1000);
  const { workload, ...machine } = measureMachines(profiled, answered, numFrames);
  const measured = {
    ...createScenario({ ...options, workload }),
    ...machine,
    prepareMs: fillGaps(numFrames, options.begun ?? [], 0),
    ...(options.pauses !== undefined && { pauses: options.pauses }),
    ...(options.windowBytes !== undefined && { windowBytes: options.windowBytes }),
  };
  const outcome = simulate(measured, controllerPolicy({ constraints }));
  const frames = outcome.frames.map(({ state, option, latencyMs, wireBytes }) => ({
    ...{ state, latencyMs, wireBytes },
    plan: workload.options[option]?.name ?? '',
  }));
  const metrics = measureRuns([{ scenario: measured, outcome }], undefined);
  return { metrics, frames };
}
