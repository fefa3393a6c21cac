import { elementCount } from '@isthmus/core';
import type { GradientContext, GradientRule, GradientRules } from '../gradient-context.js';
import { noGradient } from '../no-gradient.js';
import { transposedConvolution } from './transposed-convolution.js';
import { readWindow, type Window } from './windows.js';

// Each window's gradient goes to the element that won, which the node itself can tell.
const maxPool: GradientRule = ({ draft, ops, node, outputs, attributes, gradient, shape }) => {
  if (attributes.int('storage_order', 0) !== 0) throw noGradient(node, 'its indices are column-major');
  const outputShape = draft.shapeOf(outputs[0] ?? '');
  const indices = draft.extraOutput(node, 1, 'int64', outputShape);
  const numElements = elementCount(shape(0));
  const numWindows = elementCount(outputShape);
  const flat = draft.node(
    'ScatterElements',
    [ops.zeros([numElements]), ops.reshape(indices, [numWindows]), ops.reshape(gradient, [numWindows])],
    { axis: 0, reduction: 'add' },
  );
  return [ops.reshape(flat, shape(0))];
};

// A convolution of every plane with equal weights, and its gradient accordingly.
const averagePool: GradientRule = (context) => {
  const { draft, ops, outputs, attributes, gradient, shape } = context;
  const [batch = 1, channels = 1, ...size] = shape(0);
  const outSize = draft.shapeOf(outputs[0] ?? '').slice(2);
  const window = readWindow(attributes, attributes.ints('kernel_shape') ?? [], size, outSize);
  const planes = batch * channels;
  const isPadded = [...window.before, ...window.after].some((count) => count > 0);
  const countsZeros = attributes.int('count_include_pad', 0) === 1 || !isPadded;
  const kernel = [1, 1, ...window.kernel];
  const share = countsZeros ? 1 / elementCount(window.kernel) : 1;
  const scaled = countsZeros ? gradient : ops.div(gradient, windowCounts(context, window, size, outSize));
  const found = transposedConvolution(
    ops,
    { window, group: 1, input: [planes, 1, ...size], kernel, output: [planes, 1, ...outSize] },
    ops.reshape(scaled, [planes, 1, ...outSize]),
    ops.floats(new Float32Array(elementCount(kernel)).fill(share), kernel),
  );
  return [ops.reshape(found, shape(0))];
};

// How many elements of the input each window sees.
function windowCounts(
  { ops }: GradientContext,
  { kernel, strides, dilations, before }: Window,
  size: readonly number[],
  outSize: readonly number[],
): string {
  const perAxis = outSize.map((count, axis) =>
    Array.from({ length: count }, (_, index) => {
      const start = index * (strides[axis] ?? 1) - (before[axis] ?? 0);
      const seen = Array.from(
        { length: kernel[axis] ?? 1 },
        (_, step) => start + step * (dilations[axis] ?? 1),
      );
      return seen.filter((position) => position >= 0 && position < (size[axis] ?? 1)).length;
    }),
  );
  const counts = perAxis.reduce<number[]>(
    (found, axis) => found.flatMap((product) => axis.map((count) => product * count)),
    [1],
  );
  return ops.floats(Float32Array.from(counts), [1, 1, ...outSize]);
}

/** Pools with a window. */
export const poolingRules: GradientRules = { MaxPool: maxPool, AveragePool: averagePool };
