export { base64ToBytes, bytesToBase64, concatBytes, sha256Hex } from './bytes.js';
export { type Clock, createManualClock, type ManualClock, systemClock } from './clock.js';
export { adaptedFiles, createAdaptedCodec } from './codecs/adapted.js';
export { builtinCodecs, builtinEncoders } from './codecs/builtin.js';
export { PlaneContexts } from './codecs/calibrated/contexts.js';
export * as calibratedModel from './codecs/calibrated/model.js';
export {
  type CalibratedTables,
  type CalibratedTensor,
  formatCalibratedTables,
  parseCalibratedTables,
} from './codecs/calibrated/model.js';
export { coderTables, PlaneDecoder, PlaneEncoder, type SymbolSequence } from './codecs/calibrated/planes.js';
export { calibratedCodec, calibratedFiles } from './codecs/calibrated.js';
export {
  type CodecContext,
  type CodecKind,
  type CodecPath,
  type Decoder,
  type DecodeWatch,
  type Encoder,
  type EncoderKind,
  findCodecKind,
  getLevel,
} from './codecs/codec.js';
export { codecBytes } from './codecs/codec-memory.js';
export {
  formatTunedSegments,
  type TunedSegments,
  type TunedTensor,
} from './codecs/format-tuned-segments.js';
export { learnedCodec, learnedFiles, learnedTensors, tunedLearnedCodec } from './codecs/learned.js';
export { createPictureCodecs, createPictureEncoders } from './codecs/picture-codecs.js';
export type { PictureCoder, PictureEncoder } from './codecs/picture-frame.js';
export { type PictureFormat, type PictureSize, pictureFormats } from './codecs/picture-header.js';
export { createPixelsCodec } from './codecs/pixels.js';
export { type PackedSegments, parseTunedSegments } from './codecs/tuned-segments.js';
export { AdaptiveDecoder } from './entropy/adaptive-decoder.js';
export { AdaptiveEncoder } from './entropy/adaptive-encoder.js';
export { symbolContexts, valueContexts } from './entropy/adaptive-model.js';
export { type FamilyOptions, type FamilyShape, familyTables, geometricScales } from './entropy/families.js';
export { decodeRans, encodeRans, maxRansBytes } from './entropy/rans.js';
export { RansDecoder } from './entropy/rans-decoder.js';
export { RansEncoder, type TableChoices } from './entropy/rans-encoder.js';
export {
  prepareDecoding,
  prepareEncoding,
  type RansDecodingTables,
  type RansEncodingTables,
} from './entropy/rans-tables.js';
export { formatTables, parseTables, tablesSha256 } from './entropy/table-file.js';
export {
  chooseTable,
  countValues,
  type FrequencyTable,
  listedValues,
  type TableFromCountsOptions,
  tableCost,
  tableFromCounts,
  tableLimits,
  trimCounts,
  type ValueCounts,
} from './entropy/tables.js';
export {
  type ErrorCode,
  IsthmusError,
  type IsthmusErrorOptions,
  isIsthmusError,
  toIsthmusError,
} from './errors.js';
export { float16ToFloat32, float32ToFloat16 } from './float16.js';
export { describeGeometry, type FrameGeometry } from './geometry.js';
export {
  type Detection,
  type Interpretation,
  type InterpretOptions,
  interpret,
  type ScoredClass,
} from './interpret.js';
export {
  type CodecEntry,
  type CodecLevel,
  type Cut,
  type CutTensor,
  type FileRef,
  formatManifest,
  getCut,
  type Manifest,
  type MeasuredLevel,
  manifestLimits,
  type Preprocess,
  type Provenance,
  parseManifest,
  type Segment,
  type SegmentProfile,
  type Task,
} from './manifest.js';
export {
  createPreprocessor,
  type Preprocessor,
  paddingValue,
  preprocessImage,
  type RawImage,
} from './preprocess.js';
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
export {
  type AssembledPacket,
  type AssemblerEvent,
  type AssemblerOptions,
  PacketAssembler,
} from './wire/assembler.js';
export { type Chunk, ChunkScheduler, decodeChunk } from './wire/chunk.js';
export {
  type ChunkKind,
  chunkHeaderBytes,
  closeCodeFor,
  defaultMaxResultBytes,
  maxChunkBytes,
  maxControlBytes,
  messageKind,
  protocolVersions,
  requestHeaderBytes,
  resultHeaderBytes,
} from './wire/constants.js';
export { crc32 } from './wire/crc32.js';
export {
  type AcceptMessage,
  type ArrivedMessage,
  type CancelMessage,
  type ConnectionLimits,
  type ControlMessage,
  decodeControl,
  type ErrorMessage,
  encodeControl,
  type GoodbyeMessage,
  type HelloMessage,
  negotiateVersion,
  type PingMessage,
  type PongMessage,
  type ReceiptMessage,
} from './wire/messages.js';
export {
  checkCrc,
  decodeRequestHeader,
  decodeResultHeader,
  decodeResultPacket,
  encodeRequestPacket,
  encodeResultPacket,
  type RequestHeader,
  type ResultHeader,
} from './wire/packet.js';
