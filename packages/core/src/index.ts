export { base64ToBytes, bytesToBase64, concatBytes, sha256Hex } from './bytes.js';
export { type Clock, createManualClock, type ManualClock, systemClock } from './clock.js';
export {
  type ErrorCode,
  IsthmusError,
  type IsthmusErrorOptions,
  isIsthmusError,
  toIsthmusError,
} from './errors.js';
export {
  type CodecEntry,
  type CodecLevel,
  type Cut,
  type CutTensor,
  type FileRef,
  formatManifest,
  getCut,
  type Manifest,
  manifestLimits,
  type Preprocess,
  type Provenance,
  parseManifest,
  type Segment,
  type SegmentProfile,
  type Task,
} from './manifest.js';
export type { RunResult, Runtime, RuntimeSession } from './runtime.js';
export { composeSpan, describeSpan, type Span } from './span.js';
export {
  createTensor,
  elementCount,
  type NamedTensors,
  type Tensor,
  type TensorData,
  type TensorDataByType,
  type TensorType,
  tensorBytes,
  tensorFromBytes,
  tensorToBytes,
  tensorTypes,
} from './tensor.js';
