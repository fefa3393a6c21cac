import { elementCount } from '@isthmus/core';
import type { GradientContext, GradientRule, GradientRules } from '../gradient-context.js';
import { noGradient } from '../no-gradient.js';
import { positiveAxis } from '../ops.js';

/** The axes that a reduction sums up: an attribute in older operator sets, an input in newer ones. */
function reducedAxes({ draft, node, inputs, attributes, shape }: GradientContext): readonly number[] {
  const rank = shape(0).length;
  const [, name = ''] = inputs;
  const constant = name === '' ? undefined : draft.constantOf(name);
  if (name !== '' && constant === undefined) throw noGradient(node, 'its axes are not constant');
  const given =
    attributes.ints('axes') ??
    (constant === undefined ? [] : Array.from(constant.data as BigInt64Array, Number));
  if (given.length > 0) return given.map((axis) => positiveAxis(axis, rank));
  return attributes.int('noop_with_empty_axes', 0) === 1
    ? []
    : Array.from({ length: rank }, (_, axis) => axis);
}

interface Reduction {
  /** Sizes of the result with the reduced axes kept. */
  kept: readonly number[];
  axes: readonly number[];
  /** How many elements make one. */
  count: number;
  /** The result and its gradient, with the reduced axes kept. */
  y: string;
  gradient: string;
}

const reduction =
  (rule: (context: GradientContext, reduction: Reduction) => string): GradientRule =>
  (context) => {
    const { ops, outputs, shape } = context;
    const axes = reducedAxes(context);
    const kept = shape(0).map((size, axis) => (axes.includes(axis) ? 1 : size));
    const count = elementCount(shape(0)) / elementCount(kept);
    const y = ops.reshape(outputs[0] ?? '', kept);
    return [rule(context, { axes, kept, count, y, gradient: ops.reshape(context.gradient, kept) })];
  };

// Where several elements are the extreme they share the gradient.
const extreme = reduction(({ draft, ops, inputs: [x = ''] }, { axes, y, gradient }) => {
  const hits = ops.toFloat(draft.node('Equal', [x, y]));
  return ops.mul(hits, ops.div(gradient, ops.reduceSum(hits, axes)));
});

const globalExtreme: GradientRule = ({
  draft,
  ops,
  inputs: [x = ''],
  outputs: [y = ''],
  gradient,
  shape,
}) => {
  const hits = ops.toFloat(draft.node('Equal', [x, y]));
  const axes = shape(0).flatMap((_, axis) => (axis < 2 ? [] : [axis]));
  return [ops.mul(hits, ops.div(gradient, ops.reduceSum(hits, axes)))];
};

/** Reductions along axes, and the global pools, which are reductions. */
export const reductionRules: GradientRules = {
  ReduceSum: reduction(({ ops, shape }, { gradient }) => ops.expand(gradient, shape(0))),
  ReduceMean: reduction(({ ops, shape }, { gradient, count }) =>
    ops.expand(ops.scale(gradient, 1 / count), shape(0)),
  ),
  ReduceMax: extreme,
  ReduceMin: extreme,
  ReduceL1: reduction(({ ops, inputs: [x = ''] }, { gradient }) => ops.mul(gradient, ops.unary('Sign', x))),
  ReduceSumSquare: reduction(({ ops, inputs: [x = ''] }, { gradient }) => ops.mul(x, ops.scale(gradient, 2))),
  // At zero, where the norm has no gradient, it is taken to be zero.
  ReduceL2: reduction(({ ops, inputs: [x = ''] }, { gradient, y }) => {
    const isPositive = ops.compare('Greater', y, 0);
    return ops.mul(x, ops.where(isPositive, ops.div(gradient, ops.where(isPositive, y, 1)), 0));
  }),
  ReduceLogSumExp: reduction(({ ops, inputs: [x = ''] }, { gradient, y }) =>
    ops.mul(gradient, ops.unary('Exp', ops.sub(x, y))),
  ),
  GlobalAveragePool: ({ ops, gradient, shape }) => [
    ops.expand(ops.scale(gradient, 1 / elementCount(shape(0).slice(2))), shape(0)),
  ],
  GlobalMaxPool: globalExtreme,
};
