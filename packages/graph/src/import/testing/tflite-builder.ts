import { Builder } from 'flatbuffers';

/** A field of an operator's options table: its id in schema.fbs and its value. */
export type OptionField =
  | readonly [field: number, type: 'int8' | 'int32' | 'float32', value: number]
  | readonly [field: number, type: 'int32s', value: readonly number[]];

export interface TensorSpec {
  name: string;
  shape: readonly number[];
  /** Floats are stored as float32, integers as int32, halves (given as bit patterns) as float16. */
  data?: Float32Array | Int32Array | Uint16Array | Uint8Array;
  /** TensorType of schema.fbs. @default that of the data, or float32 */
  type?: number;
}

export interface OperatorSpec {
  /** BuiltinOperator of schema.fbs. */
  code: number;
  customCode?: string;
  inputs: readonly number[];
  outputs: readonly number[];
  options?: readonly OptionField[];
}

export interface TfliteSpec {
  tensors: readonly TensorSpec[];
  operators: readonly OperatorSpec[];
  inputs: readonly number[];
  outputs: readonly number[];
}

/** A .tflite file, written with the official builder and the field ids of the public schema. */
export function buildTflite(spec: TfliteSpec): Uint8Array {
  const builder = new Builder(1024);
  const int32s = (values: readonly number[]): number => {
    builder.startVector(4, values.length, 4);
    for (const value of [...values].reverse()) builder.addInt32(value);
    return builder.endVector();
  };
  const offsets = (values: readonly number[]): number => {
    builder.startVector(4, values.length, 4);
    for (const value of [...values].reverse()) builder.addOffset(value);
    return builder.endVector();
  };
  const table = (numFields: number, fill: () => void): number => {
    builder.startObject(numFields);
    fill();
    return builder.endObject();
  };

  // Buffer 0 is the empty one, by convention.
  const buffers = [table(1, () => {})];
  const tensors = spec.tensors.map(({ name, shape, data, type }) => {
    let buffer = 0;
    if (data !== undefined) {
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      const vector = builder.createByteVector(bytes);
      buffer = buffers.push(table(1, () => builder.addFieldOffset(0, vector, 0))) - 1;
    }
    const [nameAt, shapeAt] = [builder.createString(name), int32s(shape)];
    return table(4, () => {
      builder.addFieldOffset(0, shapeAt, 0);
      builder.addFieldInt8(1, type ?? typeOf(data), 0);
      builder.addFieldInt32(2, buffer, 0);
      builder.addFieldOffset(3, nameAt, 0);
    });
  });
  const codes = spec.operators.map(({ code, customCode }) => {
    const custom = customCode === undefined ? 0 : builder.createString(customCode);
    return table(4, () => {
      builder.addFieldInt8(0, Math.min(code, 127), 0);
      builder.addFieldOffset(1, custom, 0);
      builder.addFieldInt32(3, code, 0);
    });
  });
  const operators = spec.operators.map(({ inputs, outputs, options = [] }, index) => {
    const vectors = options.map((option) => (option[1] === 'int32s' ? int32s(option[2]) : 0));
    const optionsAt = table(8, () => {
      options.forEach((option, position) => {
        const [field, type, value] = option;
        if (type === 'int8') builder.addFieldInt8(field, value, null);
        else if (type === 'int32') builder.addFieldInt32(field, value, null);
        else if (type === 'float32') builder.addFieldFloat32(field, value, null);
        else builder.addFieldOffset(field, vectors[position]!, 0);
      });
    });
    const [inputsAt, outputsAt] = [int32s(inputs), int32s(outputs)];
    return table(5, () => {
      builder.addFieldInt32(0, index, 0);
      builder.addFieldOffset(1, inputsAt, 0);
      builder.addFieldOffset(2, outputsAt, 0);
      builder.addFieldOffset(4, optionsAt, 0);
    });
  });
  const [tensorsAt, inputsAt, outputsAt, operatorsAt] = [
    offsets(tensors),
    int32s(spec.inputs),
    int32s(spec.outputs),
    offsets(operators),
  ];
  const graph = table(4, () => {
    builder.addFieldOffset(0, tensorsAt, 0);
    builder.addFieldOffset(1, inputsAt, 0);
    builder.addFieldOffset(2, outputsAt, 0);
    builder.addFieldOffset(3, operatorsAt, 0);
  });
  const [codesAt, graphsAt, buffersAt] = [offsets(codes), offsets([graph]), offsets(buffers)];
  const model = table(5, () => {
    builder.addFieldInt32(0, 3, 0);
    builder.addFieldOffset(1, codesAt, 0);
    builder.addFieldOffset(2, graphsAt, 0);
    builder.addFieldOffset(4, buffersAt, 0);
  });
  builder.finish(model, 'TFL3');
  return builder.asUint8Array();
}

function typeOf(data: TensorSpec['data']): number {
  if (data instanceof Int32Array) return 2;
  if (data instanceof Uint16Array) return 1;
  return data instanceof Uint8Array ? 3 : 0;
}
