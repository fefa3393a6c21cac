export { type BundleContents, readManifest, writeBundle } from './bundle-folder.js';
export { type CliContext, type ExitCode, main } from './cli.js';
export { type Photo, pullPhotos, readPhotos } from './demo/photos.js';
export { pullModel } from './pull/pull-model.js';
export type { PulledModel, PullOptions, PullProgress } from './pull/pull-options.js';
export {
  createShaper,
  followTrace,
  type LinkSchedule,
  type LinkShape,
  type Shaper,
  type ShaperOptions,
} from './shaper.js';
