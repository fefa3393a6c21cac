import { elementCount } from '@isthmus/core';
import { findAttribute, intAttribute, intsAttribute, stringAttribute } from './attributes.js';
import type { NodeProto } from './onnx_pb.js';

/** What a rule may look at. Every accessor throws {@link notStatic} where the answer is not known. */
export interface RuleContext {
  node: NodeProto;
  /** Version of the ai.onnx operator set. */
  opset: number;
  /** Whether input `index` is there. */
  has(index: number): boolean;
  shape(index: number): number[];
  /** The elements of a constant input, integer or float. */
  values(index: number): number[];
}

/** The shapes of the outputs a rule can tell. */
export type ShapeRule = (context: RuleContext) => number[][];

/** Thrown by a rule that cannot tell; the shape is then found by running the model. */
export const notStatic: unique symbol = Symbol('shape not static');

const same: ShapeRule = ({ node, shape }) => node.output.map(() => shape(0));
const sameFirst: ShapeRule = ({ shape }) => [shape(0)];
const elementwise: ShapeRule = ({ node, shape }) => [
  node.input.map((_, index) => shape(index)).reduce(broadcast),
];

// The shape of two tensors combined element by element (numpy's rule).
function broadcast(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, axis) => {
    const x = a[a.length - rank + axis] ?? 1;
    const y = b[b.length - rank + axis] ?? 1;
    if (x !== y && x !== 1 && y !== 1) throw notStatic;
    return x === 1 ? y : x;
  });
}

const axisOf = (axis: number, rank: number): number => {
  const positive = axis < 0 ? axis + rank : axis;
  if (positive < 0 || positive > rank) throw notStatic;
  return positive;
};

// Axes and the like moved from attributes to inputs in later operator sets.
const fromAttributeOrInput = (context: RuleContext, name: string, index: number): number[] | undefined =>
  intsAttribute(context.node, name) ?? (context.has(index) ? context.values(index) : undefined);

/** Sizes of the window of a convolution or pool, and the sizes it gives. */
function windowed(context: RuleContext, kernel: number[], channels: number): number[] {
  const { node, shape } = context;
  const [batch, , ...spatial] = shape(0);
  const strides = intsAttribute(node, 'strides') ?? kernel.map(() => 1);
  const dilations = intsAttribute(node, 'dilations') ?? kernel.map(() => 1);
  const pads = intsAttribute(node, 'pads') ?? kernel.flatMap(() => [0, 0]);
  const autoPad = stringAttribute(node, 'auto_pad') ?? 'NOTSET';
  // With ceil_mode engines differ in whether the last window may start in the padding.
  if (intAttribute(node, 'ceil_mode') === 1 || spatial.length !== kernel.length) throw notStatic;
  const sizes = spatial.map((size, axis) => {
    const stride = strides[axis]!;
    const reach = dilations[axis]! * (kernel[axis]! - 1) + 1;
    if (autoPad.startsWith('SAME')) return Math.ceil(size / stride);
    const padding = autoPad === 'VALID' ? 0 : pads[axis]! + pads[axis + kernel.length]!;
    return Math.floor((size + padding - reach) / stride) + 1;
  });
  return [batch!, channels, ...sizes];
}

const conv: ShapeRule = (context) => {
  const weights = context.shape(context.node.opType === 'QLinearConv' ? 3 : 1);
  return [windowed(context, weights.slice(2), weights[0]!)];
};

const pool: ShapeRule = (context) => {
  const kernel = intsAttribute(context.node, 'kernel_shape');
  if (kernel === undefined) throw notStatic;
  const shape = windowed(context, kernel, context.shape(0)[1]!);
  return context.node.output.map(() => shape);
};

const convTranspose: ShapeRule = ({ node, shape }) => {
  const [batch, , ...spatial] = shape(0);
  const [, perGroup, ...kernel] = shape(1);
  const ones = kernel.map(() => 1);
  const strides = intsAttribute(node, 'strides') ?? ones;
  const dilations = intsAttribute(node, 'dilations') ?? ones;
  const extra = intsAttribute(node, 'output_padding') ?? kernel.map(() => 0);
  const pads = intsAttribute(node, 'pads') ?? kernel.flatMap(() => [0, 0]);
  if ((stringAttribute(node, 'auto_pad') ?? 'NOTSET') !== 'NOTSET') throw notStatic;
  const sizes =
    intsAttribute(node, 'output_shape') ??
    spatial.map((size, axis) => {
      const padding = pads[axis]! + pads[axis + kernel.length]!;
      return (
        strides[axis]! * (size - 1) + extra[axis]! + (kernel[axis]! - 1) * dilations[axis]! + 1 - padding
      );
    });
  return [[batch!, perGroup! * (intAttribute(node, 'group') ?? 1), ...sizes.slice(-kernel.length)]];
};

