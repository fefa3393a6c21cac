import { toBinary } from '@bufbuild/protobuf';
import { toIsthmusError } from '@isthmus/core';
import { type ModelProto, ModelProtoSchema } from './onnx_pb.js';

/**
 * The bytes of a model, as in a .onnx file (protobuf, https://onnx.ai/onnx/repo-docs/IR.html).
 *
 * @throws IsthmusError `model/invalid` if a field holds what its type does not allow.
 */
export function writeModel(model: ModelProto): Uint8Array {
  try {
    return toBinary(ModelProtoSchema, model);
  } catch (error) {
    throw toIsthmusError(error, 'model/invalid', 'The model cannot be written');
  }
}
