import { elementCount } from '@isthmus/core';
import type { Ops } from '../ops.js';
import type { Convolution } from './transposed-convolution.js';
import { reachOf } from './windows.js';

/**
 * The gradient of a convolution's kernel, in the form that was quickest in ONNX Runtime on a CPU:
 *
 * - stride 1 and a small kernel, or a kernel of one element: one matrix product for each position in the kernel, of
 *   the output's gradient and the input as that position sees it (for depthwise ones a product element by element);
 * - else a convolution over the input with the output's gradient as the kernel, stride and dilation exchanged.
 *   Slices with a step are slow, and so are many of them.
 */
export function kernelGradient(ops: Ops, convolution: Convolution, x: string, gradient: string): string {
  const { window, group, input, kernel } = convolution;
  const hasUnitStride = window.strides.every((stride) => stride === 1);
  const numPositions = elementCount(window.kernel);
  const isSliced = numPositions === 1 || (hasUnitStride && numPositions <= 9);
  const isDepthwise = group > 1 && group === input[1] && kernel[0] === group;
  if (isSliced && group === 1) return byPosition(ops, convolution, x, gradient, matrixProduct);
  if (isDepthwise) {
    return isSliced
      ? byPosition(ops, convolution, x, gradient, channelProduct)
      : byConvolutionOfPlanes(ops, convolution, x, gradient);
  }
  return byConvolution(ops, convolution, x, gradient);
}

type Product = (ops: Ops, seen: string, gradient: string) => string;

// [batch, in, …] and [batch, out, …] to [out, in].
const matrixProduct: Product = (ops, seen, gradient) => {
  const flat = (name: string): string => {
    const [batch = 1, channels = 1, ...spatial] = ops.draft.shapeOf(name);
    return ops.reshape(name, [batch, channels, elementCount(spatial)]);
  };
  const [left, right] = [flat(gradient), flat(seen)];
  const [batch = 1, out = 1, places = 1] = ops.draft.shapeOf(left);
  const [, from = 1] = ops.draft.shapeOf(right);
  if (out * from <= places * (out + from)) {
    return ops.reduceSum(ops.matMul(left, ops.matrixTranspose(right)), [0], false);
  }
  // Small maps of many channels: one product for the batch, since one for each picture would be larger than the maps.
  const rows = ops.reshape(ops.transpose(left, [1, 0, 2]), [out, batch * places]);
  return ops.matMul(rows, ops.reshape(ops.transpose(right, [0, 2, 1]), [batch * places, from]));
};

// [batch, channels, …] twice to [channels, 1].
const channelProduct: Product = (ops, seen, gradient) => {
  const product = ops.mul(seen, gradient);
  const shape = ops.draft.shapeOf(product);
  const axes = shape.flatMap((_, axis) => (axis === 1 ? [] : [axis]));
  return ops.reshape(ops.reduceSum(product, axes, false), [shape[1] ?? 1, 1]);
};

function byPosition(
  ops: Ops,
  { window, output, kernel }: Convolution,
  x: string,
  gradient: string,
  product: Product,
): string {
  const spatial = output.slice(2);
  const axes = spatial.map((_, axis) => axis + 2);
  const padded = ops.pad(x, [0, 0, ...window.before, 0, 0, ...window.after]);
  const parts = positions(window.kernel).map((position) => {
    const starts = position.map((index, axis) => index * (window.dilations[axis] ?? 1));
    const steps = [...window.strides];
    const ends = starts.map((start, axis) => start + ((spatial[axis] ?? 1) - 1) * (steps[axis] ?? 1) + 1);
    const part = product(ops, ops.slice(padded, { starts, ends, axes, steps }), gradient);
    return ops.reshape(part, [...ops.draft.shapeOf(part), 1]);
  });
  return ops.reshape(ops.concat(parts, 2), kernel);
}

// Every index into a kernel, the last axis fastest.
function positions(kernel: readonly number[]): number[][] {
  return kernel.reduce<number[][]>(
    (found, size) => found.flatMap((start) => Array.from({ length: size }, (_, index) => [...start, index])),
    [[]],
  );
}

// Batch and channels change places, so that the convolution sums over the batch.
function byConvolution(ops: Ops, convolution: Convolution, x: string, gradient: string): string {
  const { group, input, kernel } = convolution;
  const [batch = 1, channels = 1, ...size] = input;
  const spatial = size.map((_, axis) => axis + 3);
  // One axis moved, which ONNX Runtime does much faster than two exchanged around a third.
  const data =
    group === 1
      ? ops.transpose(x, [1, 0, ...size.map((_, axis) => axis + 2)])
      : ops.transpose(ops.reshape(x, [batch, group, channels / group, ...size]), [2, 1, 0, ...spatial]);
  const weights = ops.transpose(gradient, [1, 0, ...size.map((_, axis) => axis + 2)]);
  const found = overWholeOutput(
    ops,
    convolution,
    ops.reshape(data, [channels / group, group * batch, ...size]),
    weights,
    group,
  );
  return ops.reshape(ops.transpose(found, [1, 0, ...size.map((_, axis) => axis + 2)]), kernel);
}

// Depthwise: every plane of the batch is a group, which needs no transposing.
function byConvolutionOfPlanes(ops: Ops, convolution: Convolution, x: string, gradient: string): string {
  const { input, output, kernel } = convolution;
  const [batch = 1, channels = 1, ...size] = input;
  const planes = batch * channels;
  const found = overWholeOutput(
    ops,
    convolution,
    ops.reshape(x, [1, planes, ...size]),
    ops.reshape(gradient, [planes, 1, ...output.slice(2)]),
    planes,
  );
  const perPlane = ops.reshape(found, [batch, channels, elementCount(kernel.slice(2))]);
  return ops.reshape(ops.reduceSum(perPlane, [0], false), kernel);
}

function overWholeOutput(
  ops: Ops,
  { window, input, output }: Convolution,
  data: string,
  weights: string,
  group: number,
): string {
  const { before, strides, dilations, kernel } = window;
  // Negative where the stride left something over at the end, of which the result then has too much.
  const after = kernel.map((_, axis) => {
    const covered = ((output[axis + 2] ?? 1) - 1) * (strides[axis] ?? 1) + reachOf(window, axis);
    return Math.max(0, covered - (input[axis + 2] ?? 1) - (before[axis] ?? 0));
  });
  const found = ops.draft.node('Conv', [data, weights], {
    kernel_shape: output.slice(2),
    strides: dilations,
    dilations: strides,
    pads: [...before, ...after],
    group,
  });
  const axes = kernel.map((_, axis) => axis + 2);
  return ops.slice(found, { starts: kernel.map(() => 0), ends: kernel, axes });
}
