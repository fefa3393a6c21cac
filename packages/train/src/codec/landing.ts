import { float32Tensor } from '@isthmus/graph';
import type { Draft } from '../draft.js';
import { drawWeights } from '../layers.js';
import { Ops } from '../ops.js';
import type { CodecArchitecture } from './architecture.js';
import type { LinearLanding } from './fit-landing.js';
import type { LandingGeometry, Maps } from './landing-geometry.js';
import { clipped } from './limits.js';
import { conv, lastPace, paced, silent, strideOf } from './paced.js';
import { evenFactors, type TransformEncoderOptions, transformEncoder } from './transform-encoder.js';

/** Of the linear part of the decoder, which starts sound but not exact. */
const linearPace = 0.1;

/** Components that the residual network sees, the largest first. */
const mostSeen = 128;

/** How large a decoder's residual network is. */
export interface DecoderShape {
  /** Channels. */
  width: number;
  /** Residual blocks of two 3×3 convolutions. */
  numBlocks: number;
}

export type DecoderName = 'small' | 'medium' | 'large';

/**
 * Residual networks by name: the more layers between the cuts, and the less linear, the more is to be made up for. To 256
 * channels at 14 × 14, they take 60, 130 and 340 million multiply-adds.
 */
export const landingDecoders: Readonly<Record<DecoderName, DecoderShape>> = {
  small: { width: 64, numBlocks: 1 },
  medium: { width: 96, numBlocks: 2 },
  large: { width: 160, numBlocks: 3 },
};

export interface LandingOptions extends TransformEncoderOptions {
  /** The tensor of the cut to land at. */
  output: { readonly name: string; readonly shape: readonly number[] };
  maps: Maps;
  geometry: LandingGeometry;
  linear: LinearLanding;
  /** @default landingDecoders.medium */
  decoder?: DecoderShape;
}

/**
 * A codec that lands at a later cut than it leaves. Its encoder starts as the transform of the cut that it leaves, its
 * decoder as the linear map of {@link fitLanding}; what is not linear of the segments between is left to a residual
 * network, which is zero at first.
 */
export function landing(options: LandingOptions): CodecArchitecture {
  const {
    start,
    numComponents,
    output,
    maps,
    geometry,
    linear,
    random,
    decoder = landingDecoders.medium,
  } = options;
  const { width, numBlocks } = decoder;
  const { stride, block, kernel } = geometry;
  const { channels } = maps;
  const numOutputs = channels * block * block;
  const encoder = transformEncoder(options);
  const { deviations, latentShape } = encoder;
  const evening = evenFactors(deviations);
  const numSeen = Math.min(numComponents, mostSeen);
  const { numWide } = linear;
  const kernels = {
    wide: { size: kernel, first: 0, count: numWide, values: linear.wide },
    narrow: { size: stride, first: numWide, count: numComponents - numWide, values: linear.narrow },
  };
  // In units of what goes in and what comes out, so that all weights are about equally large.
  const deviationOf = (out: number): number => linear.deviations[Math.floor(out / (block * block))] ?? 1;
  const unitOf = ({ size, first, count, values }: (typeof kernels)['wide']): Float32Array =>
    values.map((value, index) => {
      const component = first + (Math.floor(index / size ** 2) % count);
      return value / (evening[component] ?? 1) / deviationOf(Math.floor(index / (size ** 2 * count)));
    });
  const units = { wide: unitOf(kernels.wide), narrow: unitOf(kernels.narrow) };
  const biases = linear.bias.map((value, index) => value / deviationOf(index));
  const seenShape = [width, numSeen, kernel, kernel];
  const firstKernel = drawWeights(seenShape, numSeen * kernel * kernel, random);
  const blocks = Array.from({ length: numBlocks }, () =>
    drawWeights([width, width, 3, 3], 9 * width, random),
  );
  return {
    ...{ input: start.tensor, output, latentShape, deviations },
    addEncoder: encoder.add,
    addDecoder(draft, coded, level) {
      const ops = new Ops(draft);
      const [batch = 1] = draft.shapeOf(coded);
      const evened = encoder.addEvened(draft, encoder.addUngained(draft, coded));
      const taking = (first: number, count: number): string =>
        ops.slice(evened, { starts: [first], ends: [first + count], axes: [1] });
      const straightOf = (name: 'wide' | 'narrow', bias: readonly string[]): string => {
        const { size, first, count } = kernels[name];
        const shape = [numOutputs, count, size, size];
        const weight = paced(draft, `decoder.${name}`, units[name], shape, linearPace);
        return draft.node('Conv', [taking(first, count), weight, ...bias], strideOf(size, stride));
      };
      const bias = paced(draft, 'decoder.bias', biases, [numOutputs], lastPace);
      let straight = straightOf('wide', [bias]);
      if (kernels.narrow.count > 0) straight = ops.add(straight, straightOf('narrow', []));
      const seen = conv(draft, taking(0, numSeen), 'decoder.first', firstKernel, stride);
      const told = draft.parameter('decoder.level', float32Tensor(new Float32Array(width), [1, width, 1, 1]));
      let state = draft.node('Relu', [ops.add(seen, ops.mul(level, told))]);
      for (const [index, drawn] of blocks.entries()) {
        const name = `decoder.block${index}`;
        const inner = draft.node('Relu', [conv(draft, state, `${name}.first`, drawn)]);
        state = ops.add(state, conv(draft, inner, `${name}.second`, silent([width, width, 3, 3])));
      }
      const last = conv(draft, state, 'decoder.last', silent([numOutputs, width, 3, 3]));
      let decoded = ops.add(straight, ops.scale(last, lastPace));
      if (block > 1) decoded = draft.node('DepthToSpace', [decoded], { blocksize: block, mode: 'CRD' });
      decoded = ops.mul(decoded, ops.floats(linear.deviations, [1, channels, 1, 1]));
      return shaped(draft, clipped(draft, decoded, linear), { batch, maps, shape: output.shape });
    },
  };
}

function shaped(
  draft: Draft,
  x: string,
  { batch, maps, shape }: { batch: number; maps: Maps; shape: readonly number[] },
): string {
  const ops = new Ops(draft);
  const { channels, height, channelsLast } = maps;
  const tokens = channelsLast ? ops.transpose(ops.reshape(x, [batch, channels, height]), [0, 2, 1]) : x;
  return ops.reshape(tokens, [batch, ...shape.slice(1)]);
}
