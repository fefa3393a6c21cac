import { IsthmusError } from '@isthmus/core';

/** A tensor as maps: channels × height × width. */
export interface Maps {
  channels: number;
  height: number;
  width: number;
  /** Whether channels are the tensor's last axis (tokens) and not its second. */
  channelsLast: boolean;
}

/** How positions of a cut lie to those of the latent that is decoded to it. */
export interface LandingGeometry {
  /** Positions of the latent, along an edge, from one to the next of the convolution. */
  stride: number;
  /** Positions of the cut, along an edge, that the convolution gives at once, as channels. */
  block: number;
  /** Of the convolution: what belongs to its outputs, and one position more on every side. */
  kernel: number;
}

// Further apart, hardly anything of a neighbourhood is seen.
const largestRatio = 4;

/** A tensor's maps: [1, C, H, W] as it is, [1, T, D] as T positions, others as channels of one position. */
export function mapsOf(shape: readonly number[]): Maps {
  const [, first = 1, second = 1, third = 1] = shape;
  if (shape.length === 4) return { channels: first, height: second, width: third, channelsLast: false };
  if (shape.length === 3) return { channels: second, height: first, width: 1, channelsLast: true };
  const channels = shape.reduce((product, size) => product * size, 1);
  return { channels, height: 1, width: 1, channelsLast: false };
}

/**
 * How a latent's grid becomes a cut's.
 *
 * @throws IsthmusError `usage/invalid` if neither divides the other, or one is more than four times as fine.
 */
export function landingGeometry(
  latent: { rows: number; columns: number },
  { height, width }: Pick<Maps, 'height' | 'width'>,
): LandingGeometry {
  const { rows, columns } = latent;
  const block = height / rows;
  const stride = rows / height;
  const isFiner = Number.isInteger(block) && block * columns === width && block <= largestRatio;
  const isRougher = Number.isInteger(stride) && stride * width === columns && stride <= largestRatio;
  if (isFiner) return { stride: 1, block, kernel: 3 };
  if (isRougher) return { stride, block: 1, kernel: stride + 2 };
  throw new IsthmusError(
    'usage/invalid',
    `A latent of ${rows}×${columns} positions cannot land at ${height}×${width}. Choose a cut whose size is nearer.`,
  );
}

/** The block of a cut's positions, along an edge, whose latent has the grid of the cut to land at, as far as it can. */
export function blockFor(from: Maps, to: Maps, mostNumbers: number): number {
  let block = 1;
  const fits = (next: number): boolean =>
    next <= 8 &&
    from.height % next === 0 &&
    from.width % next === 0 &&
    from.channels * next * next <= mostNumbers &&
    from.height / next >= to.height;
  while (fits(2 * block)) block *= 2;
  return block;
}