const globalPool: ShapeRule = ({ shape }) => {
  const [batch, channels, ...spatial] = shape(0);
  return [[batch!, channels!, ...spatial.map(() => 1)]];
};

const gemm: ShapeRule = ({ node, shape }) => {
  const a = shape(0);
  const b = shape(1);
  const m = intAttribute(node, 'transA') === 1 ? a[1]! : a[0]!;
  const n = intAttribute(node, 'transB') === 1 ? b[0]! : b[1]!;
  return [[m, n]];
};

const matMul: ShapeRule = ({ node, shape }) => {
  const a = shape(0);
  const b = shape(node.opType === 'QLinearMatMul' ? 3 : 1);
  if (a.length === 0 || b.length === 0) throw notStatic;
  const batch = broadcast(a.slice(0, -2), b.slice(0, -2));
  return [[...batch, ...(a.length > 1 ? [a.at(-2)!] : []), ...(b.length > 1 ? [b.at(-1)!] : [])]];
};

const reshape: ShapeRule = ({ node, shape, values }) => {
  const from = shape(0);
  const allowZero = intAttribute(node, 'allowzero') === 1;
  const wanted = values(1).map((size, axis) => (size === 0 && !allowZero ? (from[axis] ?? 0) : size));
  const known = elementCount(wanted.filter((size) => size !== -1));
  const total = elementCount(from);
  const result = wanted.map((size) => (size === -1 ? total / known : size));
  if (elementCount(result) !== total || !result.every(Number.isInteger)) throw notStatic;
  return [result];
};

const flatten: ShapeRule = ({ node, shape }) => {
  const from = shape(0);
  const axis = axisOf(intAttribute(node, 'axis') ?? 1, from.length);
  return [[elementCount(from.slice(0, axis)), elementCount(from.slice(axis))]];
};

const transpose: ShapeRule = ({ node, shape }) => {
  const from = shape(0);
  const order = intsAttribute(node, 'perm') ?? from.map((_, axis) => from.length - 1 - axis);
  return [order.map((axis) => from[axis]!)];
};

const concat: ShapeRule = ({ node, shape }) => {
  const shapes = node.input.map((_, index) => shape(index));
  const first = shapes[0]!;
  const axis = axisOf(intAttribute(node, 'axis') ?? 0, first.length);
  return [
    first.with(
      axis,
      shapes.reduce((sum, other) => sum + other[axis]!, 0),
    ),
  ];
};

const slice: ShapeRule = (context) => {
  const result = [...context.shape(0)];
  const starts = fromAttributeOrInput(context, 'starts', 1);
  const ends = fromAttributeOrInput(context, 'ends', 2);
  if (starts === undefined || ends === undefined) throw notStatic;
  const axes = fromAttributeOrInput(context, 'axes', 3) ?? starts.map((_, index) => index);
  const steps = context.has(4) ? context.values(4) : starts.map(() => 1);
  axes.forEach((rawAxis, index) => {
    const axis = axisOf(rawAxis, result.length);
    const size = result[axis]!;
    const step = steps[index]!;
    const clamp = (position: number, low: number, high: number): number =>
      Math.min(high, Math.max(low, position < 0 ? position + size : position));
    const [low, high] = step > 0 ? [0, size] : [-1, size - 1];
    const start = clamp(starts[index]!, step > 0 ? 0 : 0, high);
    // A very negative end means "through the first element" when going backwards.
    const end = ends[index]! < -size ? low : clamp(ends[index]!, low, high);
    result[axis] = Math.max(0, Math.ceil((end - start) / step));
  });
  return [result];
};

const split: ShapeRule = (context) => {
  const from = context.shape(0);
  const axis = axisOf(intAttribute(context.node, 'axis') ?? 0, from.length);
  const count = context.node.output.length;
  const chunk = Math.ceil(from[axis]! / count);
  const sizes =
    fromAttributeOrInput(context, 'split', 1) ??
    Array.from({ length: count }, (_, index) => Math.min(chunk, from[axis]! - chunk * index));
  return sizes.map((size) => from.with(axis, size));
};

