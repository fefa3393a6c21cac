import { elementCount } from '@isthmus/core';
import type { GradientContext, GradientRule, GradientRules } from '../gradient-context.js';
import { noGradient } from '../no-gradient.js';
import { positiveAxis } from '../ops.js';

const defaultEpsilon = Math.fround(1e-5);

/** Sizes that make a tensor of one value a channel broadcast over [batch, channels, …]. */
function perChannel(shape: readonly number[]): number[] {
  return shape.map((size, axis) => (axis === 1 ? size : 1));
}

function otherAxes(shape: readonly number[]): number[] {
  return shape.flatMap((_, axis) => (axis === 1 ? [] : [axis]));
}

// With the statistics that the model was left with: an affine map.
const batchNormalization: GradientRule = (context) => {
  const { ops, inputs, attributes, gradient, shape, wants, node } = context;
  const [x = '', scale = '', , mean = '', variance = ''] = inputs;
  if (attributes.int('training_mode', 0) !== 0) throw noGradient(node, 'its training form has no rule');
  if (wants(3) || wants(4)) throw noGradient(node, 'its mean and variance are statistics, not weights');
  const like = perChannel(shape(0));
  const axes = otherAxes(shape(0));
  const deviation = ops.unary('Sqrt', ops.shift(variance, attributes.float('epsilon', defaultEpsilon)));
  const ofScale = (): string => {
    const centred = ops.sub(x, ops.reshape(mean, like));
    return ops.div(ops.reduceSum(ops.mul(gradient, centred), axes, false), deviation);
  };
  return [
    wants(0) ? ops.mul(gradient, ops.reshape(ops.div(scale, deviation), like)) : undefined,
    wants(1) ? ofScale() : undefined,
    wants(2) ? ops.reduceSum(gradient, axes, false) : undefined,
  ];
};

/** x with mean 0 and variance 1 along axes, and the reciprocal of the deviation that it had. */
function standardize(
  ops: GradientContext['ops'],
  x: string,
  axes: readonly number[],
  epsilon: number,
): { standard: string; rate: string } {
  const centred = ops.sub(x, ops.reduceMean(x, axes));
  // Centred first: the mean of squares less the square of the mean loses most digits.
  const variance = ops.reduceMean(ops.square(centred), axes);
  const rate = ops.unary('Reciprocal', ops.unary('Sqrt', ops.shift(variance, epsilon)));
  return { standard: ops.mul(centred, rate), rate };
}

/**
 * The gradient through (x − mean) / deviation: that of the standardized tensor, less its mean and less its part
 * along the tensor, over the deviation (Ioffe and Szegedy, Batch Normalization, 2015).
 */
function standardizedGradient(
  ops: GradientContext['ops'],
  { standard, rate }: { standard: string; rate: string },
  gradient: string,
  axes: readonly number[],
): string {
  const along = ops.mul(standard, ops.reduceMean(ops.mul(gradient, standard), axes));
  return ops.mul(rate, ops.sub(ops.sub(gradient, ops.reduceMean(gradient, axes)), along));
}

const layerNormalization: GradientRule = ({ ops, inputs, attributes, gradient, shape, wants }) => {
  const [x = '', scale = ''] = inputs;
  const rank = shape(0).length;
  const first = positiveAxis(attributes.int('axis', -1), rank);
  const axes = Array.from({ length: rank - first }, (_, index) => first + index);
  const parts = standardize(ops, x, axes, attributes.float('epsilon', defaultEpsilon));
  return [
    wants(0) ? standardizedGradient(ops, parts, ops.mul(gradient, scale), axes) : undefined,
    wants(1) ? ops.sumTo(ops.mul(gradient, parts.standard), shape(1)) : undefined,
    wants(2) ? ops.sumTo(gradient, shape(2)) : undefined,
  ];
};

/** Normalization of groups of channels, each with its own scale: a channel (or, before opset 21, a group). */
function groupsRule(context: GradientContext, groups: number): readonly (string | undefined)[] {
  const { ops, inputs, attributes, gradient, shape, wants } = context;
  const [x = '', scale = ''] = inputs;
  const [batch = 1, channels = 1, ...spatial] = shape(0);
  const grouped = [batch, groups, channels / groups, ...spatial];
  const axes = Array.from({ length: grouped.length - 2 }, (_, index) => index + 2);
  const perScale = elementCount(shape(1)) === groups && groups !== channels;
  const like = grouped.map((_, axis) => {
    if (axis === 1) return groups;
    return axis === 2 && !perScale ? channels / groups : 1;
  });
  const wide = ops.reshape(gradient, grouped);
  const parts = standardize(ops, ops.reshape(x, grouped), axes, attributes.float('epsilon', defaultEpsilon));
  const toScale = (full: string): string => ops.reshape(ops.sumTo(full, like), shape(1));
  const ofInput = (): string => {
    const scaled = ops.mul(wide, ops.reshape(scale, like));
    return ops.reshape(standardizedGradient(ops, parts, scaled, axes), shape(0));
  };
  return [
    wants(0) ? ofInput() : undefined,
    wants(1) ? toScale(ops.mul(wide, parts.standard)) : undefined,
    wants(2) ? toScale(wide) : undefined,
  ];
}

/** Normalizations. */
export const normalizationRules: GradientRules = {
  BatchNormalization: batchNormalization,
  LayerNormalization: layerNormalization,
  GroupNormalization: (context) => groupsRule(context, context.attributes.int('num_groups', 1)),
  InstanceNormalization: (context) => groupsRule(context, context.shape(0)[1] ?? 1),
};
