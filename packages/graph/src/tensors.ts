import { create } from '@bufbuild/protobuf';
import {
  elementCount,
  IsthmusError,
  type Tensor,
  type TensorDataByType,
  type TensorType,
  tensorFromBytes,
  tensorToBytes,
} from '@isthmus/core';
import {
  TensorProto_DataType as T,
  type TensorProto,
  TensorProto_DataLocation,
  TensorProtoSchema,
} from './onnx_pb.js';

const onnxTypes: Readonly<Record<TensorType, T>> = {
  float32: T.FLOAT,
  float16: T.FLOAT16,
  int64: T.INT64,
  int32: T.INT32,
  int8: T.INT8,
  uint8: T.UINT8,
  bool: T.BOOL,
};

const tensorTypesByOnnx: ReadonlyMap<number, TensorType> = new Map(
  (Object.entries(onnxTypes) as [TensorType, T][]).map(([type, onnx]) => [onnx, type]),
);

// Bytes per element in raw_data; strings have none, and types narrower than a byte are left to the runtime.
const elementBytes: ReadonlyMap<number, number> = new Map([
  [T.FLOAT, 4],
  [T.UINT8, 1],
  [T.INT8, 1],
  [T.UINT16, 2],
  [T.INT16, 2],
  [T.INT32, 4],
  [T.INT64, 8],
  [T.BOOL, 1],
  [T.FLOAT16, 2],
  [T.DOUBLE, 8],
  [T.UINT32, 4],
  [T.UINT64, 8],
  [T.COMPLEX64, 8],
  [T.COMPLEX128, 16],
  [T.BFLOAT16, 2],
]);

/** The ONNX element type (`TensorProto.DataType`) of a tensor type. */
export function toOnnxType(type: TensorType): number {
  return onnxTypes[type];
}

/** The tensor type of an ONNX element type; undefined for those that cannot cross a cut, such as strings. */
export function fromOnnxType(onnxType: number): TensorType | undefined {
  return tensorTypesByOnnx.get(onnxType);
}

/** The name of an ONNX element type for messages, as in `DOUBLE`. */
export function onnxTypeName(onnxType: number): string {
  return T[onnxType] ?? `type ${onnxType}`;
}

/**
 * The sizes of a stored tensor.
 *
 * @throws IsthmusError `model/invalid` if a size is negative or absurd.
 */
export function tensorShape(proto: TensorProto): number[] {
  const shape = proto.dims.map(Number);
  if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0) || elementCount(shape) > 2 ** 40) {
    throw new IsthmusError('model/invalid', `Tensor ${proto.name || '(unnamed)'} has the shape [${shape}].`);
  }
  return shape;
}

/** Bytes that a stored tensor's elements take; 0 for strings and types whose size is not known. */
export function storedBytes(proto: TensorProto): number {
  return elementCount(tensorShape(proto)) * (elementBytes.get(proto.dataType) ?? 0);
}

/** Whether the elements lie in another file; {@link readModel} replaces such tensors with ones that hold them. */
export function isExternal(proto: TensorProto): boolean {
  return proto.dataLocation === TensorProto_DataLocation.EXTERNAL;
}

/**
 * Checks that a tensor holds as many elements as its shape says, so that a truncated weight is found while
 * reading and not by the runtime.
 *
 * @throws IsthmusError `model/invalid`
 */
export function checkStoredTensor(proto: TensorProto): void {
  const numElements = elementCount(tensorShape(proto));
  const perElement = elementBytes.get(proto.dataType);
  if (perElement === undefined || isExternal(proto)) return;
  const { actual, expected } =
    proto.rawData.byteLength > 0
      ? { actual: proto.rawData.byteLength, expected: numElements * perElement }
      : { actual: typedData(proto).length, expected: numElements * typedDataPerElement(proto.dataType) };
  if (actual !== expected) {
    throw new IsthmusError(
      'model/invalid',
      `Tensor ${proto.name || '(unnamed)'} of shape [${proto.dims}] holds ${actual} values where ${expected} belong. ` +
        'The file is damaged; get it again.',
      { details: { tensor: proto.name, actual, expected } },
    );
  }
}

/**
 * The tensor in a `TensorProto`, whether its elements are in `raw_data` or in a typed field. Copies.
 *
 * @throws IsthmusError `model/unsupported` for element types that Isthmus does not compute with;
 * `model/invalid` if the number of elements does not fit.
 */
export function readTensor(proto: TensorProto): Tensor {
  const type = fromOnnxType(proto.dataType);
  if (type === undefined) {
    throw new IsthmusError(
      'model/unsupported',
      `Tensor ${proto.name} holds ${onnxTypeName(proto.dataType)}, which cannot be read here.`,
    );
  }
  checkStoredTensor(proto);
  const shape = tensorShape(proto);
  if (proto.rawData.byteLength > 0) return tensorFromBytes(type, shape, proto.rawData);
  switch (type) {
    case 'float32':
      return { type, shape, data: Float32Array.from(proto.floatData) };
    case 'int64':
      return { type, shape, data: BigInt64Array.from(proto.int64Data) };
    case 'int32':
      return { type, shape, data: Int32Array.from(proto.int32Data) };
    case 'float16':
      return { type, shape, data: Uint16Array.from(proto.int32Data) };
    case 'int8':
      return { type, shape, data: Int8Array.from(proto.int32Data) };
    case 'uint8':
    case 'bool':
      return { type, shape, data: Uint8Array.from(proto.int32Data) };
  }
}

/** The elements of an integer tensor as numbers; undefined if it is not of an integer type. */
export function readIntegers(proto: TensorProto): number[] | undefined {
  if (proto.dataType !== T.INT64 && proto.dataType !== T.INT32) return undefined;
  return Array.from(readTensor(proto).data as BigInt64Array | Int32Array, Number);
}

/** A `TensorProto` holding the tensor in `raw_data`, without copying it. */
export function tensorProto(name: string, tensor: Tensor): TensorProto {
  return create(TensorProtoSchema, {
    name,
    dims: tensor.shape.map(BigInt),
    dataType: toOnnxType(tensor.type),
    rawData: tensorToBytes(tensor),
  });
}

/** A one-dimensional int64 tensor: shapes, axes and the like. */
export function int64Tensor(values: readonly number[]): Tensor<'int64'> {
  return { type: 'int64', shape: [values.length], data: BigInt64Array.from(values, BigInt) };
}

/** A one-dimensional float32 tensor, or one of the given shape. */
export function float32Tensor(
  values: Iterable<number> & { readonly length: number },
  shape: readonly number[] = [values.length],
): Tensor<'float32'> {
  return { type: 'float32', shape, data: Float32Array.from(values) as TensorDataByType['float32'] };
}

// Where the elements are when they are not in raw_data (onnx.proto, TensorProto).
function typedData(proto: TensorProto): readonly unknown[] {
  switch (proto.dataType) {
    case T.FLOAT:
    case T.COMPLEX64:
      return proto.floatData;
    case T.DOUBLE:
    case T.COMPLEX128:
      return proto.doubleData;
    case T.INT64:
      return proto.int64Data;
    case T.UINT32:
    case T.UINT64:
      return proto.uint64Data;
    default:
      return proto.int32Data;
  }
}

function typedDataPerElement(onnxType: number): number {
  return onnxType === T.COMPLEX64 || onnxType === T.COMPLEX128 ? 2 : 1;
}
