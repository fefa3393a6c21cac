import { elementCount } from '@isthmus/core';
import type { Attributes } from '../attributes.js';
import type { Ops } from '../ops.js';
import { reachOf, readWindow, type Window } from './windows.js';

/** A convolution's geometry. Shapes are [batch, channels, …] and, for the kernel, [out, in / group, …]. */
export interface Convolution {
  window: Window;
  group: number;
  input: readonly number[];
  kernel: readonly number[];
  output: readonly number[];
}

/** The geometry of a Conv node. */
export function readConvolution(
  attributes: Attributes,
  input: readonly number[],
  kernel: readonly number[],
  output: readonly number[],
): Convolution {
  const window = readWindow(attributes, kernel.slice(2), input.slice(2), output.slice(2));
  return { window, group: attributes.int('group', 1), input, kernel, output };
}

/**
 * The gradient of a convolution's input. With stride 1 that is a convolution with the kernel turned around, which
 * ONNX Runtime runs two to three times as fast as the ConvTranspose that it takes otherwise.
 */
export function transposedConvolution(
  ops: Ops,
  convolution: Convolution,
  gradient: string,
  kernel: string,
): string {
  const { window, group, input, output } = convolution;
  const reaches = window.kernel.map((_, axis) => reachOf(window, axis));
  const before = window.before.map((count, axis) => (reaches[axis] ?? 1) - 1 - count);
  const after = window.after.map((count, axis) => (reaches[axis] ?? 1) - 1 - count);
  const canTurn =
    window.strides.every((stride) => stride === 1) && [...before, ...after].every((count) => count >= 0);
  const { dilations } = window;
  if (canTurn) {
    const turned = turnKernel(ops, convolution, kernel);
    const pads = [...before, ...after];
    return ops.draft.node('Conv', [gradient, turned], {
      kernel_shape: window.kernel,
      dilations,
      pads,
      group,
    });
  }
  // What the stride left over at the end got no part in any output.
  const leftOver = window.kernel.map((_, axis) => {
    const covered = ((output[axis + 2] ?? 1) - 1) * (window.strides[axis] ?? 1) + (reaches[axis] ?? 1);
    return (input[axis + 2] ?? 1) - (covered - (window.before[axis] ?? 0) - (window.after[axis] ?? 0));
  });
  return ops.draft.node('ConvTranspose', [gradient, kernel], {
    kernel_shape: window.kernel,
    strides: window.strides,
    dilations,
    pads: [...window.before, ...window.after],
    output_padding: leftOver,
    group,
  });
}

// [out, in / group, …] becomes [in, out / group, …], every group for itself, and every spatial axis runs backwards.
function turnKernel(ops: Ops, { group, kernel: shape }: Convolution, kernel: string): string {
  const [out = 1, perGroup = 1, ...spatial] = shape;
  const grouped = ops.reshape(kernel, [group, out / group, perGroup, ...spatial]);
  const swapped = ops.transpose(grouped, [0, 2, 1, ...spatial.map((_, axis) => axis + 3)]);
  const whole = ops.reshape(swapped, [group * perGroup, out / group, ...spatial]);
  return elementCount(spatial) === 1
    ? whole
    : ops.flip(
        whole,
        spatial.map((_, axis) => axis + 2),
      );
}
