import { IsthmusError } from './errors.js';

/** Element types that may cross a cut. Names are those of ONNX Runtime's JavaScript API. */
export const tensorTypes = ['float32', 'float16', 'int64', 'int32', 'int8', 'uint8', 'bool'] as const;
export type TensorType = (typeof tensorTypes)[number];

/** The typed array behind each {@link TensorType}; float16 is kept as its 16-bit patterns. */
export interface TensorDataByType {
  float32: Float32Array;
  float16: Uint16Array;
  int64: BigInt64Array;
  int32: Int32Array;
  int8: Int8Array;
  uint8: Uint8Array;
  bool: Uint8Array;
}
export type TensorData = TensorDataByType[TensorType];

/**
 * A dense tensor in row-major order. `data.length` is the product of `shape`. Images are NCHW.
 * A plain object, so that it survives `postMessage`.
 */
export interface Tensor<T extends TensorType = TensorType> {
  readonly type: T;
  readonly shape: readonly number[];
  readonly data: TensorDataByType[T];
}

/** Tensors by name: what a span takes and gives. */
export type NamedTensors = Readonly<Record<string, Tensor>>;

const bytesPerElement: Readonly<Record<TensorType, number>> = {
  float32: 4,
  float16: 2,
  int64: 8,
  int32: 4,
  int8: 1,
  uint8: 1,
  bool: 1,
};

const arrayTypes: { readonly [T in TensorType]: new (length: number) => TensorDataByType[T] } = {
  float32: Float32Array,
  float16: Uint16Array,
  int64: BigInt64Array,
  int32: Int32Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
};

/** Number of elements of a shape; 1 for a scalar. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((count, size) => count * size, 1);
}

/** Number of bytes of a tensor of this type and shape. */
export function tensorBytes(type: TensorType, shape: readonly number[]): number {
  return elementCount(shape) * bytesPerElement[type];
}

/**
 * A checked tensor.
 *
 * @throws IsthmusError `tensor/shape-mismatch` if `data.length` is not the product of `shape`, or a size is
 * not a non-negative integer; `tensor/type-mismatch` if `data` is not the array of `type`.
 *
 * @example
 * ```ts
 * const pixel = createTensor('float32', [1, 3, 1, 1], Float32Array.of(0.1, 0.2, 0.3));
 * ```
 */
export function createTensor<T extends TensorType>(
  type: T,
  shape: readonly number[],
  data: TensorDataByType[T],
): Tensor<T> {
  if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0)) {
    throw new IsthmusError(
      'tensor/shape-mismatch',
      `A shape needs whole, non-negative sizes, not [${shape}].`,
    );
  }
  if (!(data instanceof arrayTypes[type])) {
    throw new IsthmusError(
      'tensor/type-mismatch',
      `A ${type} tensor needs a ${arrayTypes[type].name}, not ${(data as object)?.constructor?.name}.`,
    );
  }
  if (data.length !== elementCount(shape)) {
    throw new IsthmusError(
      'tensor/shape-mismatch',
      `A tensor of shape [${shape}] needs ${elementCount(shape)} elements, not ${data.length}.`,
    );
  }
  return { type, shape, data };
}

/** The bytes of a tensor, without copying. Little-endian on every machine Isthmus runs on. */
export function tensorToBytes(tensor: Tensor): Uint8Array {
  return new Uint8Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
}

/**
 * A tensor from its little-endian bytes; copies, since `bytes` may be unaligned.
 *
 * @throws IsthmusError `tensor/shape-mismatch` if the number of bytes does not fit the shape.
 */
export function tensorFromBytes<T extends TensorType>(
  type: T,
  shape: readonly number[],
  bytes: Uint8Array,
): Tensor<T> {
  if (bytes.byteLength !== tensorBytes(type, shape)) {
    throw new IsthmusError(
      'tensor/shape-mismatch',
      `${type}[${shape}] takes ${tensorBytes(type, shape)} bytes, not ${bytes.byteLength}.`,
    );
  }
  const data = new arrayTypes[type](elementCount(shape));
  new Uint8Array(data.buffer).set(bytes);
  return { type, shape, data };
}
