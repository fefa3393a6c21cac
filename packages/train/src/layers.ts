import { elementCount, type Tensor } from '@isthmus/core';
import { float32Tensor } from '@isthmus/graph';
import type { Draft } from './draft.js';

export interface ConvolutionOptions {
  /** Before the names of the parameters. */
  name: string;
  channels: number;
  /** Height and width of the kernel; odd, so that it has a middle. */
  kernel: number;
  /** @default 1 */
  stride?: number;
  /** @default 1; as many as there are channels for a depthwise one */
  group?: number;
  /** @default true */
  bias?: boolean;
  /** In [0, 1): draws the weights to start from. */
  random: () => number;
}

/** Weights drawn as suits layers that Relu follows (He et al., Delving Deep into Rectifiers, 2015). */
export function drawWeights(
  shape: readonly number[],
  fanIn: number,
  random: () => number,
): Tensor<'float32'> {
  const limit = Math.sqrt(6 / fanIn);
  const values = Float32Array.from({ length: elementCount(shape) }, () => limit * (2 * random() - 1));
  return float32Tensor(values, shape);
}

/** A convolution of [batch, channels, height, width] that keeps the size, or divides it by the stride, rounded up. */
export function conv2d(draft: Draft, x: string, options: ConvolutionOptions): string {
  const { name, channels, kernel, stride = 1, group = 1, bias = true, random } = options;
  const [, from = 1] = draft.shapeOf(x);
  const perGroup = from / group;
  const fanIn = perGroup * kernel ** 2;
  const weights = drawWeights([channels, perGroup, kernel, kernel], fanIn, random);
  const inputs = [x, draft.parameter(`${name}.weight`, weights)];
  if (bias) inputs.push(draft.parameter(`${name}.bias`, float32Tensor(new Float32Array(channels))));
  const pad = kernel >> 1;
  return draft.node('Conv', inputs, {
    kernel_shape: [kernel, kernel],
    strides: [stride, stride],
    pads: [pad, pad, pad, pad],
    group,
  });
}

/** A transposed convolution that multiplies height and width by the stride. */
export function convTranspose2d(draft: Draft, x: string, options: Omit<ConvolutionOptions, 'group'>): string {
  const { name, channels, kernel, stride = 1, bias = true, random } = options;
  const [, from = 1] = draft.shapeOf(x);
  const fanIn = (from * kernel ** 2) / stride ** 2;
  const weights = drawWeights([from, channels, kernel, kernel], fanIn, random);
  const inputs = [x, draft.parameter(`${name}.weight`, weights)];
  if (bias) inputs.push(draft.parameter(`${name}.bias`, float32Tensor(new Float32Array(channels))));
  const pad = kernel >> 1;
  const extra = stride + 2 * pad - kernel;
  return draft.node('ConvTranspose', inputs, {
    kernel_shape: [kernel, kernel],
    strides: [stride, stride],
    pads: [pad, pad, pad, pad],
    output_padding: [extra, extra],
  });
}

/** Two 3×3 convolutions with a Relu between them, added to what comes in (He et al., 2016). */
export function residualBlock(
  draft: Draft,
  x: string,
  options: { name: string; random: () => number },
): string {
  const { name, random } = options;
  const [, channels = 1] = draft.shapeOf(x);
  const first = conv2d(draft, x, { name: `${name}.first`, channels, kernel: 3, random });
  const second = conv2d(draft, draft.node('Relu', [first]), {
    ...{ name: `${name}.second`, channels, kernel: 3 },
    random,
  });
  return draft.node('Add', [x, second]);
}

/** [batch, channels · block², height, width] to [batch, channels, height · block, width · block] (Shi et al., 2016). */
export function pixelShuffle(draft: Draft, x: string, block: number): string {
  return draft.node('DepthToSpace', [x], { blocksize: block, mode: 'CRD' });
}

/** Rounding that gradients go through as if it were not there. */
export function roundStraightThrough(draft: Draft, x: string): string {
  return draft.node('Round', [x]);
}

/**
 * Adds noise, which stands for rounding while training when it is uniform from −½ to ½ (Ballé, Laparra and
 * Simoncelli, End-to-end Optimized Image Compression, 2017). The noise is an input of the graph, so that a run can be
 * repeated.
 */
export function addNoise(draft: Draft, x: string, inputName: string): string {
  const noise = draft.input(inputName, 'float32', draft.shapeOf(x));
  return draft.node('Add', [x, noise]);
}
