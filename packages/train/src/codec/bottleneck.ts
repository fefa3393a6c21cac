import { type CutTransform, float32Tensor } from '@isthmus/graph';
import type { Draft } from '../draft.js';
import { conv2d } from '../layers.js';
import { Ops } from '../ops.js';
import type { CodecArchitecture } from './architecture.js';

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
 * Kernels are stored with rows of length 1 and a constant factor beside them, so that one learning rate suits all.
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
  const drawn = new Map<string, Float32Array>();
  const drawnOnce = (draft: Draft, x: string, name: string, channels: number): string => {
    const key = `${name}.weight`;
    let next = 0;
    const known = drawn.get(key);
    const values: number[] = [];
    const draw = (): number => {
      const value = known?.[next++] ?? random();
      values.push(value);
      return value;
    };
    const y = conv2d(draft, x, { name, channels, kernel: 3, random: draw });
    if (known === undefined) drawn.set(key, Float32Array.from(values));
    return y;
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
      const weight = draft.parameter(
        'encoder.weight',
        float32Tensor(kernels.forward, [numComponents, channels, block, block]),
      );
      const bias = draft.parameter('encoder.bias', float32Tensor(new Float32Array(numComponents)));
      const unit = draft.node('Conv', [centred, weight, bias], grid);
      return ops.mul(unit, ops.floats(kernels.forwardFactors, factorShape));
    },
    addDecoder(draft, latent, level) {
      const ops = new Ops(draft);
      const [batch = 1] = draft.shapeOf(latent);
      const weight = draft.parameter(
        'decoder.weight',
        float32Tensor(kernels.backward, [numComponents, channels, block, block]),
      );
      const bias = draft.parameter('decoder.bias', float32Tensor(Float32Array.from(means)));
      const unit = ops.mul(latent, ops.floats(kernels.backwardFactors, factorShape));
      const linear = draft.node('ConvTranspose', [unit, weight, bias], grid);
      // On the grid of the latent; a block's positions are channels there.
      const even = Float32Array.from(deviations, (deviation) => 1 / (deviation + leastDeviation));
      const seen = drawnOnce(draft, ops.mul(latent, ops.floats(even, factorShape)), 'decoder.first', width);
      const told = draft.parameter('decoder.level', float32Tensor(new Float32Array(width), [1, width, 1, 1]));
      const first = draft.node('Relu', [ops.add(seen, ops.mul(level, told))]);
      const second = draft.node('Relu', [drawnOnce(draft, first, 'decoder.second', width)]);
      const last = draft.node(
        'Conv',
        [
          second,
          draft.parameter(
            'decoder.last.weight',
            float32Tensor(new Float32Array(size * width * 9), [size, width, 3, 3]),
          ),
          draft.parameter('decoder.last.bias', float32Tensor(new Float32Array(size))),
        ],
        { kernel_shape: [3, 3], pads: [1, 1, 1, 1] },
      );
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
