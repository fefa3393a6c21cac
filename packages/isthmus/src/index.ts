export { type BundleContents, readManifest, writeBundle } from './bundle-folder.js';
export { type CliContext, type ExitCode, main } from './cli.js';
export { type Photo, pullPhotos, readPhotos } from './demo/photos.js';
export type { AnsweredFrame } from './link-bench/machine-times.js';
export { type OpenTracesOptions, openTraces } from './link-bench/open-traces.js';
export { type ReplayedFrame, type ReplayOptions, type ReplayResult, replay } from './link-bench/replay.js';
export type { RunMetrics } from './link-bench/result.js';
export type { Pause } from './link-bench/scenario.js';
export {
  createLinkTrace,
  type LinkTrace,
  type LinkTraceOptions,
  type TraceSegment,
} from './link-bench/trace.js';
export type { LiveLine, LiveOutcome } from './live/live-line.js';
export { type LiveSummary, summarizeLive } from './live/live-summary.js';
export { type LiveOptions, runLive } from './live/run-live.js';
export { type ShapedReceiver, shapeReceiver } from './live/shape-receiver.js';
export { pullModel } from './pull/pull-model.js';
export type { PulledModel, PullOptions, PullProgress } from './pull/pull-options.js';
export { pullPackageFiles } from './pull/pull-package-files.js';
export { type FrameSet, type FrameTrial, parseFrameSet } from './rd/frame-set.js';
export {
  createShaper,
  followTrace,
  type LinkSchedule,
  type LinkShape,
  type Shaper,
  type ShaperOptions,
} from './shaper.js';