const squeeze: ShapeRule = (context) => {
  const from = context.shape(0);
  const axes = fromAttributeOrInput(context, 'axes', 1)?.map((axis) => axisOf(axis, from.length));
  return [from.filter((size, axis) => (axes === undefined ? size !== 1 : !axes.includes(axis)))];
};

const unsqueeze: ShapeRule = (context) => {
  const from = context.shape(0);
  const axes = fromAttributeOrInput(context, 'axes', 1);
  if (axes === undefined) throw notStatic;
  const rank = from.length + axes.length;
  const inserted = new Set(axes.map((axis) => axisOf(axis, rank)));
  const rest = [...from];
  return [Array.from({ length: rank }, (_, axis) => (inserted.has(axis) ? 1 : rest.shift()!))];
};

const pad: ShapeRule = (context) => {
  const result = [...context.shape(0)];
  const pads = fromAttributeOrInput(context, 'pads', 1);
  if (pads === undefined) throw notStatic;
  const axes = context.has(3) ? context.values(3) : result.map((_, axis) => axis);
  axes.forEach((rawAxis, index) => {
    const axis = axisOf(rawAxis, result.length);
    result[axis]! += pads[index]! + pads[index + axes.length]!;
  });
  return [result];
};

const scaled = (from: readonly number[], scales: readonly number[]): number[] => {
  if (scales.length !== from.length) throw notStatic;
  return from.map((size, axis) => Math.floor(size * scales[axis]!));
};

const upsample: ShapeRule = ({ node, shape, values, has }) => [
  scaled(shape(0), has(1) ? values(1) : (findAttribute(node, 'scales')?.floats ?? [])),
];

const resize: ShapeRule = ({ node, opset, shape, values, has }) => {
  const from = shape(0);
  const policy = stringAttribute(node, 'keep_aspect_ratio_policy') ?? 'stretch';
  if (policy !== 'stretch') throw notStatic;
  if (opset < 11) return [scaled(from, values(1))];
  const axes = intsAttribute(node, 'axes') ?? from.map((_, axis) => axis);
  const result = [...from];
  const bySizes = has(3) && values(3).length > 0;
  const factors = values(bySizes ? 3 : 2);
  if (factors.length !== axes.length) throw notStatic;
  axes.forEach((rawAxis, index) => {
    const axis = axisOf(rawAxis, from.length);
    result[axis] = bySizes ? factors[index]! : Math.floor(from[axis]! * factors[index]!);
  });
  return [result];
};

const reduce: ShapeRule = (context) => {
  const from = context.shape(0);
  const given = fromAttributeOrInput(context, 'axes', 1);
  const noAxes = given === undefined || given.length === 0;
  if (noAxes && intAttribute(context.node, 'noop_with_empty_axes') === 1) return [from];
  const axes = noAxes ? from.map((_, axis) => axis) : given.map((axis) => axisOf(axis, from.length));
  const keep = (intAttribute(context.node, 'keepdims') ?? 1) === 1;
  return [from.flatMap((size, axis) => (axes.includes(axis) ? (keep ? [1] : []) : [size]))];
};

const argReduce: ShapeRule = ({ node, shape }) => {
  const from = shape(0);
  const axis = axisOf(intAttribute(node, 'axis') ?? 0, from.length);
  return [(intAttribute(node, 'keepdims') ?? 1) === 1 ? from.with(axis, 1) : from.toSpliced(axis, 1)];
};

const gather: ShapeRule = ({ node, shape }) => {
  const from = shape(0);
  return [from.toSpliced(axisOf(intAttribute(node, 'axis') ?? 0, from.length), 1, ...shape(1))];
};

const gatherNd: ShapeRule = ({ node, shape }) => {
  const indices = shape(1);
  const batchDims = intAttribute(node, 'batch_dims') ?? 0;
  return [[...indices.slice(0, -1), ...shape(0).slice(batchDims + indices.at(-1)!)]];
};

const topK: ShapeRule = ({ node, shape, values }) => {
  const from = shape(0);
  const result = from.with(axisOf(intAttribute(node, 'axis') ?? -1, from.length), values(1)[0]!);
  return [result, result];
};

const oneHot: ShapeRule = ({ node, shape, values }) => {
  const from = shape(0);
  return [from.toSpliced(axisOf(intAttribute(node, 'axis') ?? -1, from.length + 1), 0, values(1)[0]!)];
};

