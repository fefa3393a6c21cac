import type { Tensor } from '@isthmus/core';
import { type CutTransform, float32Tensor } from '@isthmus/graph';
import type { Draft } from '../draft.js';
import { drawWeights } from '../layers.js';
import { Ops } from '../ops.js';
import type { CodecArchitecture } from './architecture.js';

/**
 * How much slower the transform moves than the residual network: Adam moves every weight equally far, and hundreds of
 * them together would undo in a few steps what the large components need to be exact to a small one's size.
 */
const transformPace = 0.03;
/** The residual network's last layer, which starts at zero, moves all outputs at once. */
const lastPace = 0.2;
/** Factors of whole components, of which there are few, may move faster: they say which get more bits. */
const gainPace = 0.3;
// Components are made equally large for the residual network, but for those that hardly ever speak.
const leastDeviation = 0.1;

export interface BottleneckOptions {
  /** Where training starts from. */
  start: CutTransform;
  /** Components of the transform that are kept, the largest first. */
  numComponents: number;
  /** In [0, 1): draws the weights that do not come from the transform. */
  random: () => number;
  /** Channels of the decoder's residual network. @default 64 */
  width?: number;
}

/**
 * A codec at one cut that starts as `calibrated` is: a convolution over blocks to principal components, and the
 * transposed one back. The decoder adds what a small residual network sees in the neighbourhood; its last layer is
 * zero at first, so that training only improves on the transform (as in Goyal et al., Accurate, Large Minibatch SGD,
 * 2017, and Zhang, Dauphin and Ma, Fixup, 2019).
 *
 * What is trained of the transform are changes to it, in units that one learning rate suits.
 */
export function bottleneck(options: BottleneckOptions): CodecArchitecture {
  const { start, numComponents, random, width = 64 } = options;
  const { tensor, layout, transform, means, low, high } = start;
  const { channels, block } = layout;
  const rows = layout.height / block;
  const columns = layout.width / block;
  const size = channels * block * block;
  const { scale, deviations } = unitScale(transform.variances, numComponents);
  const kernels = scaledKernels(start, numComponents, scale);
  const grid = { kernel_shape: [block, block], strides: [block, block] };
  const factorShape = [1, numComponents, 1, 1];
  // Drawn once, so that every draft starts from the same.
  const firstKernel = drawWeights([width, numComponents, 3, 3], 9 * numComponents, random);
  const secondKernel = drawWeights([width, width, 3, 3], 9 * width, random);
  const lastKernel = float32Tensor(new Float32Array(size * width * 9), [size, width, 3, 3]);
  // Encoder and decoder share them, and one draft may hold both.
  const gainOf = (draft: Draft): string => {
    const ops = new Ops(draft);
    const name = 'gain';
    if (!draft.has(name)) draft.parameter(name, float32Tensor(new Float32Array(numComponents), factorShape));
    return ops.unary('Exp', ops.scale(name, gainPace));
  };
  return {
    input: tensor,
    latentShape: [1, numComponents, rows, columns],
    deviations,
    addEncoder(draft, x) {
      const ops = new Ops(draft);
      const [batch = 1] = draft.shapeOf(x);
      let maps = layout.channelsLast ? ops.transpose(x, [0, 2, 1]) : x;
      maps = ops.reshape(maps, [batch, channels, layout.height, layout.width]);
      const centred = ops.sub(maps, ops.floats(Float32Array.from(means), [1, channels, 1, 1]));
      const forwardShape = [numComponents, channels, block, block];
      const weight = paced(draft, 'encoder.weight', kernels.forward, forwardShape, transformPace);
      const bias = draft.parameter('encoder.bias', float32Tensor(new Float32Array(numComponents)));
      const unit = draft.node('Conv', [centred, weight, bias], grid);
      return ops.mul(unit, ops.mul(gainOf(draft), ops.floats(kernels.forwardFactors, factorShape)));
    },
    addDecoder(draft, coded, level) {
      const ops = new Ops(draft);
      const [batch = 1] = draft.shapeOf(coded);
      const latent = ops.div(coded, gainOf(draft));
      const backwardShape = [numComponents, channels, block, block];
      const weight = paced(draft, 'decoder.weight', kernels.backward, backwardShape, transformPace);
      const bias = paced(draft, 'decoder.bias', Float32Array.from(means), [channels], lastPace);
      const unit = ops.mul(latent, ops.floats(kernels.backwardFactors, factorShape));
      const linear = draft.node('ConvTranspose', [unit, weight, bias], grid);
      // On the grid of the latent; a block's positions are channels there.
      const even = Float32Array.from(deviations, (deviation) => 1 / (deviation + leastDeviation));
      const evened = ops.mul(latent, ops.floats(even, factorShape));
      const seen = conv(draft, evened, 'decoder.first', firstKernel);
      const told = draft.parameter('decoder.level', float32Tensor(new Float32Array(width), [1, width, 1, 1]));
      const first = draft.node('Relu', [ops.add(seen, ops.mul(level, told))]);
      const second = draft.node('Relu', [conv(draft, first, 'decoder.second', secondKernel)]);
      const last = ops.scale(conv(draft, second, 'decoder.last', lastKernel), lastPace);
      const residual =
        block === 1 ? last : draft.node('DepthToSpace', [last], { blocksize: block, mode: 'CRD' });
      let maps = ops.add(linear, residual);
      if (low !== undefined) {
        const bounds = [maps, draft.scalar(low)];
        maps = draft.node('Clip', high === undefined ? bounds : [...bounds, draft.scalar(high)]);
      }
      if (layout.channelsLast) {
        maps = ops.transpose(ops.reshape(maps, [batch, channels, layout.height]), [0, 2, 1]);
      }
      return ops.reshape(maps, [batch, ...tensor.shape.slice(1)]);
    },
  };
}

