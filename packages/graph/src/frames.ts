import {
  elementCount,
  type Manifest,
  type NamedTensors,
  type Tensor,
  type TensorData,
  type TensorType,
} from '@isthmus/core';
import type { TensorInfo } from './shapes.js';
import { fromOnnxType, toOnnxType } from './tensors.js';

/**
 * Pseudo-random inputs, the same for the same seed: floats in [0, 1), bytes of any value, other integers and
 * booleans 0 or 1, so that they are valid wherever an index or a mask is wanted.
 */
export function seededFrame(inputs: ReadonlyMap<string, TensorInfo>, seed: number): NamedTensors {
  const random = createRandom(seed);
  return Object.fromEntries(
    [...inputs].map(([name, { elementType, shape }]) => [
      name,
      randomTensor(fromOnnxType(elementType as number)!, shape!, random),
    ]),
  );
}

/** A pseudo-random frame for a bundle, the same for the same seed. */
export function firstFrame(manifest: Manifest, seed: number = 1): NamedTensors {
  return seededFrame(
    new Map(
      manifest.cuts[0]!.tensors.map(({ name, type, shape }) => [
        name,
        { elementType: toOnnxType(type), shape },
      ]),
    ),
    seed,
  );
}

function randomTensor(type: TensorType, shape: readonly number[], random: () => number): Tensor {
  const count = elementCount(shape);
  const bit = (): number => Math.floor(random() * 2);
  switch (type) {
    case 'float32':
      return { type, shape, data: Float32Array.from({ length: count }, random) };
    case 'float16':
      // Bit patterns of 0.5 to 1 have the exponent 14; the mantissa is random.
      return {
        type,
        shape,
        data: Uint16Array.from({ length: count }, () => 0x3800 | Math.floor(random() * 1024)),
      };
    case 'int64':
      return { type, shape, data: BigInt64Array.from({ length: count }, () => BigInt(bit())) };
    case 'int32':
      return { type, shape, data: Int32Array.from({ length: count }, bit) };
    case 'int8':
      return { type, shape, data: Int8Array.from({ length: count }, () => random() * 256 - 128) };
    case 'uint8':
      return { type, shape, data: Uint8Array.from({ length: count }, () => random() * 256) };
    case 'bool':
      return { type, shape, data: Uint8Array.from({ length: count }, bit) };
  }
}

// mulberry32 (public domain, Tommy Ettinger): small, seedable, and good enough to tell two frames apart.
function createRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Tensors of equal shape, one behind the other along the first axis. */
export function stackFrames(tensors: readonly Tensor[]): Tensor {
  const first = tensors[0]!;
  const rows = tensors.reduce((sum, { shape }) => sum + (shape[0] ?? 1), 0);
  const length = tensors.reduce((sum, { data }) => sum + data.length, 0);
  const data = new (first.data.constructor as new (length: number) => TensorData)(length);
  let offset = 0;
  for (const tensor of tensors) {
    data.set(tensor.data as Uint8Array & BigInt64Array, offset);
    offset += tensor.data.length;
  }
  return { type: first.type, shape: [rows, ...first.shape.slice(1)], data };
}

/**
 * The largest difference between two tensors' elements, relative to the range of `expected`; 0 where both hold
 * the same infinity or NaN, and Infinity if types, shapes, or the places of those differ.
 */
export function relativeDifference(expected: Tensor, actual: Tensor): number {
  const sameKind =
    expected.type === actual.type &&
    expected.shape.length === actual.shape.length &&
    expected.shape.every((size, axis) => size === actual.shape[axis]);
  if (!sameKind) return Number.POSITIVE_INFINITY;
  const a = toNumbers(expected);
  const b = toNumbers(actual);
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  let largest = 0;
  for (let index = 0; index < a.length; index++) {
    const x = a[index]!;
    const y = b[index]!;
    if (Number.isFinite(x)) {
      low = Math.min(low, x);
      high = Math.max(high, x);
    }
    if (Object.is(x, y) || x === y) continue;
    const difference = Math.abs(x - y);
    if (!Number.isFinite(difference)) return Number.POSITIVE_INFINITY;
    largest = Math.max(largest, difference);
  }
  if (largest === 0) return 0;
  // A constant output has no range; its size then sets the scale.
  const range = high > low ? high - low : Math.abs(high) || 1;
  return largest / range;
}

function toNumbers(tensor: Tensor): ArrayLike<number> {
  if (tensor.type === 'int64') return Float64Array.from(tensor.data as BigInt64Array, Number);
  if (tensor.type === 'float16') return Float32Array.from(tensor.data as Uint16Array, halfToNumber);
  return tensor.data as Float32Array;
}

function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
