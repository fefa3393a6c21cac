import { type ModelProto, TensorProto_DataLocation } from '../onnx_pb.js';
import { graphTensors } from '../read.js';

/** Moves every weight of a model to the file `name`, and returns that file's bytes. */
export function externalize(model: ModelProto, name: string): Uint8Array {
  const parts: Uint8Array[] = [];
  let offset = 0;
  for (const tensor of graphTensors(model.graph!)) {
    const bytes = tensor.rawData;
    tensor.rawData = new Uint8Array();
    tensor.dataLocation = TensorProto_DataLocation.EXTERNAL;
    tensor.externalData = Object.entries({ location: name, offset, length: bytes.byteLength }).map(
      ([key, value]) => ({ $typeName: 'onnx.StringStringEntryProto', key, value: String(value) }),
    );
    parts.push(bytes);
    offset += bytes.byteLength;
  }
  return Buffer.concat(parts);
}
