import { IsthmusError } from '@isthmus/core';
import type { Constant } from './nchw.js';
import type { Convolution } from './nchw-spatial.js';

/** Batch normalization with learned statistics, one entry per channel. */
export interface Normalization {
  scale: Float32Array;
  shift: Float32Array;
  mean: Float32Array;
  variance: Float32Array;
  epsilon: number;
}

/**
 * @param rank Of the tensor that is normalized; only its last axis, the channels, may be.
 * @throws IsthmusError `model/invalid`, `model/unsupported-operator`
 */
export function readNormalization(
  config: Readonly<Record<string, unknown>>,
  weight: (kind: string) => Constant | undefined,
  rank: number,
): Normalization {
  const { axis = -1, epsilon = 1e-3 } = config;
  const [channelAxis] = Array.isArray(axis) ? axis : [axis];
  if ((channelAxis !== -1 && channelAxis !== rank - 1) || (rank !== 2 && rank !== 4)) {
    throw new IsthmusError(
      'model/unsupported-operator',
      'only images and vectors are normalized, by channel.',
    );
  }
  const [mean, variance] = [weight('moving_mean')?.data, weight('moving_variance')?.data];
  if (mean === undefined || variance === undefined || typeof epsilon !== 'number') {
    throw new IsthmusError('model/invalid', 'the statistics of its batch normalization are missing.');
  }
  const scale = weight('gamma')?.data ?? new Float32Array(mean.length).fill(1);
  const shift = weight('beta')?.data ?? new Float32Array(mean.length);
  if ([variance, scale, shift].some((data) => data.length !== mean.length)) {
    throw new IsthmusError('model/invalid', 'the statistics of its batch normalization differ in length.');
  }
  return { scale, shift, mean, variance, epsilon };
}

/**
 * A convolution followed by a normalization, as one convolution:
 * (w·x + b − mean)·s + shift = (s·w)·x + (b − mean)·s + shift, with s = scale / √(variance + ε).
 *
 * @throws IsthmusError `model/invalid` if the channels differ.
 */
export function foldNormalization(conv: Convolution, by: Normalization): Convolution {
  const [outputs] = conv.kernelShape;
  if (by.mean.length !== outputs) {
    throw new IsthmusError(
      'model/invalid',
      `its normalization has ${by.mean.length} channels, not ${outputs}.`,
    );
  }
  const factors = Float64Array.from(by.scale, (scale, channel) => {
    return scale / Math.sqrt(by.variance[channel]! + by.epsilon);
  });
  const perOutput = conv.kernel.length / outputs;
  const kernel = conv.kernel.map((value, index) => value * factors[Math.floor(index / perOutput)]!);
  const bias = Float32Array.from(factors, (factor, channel) => {
    return ((conv.bias?.[channel] ?? 0) - by.mean[channel]!) * factor + by.shift[channel]!;
  });
  return { ...conv, kernel, bias };
}
