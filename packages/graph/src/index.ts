export {
  type AttributeValue,
  attribute,
  createGraphBuilder,
  type Dimension,
  type GraphBuilder,
  type NodeOptions,
  valueInfo,
} from './build.js';
export { importTflite } from './import/tflite.js';
export type { GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto } from './onnx_pb.js';
export { graphTensors, modelOpset, oldestOpset, type ReadOptions, readModel } from './read.js';
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
export { writeModel } from './write.js';
