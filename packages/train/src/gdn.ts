import { float32Tensor } from '@isthmus/graph';
import type { Draft } from './draft.js';
import { Ops } from './ops.js';

// Parameters are stored as √(value + pedestal): their gradient does not vanish as the value comes to zero.
const pedestal = 2 ** -36;
// No divisor comes closer to zero than the root of this.
const smallestBeta = 1e-6;

export interface GdnOptions {
  /** Before the names of the parameters. */
  name: string;
  /** Multiplies in place of dividing: for decoders. @default false */
  inverse?: boolean;
}

/**
 * Generalized divisive normalization (Ballé, Laparra and Simoncelli, Density Modeling of Images using a Generalized
 * Normalization Transformation, 2016): y_i = x_i / √(β_i + Σ_j γ_ij x_j²) over the channels of
 * [batch, channels, height, width]. β and γ stay positive by a bound through which a gradient passes only where it
 * leads away from the bound's far side, as in the authors' implementation.
 */
export function gdn(draft: Draft, x: string, options: GdnOptions): string {
  const { name, inverse = false } = options;
  const ops = new Ops(draft);
  const [, channels = 1] = draft.shapeOf(x);
  const stored = (value: number): number => Math.sqrt(value + pedestal);
  const identity = Array.from({ length: channels ** 2 }, (_, index) =>
    stored(index % (channels + 1) === 0 ? 0.1 : 0),
  );
  const beta = draft.parameter(`${name}.beta`, float32Tensor(new Float32Array(channels).fill(stored(1))));
  const gamma = draft.parameter(`${name}.gamma`, float32Tensor(identity, [channels, channels, 1, 1]), {
    decays: false,
  });
  const boundedSquare = (parameter: string, least: number): string =>
    ops.shift(ops.square(lowerBound(draft, parameter, stored(least))), -pedestal);
  const energy = draft.node(
    'Conv',
    [ops.square(x), boundedSquare(gamma, 0), boundedSquare(beta, smallestBeta)],
    {
      kernel_shape: [1, 1],
    },
  );
  const norm = ops.unary('Sqrt', energy);
  return inverse ? ops.mul(x, norm) : ops.div(x, norm);
}

/**
 * The larger of a value and a bound. Below the bound a gradient passes if following it leads upwards, so that what
 * has fallen below can come back.
 */
export function lowerBound(draft: Draft, x: string, bound: number): string {
  const [output = ''] = draft.composite(
    'lower bound',
    [x],
    () => [draft.node('Max', [x, draft.scalar(bound)])],
    ({ draft, ops, gradient }) => {
      const passes = draft.node('Or', [
        ops.compare('GreaterOrEqual', x, bound),
        ops.compare('Less', gradient, 0),
      ]);
      return [ops.where(passes, gradient, 0)];
    },
  );
  return output;
}
