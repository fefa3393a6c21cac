import { elementCount, IsthmusError, toIsthmusError } from '@isthmus/core';
import type { ModelProto } from '../onnx_pb.js';
import { Emitter } from './emitter.js';
import type { Table } from './flatbuffer.js';
import { widenHalves } from './halves.js';
import { type Constant, constantName, type Operand, storedShape, type Value, writtenValue } from './nchw.js';
import { readTfliteFile, type TfliteModel, type TfliteOperator, type TfliteTensor } from './tflite-file.js';
import { tfliteOperators } from './tflite-operators.js';

/** What an operator's translation sees: its inputs by position, its options, and where to write. */
export interface OperatorSite {
  readonly emitter: Emitter;
  /** The operator's options by field id of schema.fbs. */
  readonly options: Table;
  readonly numInputs: number;
  has(input: number): boolean;
  value(input: number): Value;
  /** A value or a constant. */
  operand(input: number): Operand;
  constant(input: number): Constant;
  optionalConstant(input: number): Constant | undefined;
  integers(input: number): number[];
  /** Name of an output. @default the first */
  name(output?: number): string;
  readonly outputShapes: readonly (readonly number[])[];
}

/**
 * A TensorFlow Lite model as ONNX (opset 17). The file's NHWC tensors become NCHW throughout: weights are
 * permuted once and axes renumbered, so no transposes run per frame except where a reshape mixes space and
 * channels. Input and output tensors keep their names; images among them are float32 NCHW.
 *
 * Float models only (float16 weights are widened), with the operators of MobileNet, tiny-YOLO, DeepLab and
 * PoseNet.
 *
 * @param bytes The .tflite file (https://ai.google.dev/edge/litert, schema version 3).
 * @throws IsthmusError `model/truncated` where the file is cut off, `model/invalid` where it is no such file or
 * contradicts itself, `model/unsupported-operator` with the operator, its index and its output,
 * `model/unsupported` for quantized tensors.
 *
 * @example
 * ```ts
 * const model = importTflite(await readFile('mobilenet_v1.tflite'));
 * await writeFile('mobilenet_v1.onnx', writeModel(model));
 * ```
 */
export function importTflite(bytes: Uint8Array): ModelProto {
  const file = readTfliteFile(bytes);
  const names = uniqueNames(file.tensors);
  const emitter = new Emitter('tflite', names);
  const operands = new Map<number, Operand>();
  for (const index of file.inputs) {
    const { shape } = floatTensor(file, index);
    emitter.input(names[index]!, storedShape(shape));
    operands.set(index, writtenValue(names[index]!, shape));
  }
  file.operators.forEach((operator, position) => {
    const place = describe(file, operator, position);
    const translate = tfliteOperators[operator.name];
    if (translate === undefined) {
      throw new IsthmusError(
        'model/unsupported-operator',
        `${place}: this operator is not supported. Cut the model before it, or convert the model to ONNX elsewhere.`,
        { details: { operator: operator.name, index: position } },
      );
    }
    let results: readonly Operand[];
    try {
      const made = translate(siteOf(file, operator, names, operands, emitter));
      results = Array.isArray(made) ? made : [made as Operand];
    } catch (error) {
      const known = toIsthmusError(error, 'model/invalid', 'The operator is malformed');
      throw new IsthmusError(known.code, `${place}: ${known.message}`, {
        cause: error,
        details: { ...known.details, operator: operator.name, index: position },
      });
    }
    results.forEach((result, output) => {
      const index = operator.outputs[output]!;
      const declared = file.tensors[index]!.shape;
      if (declared.length > 0 && `${declared}` !== `${result.shape}`) {
        throw new IsthmusError(
          'model/invalid',
          `${place}: the file declares the shape [${declared}], but the operator gives [${result.shape}].`,
        );
      }
      operands.set(index, result);
    });
  });
  for (const index of file.outputs) {
    const result = operands.get(index);
    if (result === undefined || 'data' in result) {
      throw new IsthmusError('model/invalid', `Nothing computes the output ${names[index]}.`);
    }
    const actual = result.name();
    // What was folded away or merely renamed still has to appear under the output's name.
    if (actual !== names[index]) emitter.node('Identity', [actual], [names[index]!]);
    emitter.output(names[index]!, storedShape(result.shape));
  }
  return emitter.build();
}

function describe(file: TfliteModel, operator: TfliteOperator, position: number): string {
  const output = file.tensors[operator.outputs[0] ?? -1]?.name ?? 'nothing';
  return `Operator ${position}, ${operator.name} (output ${output})`;
}

