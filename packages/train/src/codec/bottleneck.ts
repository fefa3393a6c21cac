import { float32Tensor } from '@isthmus/graph';
import { drawWeights } from '../layers.js';
import { Ops } from '../ops.js';
import type { CodecArchitecture } from './architecture.js';
import { clipped } from './limits.js';
import { conv, lastPace, paced, silent } from './paced.js';
import { type TransformEncoderOptions, transformEncoder, transformPace } from './transform-encoder.js';

export interface BottleneckOptions extends TransformEncoderOptions {
  /** Channels of the decoder's residual network. @default 64 */
  width?: number;
}

/**
 * A codec at one cut that starts as `calibrated` is: a convolution over blocks to principal components, and the
 * transposed one back. The decoder adds what a small residual network sees in the neighbourhood; its last layer is
 * zero at first, so that training only improves on the transform (as in Goyal et al., Accurate, Large Minibatch SGD,
 * 2017, and Zhang, Dauphin and Ma, Fixup, 2019).
 */
export function bottleneck(options: BottleneckOptions): CodecArchitecture {
  const { start, numComponents, random, width = 64 } = options;
  const { tensor, layout, means } = start;
  const { channels, block } = layout;
  const size = channels * block * block;
  // Drawn once, so that every draft starts from the same.
  const firstKernel = drawWeights([width, numComponents, 3, 3], 9 * numComponents, random);
  const secondKernel = drawWeights([width, width, 3, 3], 9 * width, random);
  const encoder = transformEncoder(options);
  const { kernels, latentShape, deviations } = encoder;
  return {
    ...{ input: tensor, output: tensor, latentShape, deviations },
    addEncoder: encoder.add,
    addDecoder(draft, coded, level) {
      const ops = new Ops(draft);
      const [batch = 1] = draft.shapeOf(coded);
      const latent = encoder.addUngained(draft, coded);
      const backwardShape = [numComponents, channels, block, block];
      const weight = paced(draft, 'decoder.weight', kernels.backward, backwardShape, transformPace);
      const bias = paced(draft, 'decoder.bias', Float32Array.from(means), [channels], lastPace);
      const unit = ops.mul(latent, ops.floats(kernels.backwardFactors, [1, numComponents, 1, 1]));
      const grid = { kernel_shape: [block, block], strides: [block, block] };
      const linear = draft.node('ConvTranspose', [unit, weight, bias], grid);
      // On the grid of the latent; a block's positions are channels there.
      const seen = conv(draft, encoder.addEvened(draft, latent), 'decoder.first', firstKernel);
      const told = draft.parameter('decoder.level', float32Tensor(new Float32Array(width), [1, width, 1, 1]));
      const first = draft.node('Relu', [ops.add(seen, ops.mul(level, told))]);
      const second = draft.node('Relu', [conv(draft, first, 'decoder.second', secondKernel)]);
      const last = ops.scale(conv(draft, second, 'decoder.last', silent([size, width, 3, 3])), lastPace);
      const residual =
        block === 1 ? last : draft.node('DepthToSpace', [last], { blocksize: block, mode: 'CRD' });
      let maps = clipped(draft, ops.add(linear, residual), start);
      if (layout.channelsLast) {
        maps = ops.transpose(ops.reshape(maps, [batch, channels, layout.height]), [0, 2, 1]);
      }
      return ops.reshape(maps, [batch, ...tensor.shape.slice(1)]);
    },
  };
}
