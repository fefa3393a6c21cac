import { elementCount, IsthmusError } from '@isthmus/core';
import { readRootTable, type Table } from './flatbuffer.js';

/** Element types by their number in schema.fbs. */
const tensorTypes = ['float32', 'float16', 'int32', 'uint8', 'int64', 'string', 'bool', 'int16'] as const;

/** Names of builtin operators by their number in schema.fbs; only those that the importer knows or meets. */
// biome-ignore format: a table
const operatorNames: Readonly<Record<number, string>> = {
  0: 'ADD', 1: 'AVERAGE_POOL_2D', 2: 'CONCATENATION', 3: 'CONV_2D', 4: 'DEPTHWISE_CONV_2D',
  5: 'DEPTH_TO_SPACE', 6: 'DEQUANTIZE', 8: 'FLOOR', 9: 'FULLY_CONNECTED', 11: 'L2_NORMALIZATION',
  13: 'LOCAL_RESPONSE_NORMALIZATION', 14: 'LOGISTIC', 16: 'LSTM', 17: 'MAX_POOL_2D', 18: 'MUL', 19: 'RELU',
  20: 'RELU_N1_TO_1', 21: 'RELU6', 22: 'RESHAPE', 23: 'RESIZE_BILINEAR', 25: 'SOFTMAX',
  26: 'SPACE_TO_DEPTH', 28: 'TANH', 32: 'CUSTOM', 34: 'PAD', 36: 'GATHER', 37: 'BATCH_TO_SPACE_ND',
  38: 'SPACE_TO_BATCH_ND', 39: 'TRANSPOSE', 40: 'MEAN', 41: 'SUB', 42: 'DIV', 43: 'SQUEEZE',
  45: 'STRIDED_SLICE', 47: 'EXP', 48: 'TOPK_V2', 49: 'SPLIT', 50: 'LOG_SOFTMAX', 53: 'CAST', 54: 'PRELU',
  55: 'MAXIMUM', 56: 'ARG_MAX', 57: 'MINIMUM', 59: 'NEG', 60: 'PADV2', 65: 'SLICE', 67: 'TRANSPOSE_CONV',
  70: 'EXPAND_DIMS', 73: 'LOG', 74: 'SUM', 75: 'SQRT', 76: 'RSQRT', 77: 'SHAPE', 78: 'POW',
  82: 'REDUCE_MAX', 83: 'PACK', 88: 'UNPACK', 92: 'SQUARE', 97: 'RESIZE_NEAREST_NEIGHBOR',
  98: 'LEAKY_RELU', 99: 'SQUARED_DIFFERENCE', 100: 'MIRROR_PAD', 101: 'ABS', 111: 'ELU', 114: 'QUANTIZE',
  117: 'HARD_SWISH', 126: 'BATCH_MATMUL', 150: 'GELU',
};

/** A tensor of the file, in its own axis order (NHWC where it is an image). */
export interface TfliteTensor {
  name: string;
  shape: number[];
  type: string;
  /** A view of the file; undefined for what the model computes. */
  data: Uint8Array | undefined;
}

export interface TfliteOperator {
  name: string;
  /** Indices of tensors; −1 for an optional input that is left out. */
  inputs: number[];
  outputs: number[];
  /** The builtin options, by field id of the operator's table in schema.fbs. */
  options: Table | undefined;
}

export interface TfliteModel {
  tensors: TfliteTensor[];
  operators: TfliteOperator[];
  inputs: number[];
  outputs: number[];
}

/**
 * The first subgraph of a TensorFlow Lite file
 * (https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/schema/schema.fbs, version 3).
 *
 * @throws IsthmusError `model/truncated`, `model/invalid`, `model/unsupported`
 */
export function readTfliteFile(bytes: Uint8Array): TfliteModel {
  const model = readRootTable(bytes, 'TFL3');
  const codes = model.tables(1);
  const subgraphs = model.tables(2);
  const buffers = model.tables(4);
  const graph = subgraphs[0];
  if (graph === undefined) throw new IsthmusError('model/invalid', 'The file holds no graph.');
  if (subgraphs.length > 1) {
    throw new IsthmusError(
      'model/unsupported',
      `The file holds ${subgraphs.length} graphs; only one is read.`,
    );
  }
  const tensors = graph.tables(0).map((tensor, index) => readTensor(tensor, index, buffers));
  const checked = (indices: number[], lowest: number): number[] => {
    for (const index of indices) {
      if (index < lowest || index >= tensors.length) {
        throw new IsthmusError('model/invalid', `The graph refers to tensor ${index}, which does not exist.`);
      }
    }
    return indices;
  };
  return {
    tensors,
    inputs: checked(graph.int32s(1), 0),
    outputs: checked(graph.int32s(2), 0),
    operators: graph.tables(3).map((operator, index) => {
      const code = codes[operator.uint32(0)];
      if (code === undefined) {
        throw new IsthmusError(
          'model/invalid',
          `Operator ${index} is of a kind that the file does not list.`,
        );
      }
      return {
        name: operatorName(code),
        inputs: checked(operator.int32s(1), -1),
        outputs: checked(operator.int32s(2), 0),
        options: operator.table(4),
      };
    }),
  };
}

function operatorName(code: Table): string {
  // Codes above 127 do not fit the first, one-byte field; files older than the second have only the first.
  const number = Math.max(code.int8(0), code.int32(3));
  if (number === 32) return `CUSTOM ${code.string(1) ?? ''}`.trim();
  return operatorNames[number] ?? `builtin ${number}`;
}

function readTensor(tensor: Table, index: number, buffers: readonly Table[]): TfliteTensor {
  const name = tensor.string(3) ?? '';
  const shape = tensor.int32s(0);
  const type = tensorTypes[tensor.int8(1)] ?? `type ${tensor.int8(1)}`;
  const buffer = buffers[tensor.uint32(2)];
  if (buffer === undefined) {
    throw new IsthmusError(
      'model/invalid',
      `Tensor ${index} (${name}) refers to a buffer that does not exist.`,
    );
  }
  if (!shape.every((size) => size >= 0) || !Number.isSafeInteger(elementCount(shape))) {
    throw new IsthmusError('model/invalid', `Tensor ${index} (${name}) has the shape [${shape}].`);
  }
  if (tensor.has(6)) {
    throw new IsthmusError(
      'model/unsupported',
      `Tensor ${index} (${name}) is stored sparse. Densify the model.`,
    );
  }
  if (buffer.uint32(1) > 1) {
    throw new IsthmusError(
      'model/unsupported',
      `The data of tensor ${index} (${name}) lies outside the model.`,
    );
  }
  const data = buffer.bytes(0);
  return { name, shape, type, data: data.byteLength === 0 ? undefined : data };
}
