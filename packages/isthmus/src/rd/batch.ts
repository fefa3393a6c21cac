import {
  type CutTensor,
  createTensor,
  type NamedTensors,
  type Tensor,
  type TensorDataByType,
} from '@isthmus/core';

/** Frames as one batch: batched tensors one after the other, of the rest the first frame's. */
export function stackFrames(frames: readonly NamedTensors[], tensors: readonly CutTensor[]): NamedTensors {
  if (frames.length === 1) return frames[0]!;
  return Object.fromEntries(
    tensors.map(({ name, batched }) => {
      const parts = frames.map((frame) => frame[name]!);
      return [name, batched ? concatenate(parts) : parts[0]!];
    }),
  );
}

/** The frames of a batch, as views. */
export function unstackFrames(
  batch: NamedTensors,
  tensors: readonly CutTensor[],
  numFrames: number,
): NamedTensors[] {
  return Array.from({ length: numFrames }, (_, frame) =>
    Object.fromEntries(
      tensors.map(({ name, batched }) => {
        const { type, shape, data } = batch[name]!;
        if (!batched) return [name, { type, shape, data }];
        const length = data.length / numFrames;
        return [name, createTensor(type, [1, ...shape.slice(1)], slice(data, frame * length, length))];
      }),
    ),
  );
}

function concatenate(parts: readonly Tensor[]): Tensor {
  const { type, shape, data } = parts[0]!;
  const Data = data.constructor as new (length: number) => TensorDataByType['float32'];
  const all = new Data(parts.length * data.length);
  parts.forEach((part, index) => {
    all.set(part.data as Float32Array, index * data.length);
  });
  return createTensor(type, [parts.length, ...shape.slice(1)], all);
}

function slice<Data extends Tensor['data']>(data: Data, start: number, length: number): Data {
  return data.subarray(start, start + length) as Data;
}
