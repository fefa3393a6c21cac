import {
  cholesky,
  invertLower,
  multiply,
  type SquareMatrix,
  symmetricEigen,
  transpose,
} from './linear-algebra.js';
import { type BlockStatistics, gridOf, type MapLayout } from './maps.js';

/** The principal directions of blocks, and the variance along each. */
export interface Principal {
  /** Each a row. */
  directions: SquareMatrix;
  variances: Float64Array;
}

/** The Karhunen–Loève transform of blocks. */
export function principalDirections({ covariance }: BlockStatistics, layout: MapLayout): Principal {
  const { size } = gridOf(layout);
  const { values, vectors } = symmetricEigen({ size, data: covariance });
  return { directions: vectors, variances: values.map((value) => Math.max(value, 0)) };
}

/** A linear map of blocks to components and back. */
export interface Transform {
  numComponents: number;
  /** components × block size, or one factor for each channel. */
  forward: Float64Array;
  /** block size × components, or one factor for each channel. */
  backward: Float64Array;
  /** Whether channels are only scaled. */
  isDiagonal: boolean;
  /** Of each component, from the largest. */
  variances: Float64Array;
}

export interface TransformOptions {
  principal: Principal;
  /** See `measureSensitivity`, of the first principal directions. */
  sensitivity: Float64Array;
  numProbed: number;
  /** Share of equal sensitivity that is mixed in: what was measured on a few frames is not the whole truth. */
  shrink: number;
}

/**
 * The transform in whose components an error of equal size costs the output equally, whichever it hits, and that
 * leaves them uncorrelated: with G = L·Lᵀ the sensitivity and Λ the variances along the principal directions V, the
 * components are Eᵀ·Lᵀ·V·x, with E the eigenvectors of Lᵀ·Λ·L. One step for all components is then reverse
 * water-filling of the output's error (Cover & Thomas, section 10.3.3).
 */
export function fitTransform(options: TransformOptions): Transform {
  const { directions, variances } = options.principal;
  const { size } = directions;
  const { g, p, floor, lastMean } = regularize(options);
  const lower = cholesky({ size: p, data: g }, floor * 1e-6);
  const upper = transpose(lower.data, p, p);
  const inverse = invertLower(lower);
  // M = Lᵀ·Λ·L
  const scaled = Float64Array.from(lower.data, (value, index) => value * variances[Math.floor(index / p)]!);
  const { values, vectors } = symmetricEigen({ size: p, data: multiply(upper, scaled, p, p, p) });
  // Forward: Eᵀ·Lᵀ·V; backward: Vᵀ·L⁻ᵀ·E.
  const probed = directions.data.subarray(0, p * size);
  const forwardProbed = multiply(multiply(vectors.data, upper, p, p, p), probed, p, p, size);
  const backwardProbed = multiply(multiply(vectors.data, inverse.data, p, p, p), probed, p, p, size);
  const rest = Math.sqrt(lastMean);
  const components = Array.from({ length: size }, (_, index) =>
    index < p
      ? {
          variance: values[index]!,
          forward: forwardProbed.subarray(index * size, (index + 1) * size),
          backward: backwardProbed.subarray(index * size, (index + 1) * size),
        }
      : {
          variance: variances[index]! * lastMean,
          forward: directions.data.subarray(index * size, (index + 1) * size).map((value) => value * rest),
          backward: directions.data.subarray(index * size, (index + 1) * size).map((value) => value / rest),
        },
  ).sort((a, b) => b.variance - a.variance);
  const forward = new Float64Array(size * size);
  const rows = new Float64Array(size * size);
  components.forEach((component, index) => {
    forward.set(component.forward, index * size);
    rows.set(component.backward, index * size);
  });
  return {
    numComponents: size,
    isDiagonal: false,
    forward,
    backward: transpose(rows, size, size),
    variances: Float64Array.from(components, ({ variance }) => Math.max(variance, 0)),
  };
}

/**
 * No transform but a factor for each channel, the root of its sensitivity: for features of which most are zero, such
 * as after a ReLU, which stay zero in this way. Means are not taken off for the same reason.
 *
 * @param powers Mean squares of the channels.
 */
export function fitChannelFactors(
  options: TransformOptions,
  layout: MapLayout,
  powers: Float64Array,
): Transform {
  const { directions } = options.principal;
  const { size } = directions;
  const { g, p, lastMean } = regularize(options);
  const { channels, block } = layout;
  const area = block * block;
  const sensitivity = new Float64Array(channels);
  for (let i = 0; i < size; i++) {
    // The diagonal of Vᵀ·G·V, where directions that were not probed have the mean of the last.
    let sum = lastMean;
    for (let k = 0; k < p; k++) {
      const vk = directions.data[k * size + i]!;
      sum -= lastMean * vk * vk;
      for (let l = 0; l < p; l++) sum += vk * g[k * p + l]! * directions.data[l * size + i]!;
    }
    sensitivity[Math.floor(i / area)]! += sum / area;
  }
  const forward = sensitivity.map((value) => Math.sqrt(Math.max(value, lastMean * 1e-6)));
  return {
    numComponents: channels,
    isDiagonal: true,
    forward,
    backward: forward.map((value) => 1 / value),
    variances: powers.map((power, channel) => power * forward[channel]! ** 2),
  };
}

// The measured sensitivity with equal sensitivity mixed in, and what directions beyond those probed are taken to have.
function regularize({ sensitivity, numProbed: p, shrink }: TransformOptions): {
  g: Float64Array;
  p: number;
  floor: number;
  lastMean: number;
} {
  let trace = 0;
  for (let i = 0; i < p; i++) trace += sensitivity[i * p + i]!;
  const floor = trace > 0 ? (shrink * trace) / p : 1;
  const g = Float64Array.from(sensitivity, (value) => (1 - shrink) * value);
  let lastMean = 0;
  const numLast = Math.ceil(p / 4);
  for (let i = 0; i < p; i++) {
    g[i * p + i]! += floor;
    if (i >= p - numLast) lastMean += g[i * p + i]! / numLast;
  }
  return { g, p, floor, lastMean };
}
