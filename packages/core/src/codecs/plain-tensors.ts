import { IsthmusError } from '../errors.js';
import type { CodecEntry, CutTensor } from '../manifest.js';
import { type NamedTensors, type Tensor, tensorBytes, tensorFromBytes } from '../tensor.js';
import { corrupt } from './codec.js';

/** Tensors that travel as they are, one after the other. */
export type PlainTensor = Pick<CutTensor, 'name' | 'type' | 'shape'>;

export function plainBytes(tensors: readonly PlainTensor[]): number {
  return tensors.reduce((sum, { type, shape }) => sum + tensorBytes(type, shape), 0);
}

/** @throws IsthmusError `codec/corrupt` unless there are exactly as many bytes as the tensors take */
export function decodePlain(
  entry: CodecEntry,
  bytes: Uint8Array,
  tensors: readonly PlainTensor[],
): NamedTensors {
  const expected = plainBytes(tensors);
  if (bytes.byteLength !== expected) {
    throw corrupt(entry, `it has ${bytes.byteLength} plain bytes, not ${expected}`);
  }
  let offset = 0;
  return Object.fromEntries(
    tensors.map(({ name, type, shape }) => {
      const numBytes = tensorBytes(type, shape);
      const tensor = tensorFromBytes(type, shape, bytes.subarray(offset, offset + numBytes));
      offset += numBytes;
      return [name, tensor];
    }),
  );
}

/**
 * The largest magnitude of a tensor.
 *
 * @param advice What to do about numbers that are none.
 * @throws IsthmusError `tensor/not-finite`
 */
export function magnitudeOf({ data }: Tensor<'float32'>, name: string, advice: string): number {
  let largest = 0;
  let sum = 0;
  for (let i = 0; i < data.length; i++) {
    const magnitude = Math.abs(data[i]!);
    // NaN and infinity stay in a sum, though not in a maximum.
    sum += magnitude;
    if (magnitude > largest) largest = magnitude;
  }
  if (!Number.isFinite(sum)) {
    throw new IsthmusError('tensor/not-finite', `${name} holds NaN or infinity; ${advice}`);
  }
  return largest;
}
