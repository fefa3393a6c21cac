import { createRandom, normal } from './random.js';
import type { LinkTrace } from './trace.js';
import type { Workload } from './workload.js';

/** A time in which a process did nothing else, or was not given the processor. */
export interface Pause {
  fromMs: number;
  toMs: number;
}

/** Everything of a run but the policy: the same for all of them. */
export interface Scenario {
  workload: Workload;
  trace: LinkTrace;
  /** From capture to answer. */
  deadlineMs: number;
  intervalMs: number;
  numFrames: number;
  /** What each frame takes on the device, and in the cloud, over what is expected. */
  deviceNoise: Float64Array;
  cloudNoise: Float64Array;
  /** From the capture of each frame until the device may begin: reading the picture. @default 0 */
  prepareMs?: Float64Array;
  /** What each packet waits at the receiver beside others: the way into its worker and back. @default 0 */
  cloudWaitMs?: Float64Array;
  /** When the device's event loop was held up, and with it a shaped link in its process. @default never */
  pauses?: readonly Pause[];
  /** Bytes that the device's socket and what follows it hold, and that cannot be taken back. @default 65_536 */
  windowBytes?: number;
}

export interface ScenarioOptions {
  workload: Workload;
  trace: LinkTrace;
  deadlineMs: number;
  framesPerSecond: number;
  /** @default the trace's */
  durationMs?: number | undefined;
  seed: number;
}

// Of the logarithm: a processor that does little else.
const noiseDeviation = 0.04;

/** A camera in front of a link. The noise is drawn by frame, so that every policy meets the same. */
export function createScenario(options: ScenarioOptions): Scenario {
  const { workload, trace, deadlineMs, framesPerSecond, seed } = options;
  const intervalMs = 1000 / framesPerSecond;
  const numFrames = Math.max(1, Math.floor((options.durationMs ?? trace.durationMs) / intervalMs));
  const random = createRandom(seed);
  const noise = (): Float64Array =>
    Float64Array.from({ length: numFrames }, () => Math.exp(noiseDeviation * normal(random)));
  return {
    workload,
    trace,
    deadlineMs,
    intervalMs,
    numFrames,
    deviceNoise: noise(),
    cloudNoise: noise(),
  };
}
