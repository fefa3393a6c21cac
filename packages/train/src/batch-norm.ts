import { elementCount } from '@isthmus/core';
import { float32Tensor } from '@isthmus/graph';
import type { Draft } from './draft.js';
import { Ops } from './ops.js';

export interface BatchNormOptions {
  /** Before the names of its scale, bias, mean and variance. */
  name: string;
  /** @default 1e-5 */
  epsilon?: number;
}

/** What {@link batchNorm} gives. */
export interface NormalizedBatch {
  output: string;
  /** Of this batch, [channels]. */
  mean: string;
  /** Of this batch: the mean square of what is left when the mean is taken off, as in ONNX. */
  variance: string;
}

/**
 * Batch normalization with the statistics of the batch (Ioffe and Szegedy, 2015), with a gradient that takes a third
 * of the passes of the chain rule. The variance is that of centred values: the mean of squares less the square of the
 * mean loses digits that the gradient needs.
 *
 * Running averages of mean and variance are statistics of the draft, `NAME.mean` and `NAME.variance`: they are carried in
 * the training state, for {@link frozenBatchNorm} of the same name in a draft for inference.
 *
 * @example
 * ```ts
 * const { output } = batchNorm(draft, conv2d(draft, x, { name: 'a', bias: false, channels, kernel, random }), {
 *   name: 'a.bn',
 * });
 * ```
 */
export function batchNorm(draft: Draft, x: string, options: BatchNormOptions): NormalizedBatch {
  const { name, epsilon = 1e-5 } = options;
  const ops = new Ops(draft);
  const shape = draft.shapeOf(x);
  const [, channels = 1] = shape;
  const axes = shape.flatMap((_, axis) => (axis === 1 ? [] : [axis]));
  const like = shape.map((size, axis) => (axis === 1 ? size : 1));
  const count = elementCount(shape) / channels;
  const { scale, bias } = affineParameters(draft, name, channels);
  let [mean, centred, variance, rate] = ['', '', '', ''];
  const [output = ''] = draft.composite(
    'batch normalization',
    [x, scale, bias],
    () => {
      mean = ops.reduceMean(x, axes);
      centred = ops.sub(x, mean);
      variance = ops.reduceMean(ops.square(centred), axes);
      rate = ops.unary('Reciprocal', ops.unary('Sqrt', ops.shift(variance, epsilon)));
      const scaled = ops.mul(centred, ops.mul(rate, ops.reshape(scale, like)));
      return [ops.add(scaled, ops.reshape(bias, like))];
    },
    ({ ops, gradient, wants }) => {
      const sum = ops.reduceSum(gradient, axes);
      const along = ops.mul(ops.reduceSum(ops.mul(gradient, centred), axes), rate);
      const toInput = (): string => {
        const slope = ops.mul(rate, ops.reshape(scale, like));
        const back = ops.mul(centred, ops.scale(ops.mul(ops.mul(slope, rate), along), -1 / count));
        const level = ops.scale(ops.mul(slope, sum), -1 / count);
        return ops.add(ops.add(ops.mul(gradient, slope), back), level);
      };
      return [
        wants(0) ? toInput() : undefined,
        wants(1) ? ops.reshape(along, [channels]) : undefined,
        wants(2) ? ops.reshape(sum, [channels]) : undefined,
      ];
    },
  );
  const ofBatch = { mean: ops.reshape(mean, [channels]), variance: ops.reshape(variance, [channels]) };
  draft.statistic(`${name}.mean`, startingMean(channels), ofBatch.mean);
  draft.statistic(`${name}.variance`, startingVariance(channels), ofBatch.variance);
  return { output, ...ofBatch };
}

/**
 * Batch normalization with the statistics that training came to: an affine map. For inference, and to train on with
 * statistics that stay; then only scale and bias have gradients.
 *
 * @returns The output's name.
 */
export function frozenBatchNorm(draft: Draft, x: string, options: BatchNormOptions): string {
  const { name, epsilon = 1e-5 } = options;
  const [, channels = 1] = draft.shapeOf(x);
  const { scale, bias } = affineParameters(draft, name, channels);
  const mean = draft.statistic(`${name}.mean`, startingMean(channels));
  const variance = draft.statistic(`${name}.variance`, startingVariance(channels));
  return draft.node('BatchNormalization', [x, scale, bias, mean, variance], {
    epsilon: { float: epsilon },
  });
}

function affineParameters(draft: Draft, name: string, channels: number): { scale: string; bias: string } {
  return {
    scale: draft.parameter(`${name}.scale`, float32Tensor(new Float32Array(channels).fill(1))),
    bias: draft.parameter(`${name}.bias`, float32Tensor(new Float32Array(channels))),
  };
}

function startingMean(channels: number): ReturnType<typeof float32Tensor> {
  return float32Tensor(new Float32Array(channels));
}

function startingVariance(channels: number): ReturnType<typeof float32Tensor> {
  return float32Tensor(new Float32Array(channels).fill(1));
}
