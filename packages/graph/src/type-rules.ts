import { findAttribute, intAttribute, nestedGraphs } from './attributes.js';
import { isOnnx } from './normalize.js';
import { type NodeProto, TensorProto_DataType as T } from './onnx_pb.js';

/** What a value is: an ONNX element type, `none` for sequences and optionals, undefined if not known. */
export type ElementType = number | 'none' | undefined;

// Operators whose every output has one fixed type.
const fixedTypes: ReadonlyMap<string, ElementType> = new Map<string, ElementType>([
  ...['Shape', 'Size', 'NonZero', 'ArgMax', 'ArgMin', 'NonMaxSuppression', 'SequenceLength'].map(
    (op) => [op, T.INT64] as const,
  ),
  ...['Equal', 'Less', 'Greater', 'LessOrEqual', 'GreaterOrEqual', 'And', 'Or', 'Xor', 'Not'].map(
    (op) => [op, T.BOOL] as const,
  ),
  ...['IsNaN', 'IsInf'].map((op) => [op, T.BOOL] as const),
  ...['ConvInteger', 'MatMulInteger'].map((op) => [op, T.INT32] as const),
  ...['SplitToSequence', 'Optional', 'StringSplit'].map((op) => [op, 'none'] as const),
  ...['SequenceConstruct', 'SequenceEmpty', 'SequenceInsert', 'SequenceErase', 'SequenceMap'].map(
    (op) => [op, 'none'] as const,
  ),
]);

// Operators whose first output has the type of an input other than the first.
const typedByInput: ReadonlyMap<string, number> = new Map([
  ['Where', 1],
  ['OneHot', 2],
  ['DequantizeLinear', 1],
  ['QuantizeLinear', 2],
  ['QLinearConv', 7],
  ['QLinearMatMul', 7],
]);

/**
 * The element types of a node's outputs, from those of its inputs.
 *
 * Most operators hand on the type of their first input; https://onnx.ai/onnx/operators/ lists the others.
 */
export function outputTypes(node: NodeProto, inputs: readonly ElementType[]): ElementType[] {
  if (!isOnnx(node)) return node.output.map(() => undefined);
  return node.output.map((_, index) => outputType(node, inputs, index));
}

function outputType(node: NodeProto, inputs: readonly ElementType[], index: number): ElementType {
  const op = node.opType;
  if (fixedTypes.has(op)) return fixedTypes.get(op);
  switch (op) {
    case 'Cast':
      return intAttribute(node, 'to');
    case 'ConstantOfShape':
      return findAttribute(node, 'value')?.t?.dataType ?? T.FLOAT;
    case 'EyeLike':
    case 'RandomNormalLike':
    case 'RandomUniformLike':
    case 'Bernoulli':
      return intAttribute(node, 'dtype') ?? inputs[0];
    case 'RandomNormal':
    case 'RandomUniform':
      return intAttribute(node, 'dtype') ?? T.FLOAT;
    case 'Multinomial':
      return intAttribute(node, 'dtype') ?? T.INT32;
    case 'TopK':
    case 'Unique':
    case 'MaxPool':
      return index === 0 ? inputs[0] : T.INT64;
    case 'Dropout':
      return index === 0 ? inputs[0] : T.BOOL;
    case 'DynamicQuantizeLinear':
      return index === 1 ? T.FLOAT : T.UINT8;
    case 'QuantizeLinear':
      return inputs[2] ?? intAttribute(node, 'output_dtype') ?? T.UINT8;
    case 'OptionalHasElement':
      return T.BOOL;
    case 'If': {
      const outputs = nestedGraphs(node)[0]?.output[index]?.type?.value;
      return outputs?.case === 'tensorType' ? outputs.value.elemType || undefined : undefined;
    }
    case 'Loop':
    case 'Scan':
    case 'OptionalGetElement':
    case 'SequenceAt':
    case 'ConcatFromSequence':
    case 'Constant':
      return undefined;
    default:
      return inputs[typedByInput.get(op) ?? 0];
  }
}
