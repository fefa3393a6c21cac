import { paretoHull, type RatePoint } from './bd-rate.js';

/** Points of accuracy given up, for which reports state the rate. */
export const losses = [0.005, 0.01, 0.02, 0.05, 0.1] as const;

/** The rate for an accuracy; `atMost` if even the cheapest point is better. */
export interface RateAt {
  bpp: number;
  atMost: boolean;
}

/**
 * Bits per pixel that a method needs for an accuracy, log-linear between the points of its Pareto hull.
 *
 * @returns undefined if it never reaches that accuracy
 */
export function rateAt(points: readonly RatePoint[], accuracy: number): RateAt | undefined {
  const hull = paretoHull(points.filter(({ bpp }) => bpp > 0));
  const index = hull.findIndex((point) => point.accuracy >= accuracy);
  if (index < 0) return undefined;
  const above = hull[index]!;
  const below = hull[index - 1];
  if (below === undefined) return { bpp: above.bpp, atMost: above.accuracy > accuracy };
  const share = (accuracy - below.accuracy) / (above.accuracy - below.accuracy);
  return { bpp: below.bpp ** (1 - share) * above.bpp ** share, atMost: false };
}

/** For tables: `0.61`, `≤ 0.25`, or `–`. */
export function formatRateAt(rate: RateAt | undefined): string {
  return rate === undefined ? '–' : `${rate.atMost ? '≤ ' : ''}${rate.bpp.toFixed(rate.bpp < 0.1 ? 3 : 2)}`;
}
