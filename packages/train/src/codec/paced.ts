import type { Tensor } from '@isthmus/core';
import { float32Tensor } from '@isthmus/graph';
import type { Draft } from '../draft.js';
import { Ops } from '../ops.js';

/** Of a last layer that starts at zero: it moves all outputs at once. */
export const lastPace = 0.2;

/** A parameter that the optimizer moves `pace` times as fast as others, which it moves all equally far. */
export function paced(
  draft: Draft,
  name: string,
  values: Float32Array,
  shape: readonly number[],
  pace: number,
): string {
  const stored = float32Tensor(
    values.map((value) => value / pace),
    shape,
  );
  return new Ops(draft).scale(draft.parameter(name, stored), pace);
}

/** A convolution with a bias that starts at zero; it keeps the size, or divides it by the stride. */
export function conv(
  draft: Draft,
  x: string,
  name: string,
  kernel: Tensor<'float32'>,
  stride: number = 1,
): string {
  const [channels = 1, , size = 1] = kernel.shape;
  const weight = draft.parameter(`${name}.weight`, kernel);
  const bias = draft.parameter(`${name}.bias`, float32Tensor(new Float32Array(channels)));
  return draft.node('Conv', [x, weight, bias], strideOf(size, stride));
}

/** Attributes of a convolution whose outputs lie in the middle of what they see. */
export function strideOf(
  size: number,
  stride: number,
): { kernel_shape: number[]; strides: number[]; pads: number[] } {
  const pad = Math.max(0, Math.ceil((size - stride) / 2));
  return { kernel_shape: [size, size], strides: [stride, stride], pads: [pad, pad, pad, pad] };
}

/** A kernel of zeros: of a layer that says nothing until it is trained. */
export function silent(shape: readonly number[]): Tensor<'float32'> {
  return float32Tensor(new Float32Array(shape.reduce((product, size) => product * size, 1)), shape);
}
