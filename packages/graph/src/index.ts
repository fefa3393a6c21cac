export {
  type AttributeValue,
  attribute,
  createGraphBuilder,
  type Dimension,
  type GraphBuilder,
  type NodeOptions,
  valueInfo,
} from './build.js';
export type { BuiltCodec } from './build-codec.js';
export { type Bundle, bundleSpan, spanBodies } from './bundle.js';
export {
  type CalibrateOptions,
  type CalibrationProgress,
  calibrateBundle,
} from './calibrate/calibrate.js';
export type { LevelMeasure } from './calibrate/choose-levels.js';
export {
  type CutTransform,
  type CutTransformOptions,
  fitCutTransform,
} from './calibrate/fit-cut-transform.js';
export { heldOutFrames } from './calibrate/held-out.js';
export type { MapLayout } from './calibrate/maps.js';
export { type MeasureOptions, measureLevels } from './calibrate/measure-levels.js';
export { type CalibrationTuning, defaultTuning } from './calibrate/tuning.js';
export { pixelsEntries } from './codec-entries.js';
export { type CutCandidate, type CutOptions, findCuts } from './cuts.js';
export { type FlowGraph, type FlowNode, indexFlow } from './flow.js';
export { firstFrame, seededFrame } from './frames.js';
export { importTfjsLayers, listTfjsFiles } from './import/tfjs.js';
export type { TfjsWeightFiles } from './import/tfjs-weights.js';
export { importTflite } from './import/tflite.js';
export { addCodec, checkCodecId, removeCodec } from './learned/add-codec.js';
export { type ImportAdaptedOptions, importAdapted } from './learned/import-adapted.js';
export { type ImportCodecOptions, type ImportProgress, importCodec } from './learned/import-codec.js';
export type { TunedWeights } from './learned/tuned-weights.js';
export { normalizeModel } from './normalize.js';
export type { GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto } from './onnx_pb.js';
export { graphTensors, modelOpset, oldestOpset, type ReadOptions, readModel } from './read.js';
export { type ChooseOptions, chooseCuts } from './segments.js';
export { inferShapes, resolveInputShapes, type TensorInfo, type TensorInfos } from './shapes.js';
export { type SplitOptions, type SplitProgress, splitModel } from './split.js';
export {
  float32Tensor,
  fromOnnxType,
  int64Tensor,
  readIntegers,
  readTensor,
  tensorProto,
  tensorShape,
  toOnnxType,
} from './tensors.js';
export { type CutReport, type VerifyOptions, verifyBundle } from './verify.js';
export { writeModel } from './write.js';