const blocks: ShapeRule = ({ node, shape }) => {
  const [batch, channels, height, width] = shape(0) as [number, number, number, number];
  const block = intAttribute(node, 'blocksize') ?? 1;
  return node.opType === 'DepthToSpace'
    ? [[batch, channels / block ** 2, height * block, width * block]]
    : [[batch, channels * block ** 2, height / block, width / block]];
};

const shapeOf: ShapeRule = ({ node, shape }) => [[slicedShape(node, shape(0)).length]];

/** What a `Shape` node gives for that input shape: all sizes, or those from `start` to `end`. */
export function slicedShape(node: NodeProto, shape: readonly number[]): number[] {
  return shape.slice(intAttribute(node, 'start') ?? 0, intAttribute(node, 'end') ?? shape.length);
}

const named = (rule: ShapeRule, names: string): [string, ShapeRule][] =>
  names.split(' ').map((name) => [name, rule]);

/** Rules by operator of ai.onnx. Operators that are not here are left to the runtime. */
export const shapeRules: ReadonlyMap<string, ShapeRule> = new Map([
  ...named(
    sameFirst,
    'Relu LeakyRelu PRelu ThresholdedRelu Elu Selu Celu Gelu Mish Sigmoid HardSigmoid HardSwish Swish Tanh ' +
      'Softplus Softsign Exp Log Sqrt Neg Abs Reciprocal Floor Ceil Round Sign Sin Cos Tan Asin Acos Atan Sinh ' +
      'Cosh Asinh Acosh Atanh Erf Clip Shrink Cast CastLike Identity Not IsNaN IsInf Softmax LogSoftmax Hardmax ' +
      'BatchNormalization InstanceNormalization LayerNormalization GroupNormalization RMSNormalization LRN ' +
      'LpNormalization MeanVarianceNormalization QuantizeLinear DequantizeLinear CumSum ' +
      'Trilu EyeLike ScatterND ScatterElements Scatter ReverseSequence BitwiseNot RandomNormalLike ' +
      'RandomUniformLike Bernoulli',
  ),
  ...named(same, 'Dropout'),
  ...named(({ shape }) => [shape(0), [], []], 'DynamicQuantizeLinear'),
  ...named(
    elementwise,
    'Add Sub Mul Div Pow Mod Min Max Mean Sum And Or Xor Equal Less Greater LessOrEqual GreaterOrEqual Where ' +
      'BitShift BitwiseAnd BitwiseOr BitwiseXor',
  ),
  ...named(conv, 'Conv ConvInteger QLinearConv'),
  ...named(convTranspose, 'ConvTranspose'),
  ...named(pool, 'MaxPool AveragePool LpPool'),
  ...named(globalPool, 'GlobalAveragePool GlobalMaxPool GlobalLpPool'),
  ...named(gemm, 'Gemm'),
  ...named(matMul, 'MatMul MatMulInteger QLinearMatMul'),
  ...named(reshape, 'Reshape'),
  ...named(flatten, 'Flatten'),
  ...named(transpose, 'Transpose'),
  ...named(concat, 'Concat'),
  ...named(slice, 'Slice'),
  ...named(split, 'Split'),
  ...named(squeeze, 'Squeeze'),
  ...named(unsqueeze, 'Unsqueeze'),
  ...named(pad, 'Pad'),
  ...named(upsample, 'Upsample'),
  ...named(resize, 'Resize'),
  ...named(
    reduce,
    'ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ' +
      'ReduceSumSquare',
  ),
  ...named(argReduce, 'ArgMax ArgMin'),
  ...named(gather, 'Gather'),
  ...named(({ shape }) => [shape(1)], 'GatherElements'),
  ...named(gatherNd, 'GatherND'),
  ...named(({ shape, values }) => [broadcast(shape(0), values(1))], 'Expand'),
  ...named(({ shape, values }) => [shape(0).map((size, axis) => size * values(1)[axis]!)], 'Tile'),
  ...named(({ values }) => [values(0)], 'ConstantOfShape'),
  ...named(topK, 'TopK'),
  ...named(oneHot, 'OneHot'),
  ...named(blocks, 'DepthToSpace SpaceToDepth'),
  ...named(({ shape }) => [[...shape(0).slice(0, 2), ...shape(1).slice(1, -1)]], 'GridSample'),
  ...named(shapeOf, 'Shape'),
  ...named(() => [[]], 'Size'),
]);