// A parameter that the optimizer moves `pace` times as fast as others.
function paced(
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

function conv(draft: Draft, x: string, name: string, kernel: Tensor<'float32'>): string {
  const [channels = 1] = kernel.shape;
  const weight = draft.parameter(`${name}.weight`, kernel);
  const bias = draft.parameter(`${name}.bias`, float32Tensor(new Float32Array(channels)));
  return draft.node('Conv', [x, weight, bias], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] });
}

/** How many components are larger than a share of a step: smaller ones are never anything but zero. */
export function countComponents({ transform: { variances } }: CutTransform, leastShare: number): number {
  const { deviations } = unitScale(variances, variances.length);
  const count = deviations.findLastIndex((deviation) => deviation > leastShare) + 1;
  return Math.max(1, count);
}

// All components together have a root mean square of 1.
function unitScale(
  variances: Float64Array,
  numComponents: number,
): { scale: number; deviations: Float64Array } {
  const power = variances.reduce((sum, value) => sum + value, 0) / variances.length;
  const scale = power > 0 ? 1 / Math.sqrt(power) : 1;
  return { scale, deviations: variances.slice(0, numComponents).map((value) => Math.sqrt(value) * scale) };
}

interface Kernels {
  /** components × block size; rows of length 1. */
  forward: Float32Array<ArrayBuffer>;
  forwardFactors: Float32Array<ArrayBuffer>;
  backward: Float32Array<ArrayBuffer>;
  backwardFactors: Float32Array<ArrayBuffer>;
}

function scaledKernels({ transform }: CutTransform, numComponents: number, scale: number): Kernels {
  const { forward, backward } = transform;
  const total = transform.numComponents;
  const size = forward.length / total;
  const kernels: Kernels = {
    forward: new Float32Array(numComponents * size),
    forwardFactors: new Float32Array(numComponents),
    backward: new Float32Array(numComponents * size),
    backwardFactors: new Float32Array(numComponents),
  };
  for (let k = 0; k < numComponents; k++) {
    const there = Float64Array.from({ length: size }, (_, i) => (forward[k * size + i] ?? 0) * scale);
    const back = Float64Array.from({ length: size }, (_, i) => (backward[i * total + k] ?? 0) / scale);
    kernels.forwardFactors[k] = lengthOf(there);
    kernels.backwardFactors[k] = lengthOf(back);
    kernels.forward.set(
      there.map((value) => value / lengthOf(there)),
      k * size,
    );
    kernels.backward.set(
      back.map((value) => value / lengthOf(back)),
      k * size,
    );
  }
  return kernels;
}

function lengthOf(values: Float64Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0)) || 1;
}
