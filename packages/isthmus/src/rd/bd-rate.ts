/** What a codec costs and what it gives. */
export interface RatePoint {
  bpp: number;
  accuracy: number;
}

/** The points that no other beats: by rising rate, and with it rising accuracy. */
export function paretoHull<Point extends RatePoint>(points: readonly Point[]): Point[] {
  const hull: Point[] = [];
  for (const point of [...points].sort((a, b) => a.bpp - b.bpp || b.accuracy - a.accuracy)) {
    if (point.accuracy > (hull.at(-1)?.accuracy ?? Number.NEGATIVE_INFINITY)) hull.push(point);
  }
  return hull;
}

/**
 * Bjøntegaard delta rate: by how much `test` needs more bits than `anchor` for the same accuracy, on average over
 * the accuracies that both reach (G. Bjøntegaard, Calculation of average PSNR differences between RD-curves,
 * VCEG-M33, 2001). The logarithm of the rate is interpolated over accuracy by monotone piecewise cubics (PCHIP),
 * as in JCTVC-L1100, between the points of each one's Pareto hull.
 *
 * @returns percent, negative if `test` needs fewer bits; undefined if their accuracies do not overlap, or one has
 * fewer than two points.
 *
 * @example
 * ```ts
 * bdRatePercent([{ bpp: 1, accuracy: 0.5 }, { bpp: 2, accuracy: 0.7 }], [{ bpp: 0.5, accuracy: 0.5 }, { bpp: 1, accuracy: 0.7 }]); // -50
 * ```
 */
export function bdRatePercent(anchor: readonly RatePoint[], test: readonly RatePoint[]): number | undefined {
  const curves = [anchor, test].map((points) => {
    const hull = paretoHull(points.filter(({ bpp }) => bpp > 0));
    return { xs: hull.map(({ accuracy }) => accuracy), ys: hull.map(({ bpp }) => Math.log(bpp)) };
  });
  if (curves.some(({ xs }) => xs.length < 2)) return undefined;
  const low = Math.max(...curves.map(({ xs }) => xs[0]!));
  const high = Math.min(...curves.map(({ xs }) => xs.at(-1)!));
  if (!(high > low)) return undefined;
  const [anchorArea, testArea] = curves.map(({ xs, ys }) => integratePchip(xs, ys, low, high));
  return 100 * Math.expm1((testArea! - anchorArea!) / (high - low));
}

/**
 * The integral from `low` to `high` of the monotone piecewise cubic through the points (F. N. Fritsch, J. Butland,
 * A method for constructing local monotone piecewise cubic interpolants, 1984).
 *
 * @param xs Rising, at least two; `low` and `high` lie within.
 */
export function integratePchip(
  xs: readonly number[],
  ys: readonly number[],
  low: number,
  high: number,
): number {
  const slopes = pchipSlopes(xs, ys);
  let area = 0;
  for (let i = 0; i + 1 < xs.length; i++) {
    const [from, to] = [Math.max(low, xs[i]!), Math.min(high, xs[i + 1]!)];
    if (from >= to) continue;
    const at = (x: number): number => hermite(x, i, xs, ys, slopes);
    // Simpson's rule is exact for cubics.
    area += ((to - from) / 6) * (at(from) + 4 * at((from + to) / 2) + at(to));
  }
  return area;
}

function hermite(
  x: number,
  i: number,
  xs: readonly number[],
  ys: readonly number[],
  slopes: readonly number[],
): number {
  const width = xs[i + 1]! - xs[i]!;
  const t = (x - xs[i]!) / width;
  const [t2, t3] = [t * t, t * t * t];
  return (
    (2 * t3 - 3 * t2 + 1) * ys[i]! +
    (t3 - 2 * t2 + t) * width * slopes[i]! +
    (3 * t2 - 2 * t3) * ys[i + 1]! +
    (t3 - t2) * width * slopes[i + 1]!
  );
}

function pchipSlopes(xs: readonly number[], ys: readonly number[]): number[] {
  const widths = xs.slice(1).map((x, i) => x - xs[i]!);
  const secants = widths.map((width, i) => (ys[i + 1]! - ys[i]!) / width);
  if (secants.length === 1) return [secants[0]!, secants[0]!];
  const inner = secants.slice(1).map((after, i) => {
    const before = secants[i]!;
    if (before * after <= 0) return 0;
    const [w1, w2] = [2 * widths[i + 1]! + widths[i]!, widths[i + 1]! + 2 * widths[i]!];
    return (w1 + w2) / (w1 / before + w2 / after);
  });
  const last = secants.length - 1;
  return [
    endSlope(widths[0]!, widths[1]!, secants[0]!, secants[1]!),
    ...inner,
    endSlope(widths[last]!, widths[last - 1]!, secants[last]!, secants[last - 1]!),
  ];
}

// Three points' parabola at its end, kept from overshooting.
function endSlope(width: number, nextWidth: number, secant: number, nextSecant: number): number {
  const slope = ((2 * width + nextWidth) * secant - width * nextSecant) / (width + nextWidth);
  if (slope * secant <= 0) return 0;
  if (secant * nextSecant <= 0 && Math.abs(slope) > 3 * Math.abs(secant)) return 3 * secant;
  return slope;
}
