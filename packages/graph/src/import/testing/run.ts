import { elementCount } from '@isthmus/core';
import * as ort from 'onnxruntime-node';
import type { ModelProto } from '../../onnx_pb.js';
import { writeModel } from '../../write.js';

/** What ONNX Runtime answers when every input holds `data`; outputs by name. */
export async function runModel(
  model: ModelProto,
  data: Float32Array,
): Promise<Record<string, { shape: readonly number[]; data: number[] }>> {
  const session = await ort.InferenceSession.create(writeModel(model), { intraOpNumThreads: 1 });
  try {
    const feeds: Record<string, ort.Tensor> = {};
    for (const input of model.graph!.input) {
      const type = input.type!.value;
      const dims = type.case === 'tensorType' ? type.value.shape!.dim : [];
      const shape = dims.map((dim) => Number(dim.value.value));
      feeds[input.name] = new ort.Tensor('float32', data.slice(0, elementCount(shape)), shape);
    }
    const outputs = await session.run(feeds);
    return Object.fromEntries(
      Object.entries(outputs).map(([name, tensor]) => [
        name,
        { shape: tensor.dims, data: Array.from(tensor.data as Float32Array) },
      ]),
    );
  } finally {
    await session.release();
  }
}

/** How often each operator occurs. */
export function countOperators(model: ModelProto): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { opType } of model.graph!.node) counts[opType] = (counts[opType] ?? 0) + 1;
  return counts;
}