function uniqueNames(tensors: readonly TfliteTensor[]): string[] {
  const taken = new Set<string>();
  return tensors.map((tensor, index) => {
    let name = tensor.name === '' ? `tensor_${index}` : tensor.name;
    if (taken.has(name)) name = `${name}_${index}`;
    taken.add(name);
    return name;
  });
}

function floatTensor(file: TfliteModel, index: number): TfliteTensor {
  const tensor = file.tensors[index]!;
  if (tensor.type !== 'float32') {
    throw new IsthmusError(
      'model/unsupported',
      `Tensor ${index} (${tensor.name}) is ${tensor.type}. Only float models are imported; use the float ` +
        'version of a quantized model.',
      { details: { tensor: tensor.name, type: tensor.type } },
    );
  }
  return tensor;
}

function siteOf(
  file: TfliteModel,
  operator: TfliteOperator,
  names: readonly string[],
  operands: Map<number, Operand>,
  emitter: Emitter,
): OperatorSite {
  const indexOf = (input: number): number => {
    const index = operator.inputs[input] ?? -1;
    if (index < 0) throw new IsthmusError('model/invalid', `Input ${input} is missing.`);
    return index;
  };
  const operand = (input: number): Operand => {
    const index = indexOf(input);
    let found = operands.get(index);
    if (found === undefined) {
      const tensor = file.tensors[index]!;
      if (tensor.data === undefined) {
        throw new IsthmusError('model/invalid', `Its input ${tensor.name} is not computed before it.`);
      }
      found = { shape: tensor.shape, data: decodeFloats(tensor, index) };
      operands.set(index, found);
    }
    return found;
  };
  const constant = (input: number): Constant => {
    const found = operand(input);
    if ('data' in found) return found;
    throw new IsthmusError(
      'model/unsupported-operator',
      `Input ${input} is computed by the model; only a constant is supported there.`,
    );
  };
  const has = (input: number): boolean => (operator.inputs[input] ?? -1) >= 0;
  return {
    emitter,
    get options() {
      if (operator.options === undefined) throw new IsthmusError('model/invalid', 'It has no options.');
      return operator.options;
    },
    numInputs: operator.inputs.length,
    has,
    operand,
    constant,
    optionalConstant: (input) => (has(input) ? constant(input) : undefined),
    value(input) {
      const found = operand(input);
      if (!('data' in found)) return found;
      const name = constantName(emitter, found, found.shape.length, `${names[indexOf(input)]}/nchw`);
      return writtenValue(name, found.shape);
    },
    integers: (input) => decodeIntegers(file.tensors[indexOf(input)]!, input),
    name(output = 0) {
      const index = operator.outputs[output];
      if (index === undefined) throw new IsthmusError('model/invalid', `It lacks output ${output}.`);
      return names[index]!;
    },
    outputShapes: operator.outputs.map((index) => file.tensors[index]!.shape),
  };
}

function decodeFloats(tensor: TfliteTensor, index: number): Float32Array {
  const { type, name, shape } = tensor;
  if (type !== 'float32' && type !== 'float16') {
    throw new IsthmusError(
      'model/unsupported',
      `Tensor ${index} (${name}) is ${type}. Only float weights are imported.`,
      { details: { tensor: name, type } },
    );
  }
  const bytes = sizedData(tensor, type === 'float32' ? 4 : 2, elementCount(shape));
  return type === 'float32' ? new Float32Array(bytes.buffer) : widenHalves(new Uint16Array(bytes.buffer));
}

function decodeIntegers(tensor: TfliteTensor, input: number): number[] {
  if (tensor.data === undefined || (tensor.type !== 'int32' && tensor.type !== 'int64')) {
    throw new IsthmusError(
      'model/unsupported-operator',
      `Input ${input} (${tensor.name}) must be constant integers; here it is ${tensor.type}, ${
        tensor.data === undefined ? 'computed by the model' : 'constant'
      }.`,
    );
  }
  const wide = tensor.type === 'int64';
  const { buffer } = sizedData(tensor, wide ? 8 : 4, elementCount(tensor.shape));
  return wide ? Array.from(new BigInt64Array(buffer), Number) : [...new Int32Array(buffer)];
}

/** A copy of a constant's bytes, since in the file it need not be aligned. */
function sizedData(tensor: TfliteTensor, bytesPerElement: number, count: number): Uint8Array<ArrayBuffer> {
  const actual = tensor.data?.byteLength ?? 0;
  if (actual !== bytesPerElement * count) {
    throw new IsthmusError(
      'model/invalid',
      `Tensor ${tensor.name} of shape [${tensor.shape}] takes ${bytesPerElement * count} bytes, not ${actual}.`,
    );
  }
  return new Uint8Array(tensor.data!);
}
