import type { NamedTensors, TensorData } from '@isthmus/core';
import { type ModelProto, writeModel } from '@isthmus/graph';
import { InferenceSession, Tensor } from 'onnxruntime-node';

type Outputs = Readonly<Record<string, Float32Array>>;

/** A model, loaded; its float32 outputs by name. */
export async function loadModel(model: ModelProto): Promise<(feeds: NamedTensors) => Promise<Outputs>> {
  const session = await InferenceSession.create(writeModel(model), {
    intraOpNumThreads: 1,
    logSeverityLevel: 4,
  });
  return async (feeds) => {
    const values = session.inputNames.map((name) => {
      const tensor = feeds[name];
      if (tensor === undefined) throw new Error(`The test does not feed ${name}.`);
      return [
        name,
        new Tensor(tensor.type, tensor.data as Exclude<TensorData, Uint16Array>, [...tensor.shape]),
      ];
    });
    const results = await session.run(Object.fromEntries(values));
    return Object.fromEntries(
      Object.entries(results).map(([name, value]) => [name, value.data as Float32Array]),
    );
  };
}
