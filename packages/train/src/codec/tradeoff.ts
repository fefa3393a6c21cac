/** What a codec does at one step, on average. */
export interface CurvePoint {
  step: number;
  /** Bits of a frame. */
  rate: number;
  distortion: number;
}

/** What bits cost at each step, and how large the loss is there. */
export interface Tradeoff {
  /** Distortion that a bit is worth at a step. */
  lambda(step: number): number;
  /** Distortion and priced rate together where training begins: dividing by it makes all steps count the same. */
  loss(step: number): number;
}

// A step that hardly changes anything says nothing of the price.
const leastDifference = 1e-9;

/**
 * The price of a bit at which the curve that training starts from is left where it is: the slope of distortion over
 * rate. High-rate theory has it grow with the square of the step; measured, it is a power of the step, fitted by least
 * squares to the logarithms.
 *
 * @param curve At least two points, from the finest step.
 */
export function fitTradeoff(curve: readonly CurvePoint[]): Tradeoff {
  const points: { x: number; y: number }[] = [];
  for (const [index, next] of curve.entries()) {
    const last = curve[index - 1];
    if (last === undefined) continue;
    const [saved, lost] = [last.rate - next.rate, next.distortion - last.distortion];
    if (!(saved > leastDifference && lost > leastDifference)) continue;
    points.push({ x: Math.log(last.step * next.step) / 2, y: Math.log(lost / saved) });
  }
  const { slope, intercept } = fitLine(points);
  const lambda = (step: number): number => Math.exp(intercept + slope * Math.log(step));
  const losses = curve.map(({ step, rate, distortion }) => ({
    x: Math.log(step),
    y: Math.log(Math.max(leastDifference, distortion + lambda(step) * rate)),
  }));
  return { lambda, loss: (step) => Math.exp(interpolate(losses, Math.log(step))) };
}

function fitLine(points: readonly { x: number; y: number }[]): { slope: number; intercept: number } {
  const n = Math.max(1, points.length);
  const mx = points.reduce((sum, { x }) => sum + x, 0) / n;
  const my = points.reduce((sum, { y }) => sum + y, 0) / n;
  const sxx = points.reduce((sum, { x }) => sum + (x - mx) ** 2, 0);
  const sxy = points.reduce((sum, { x, y }) => sum + (x - mx) * (y - my), 0);
  // Of a single point, or none, the theory's square.
  const slope = sxx > 0 ? Math.max(0.5, sxy / sxx) : 2;
  return { slope, intercept: my - slope * mx };
}

function interpolate(points: readonly { x: number; y: number }[], x: number): number {
  const after = points.findIndex((point) => point.x >= x);
  const [a, b] = [points[Math.max(0, after - 1)], points[after < 0 ? points.length - 1 : after]];
  if (a === undefined || b === undefined) return 0;
  const share = b.x > a.x ? (x - a.x) / (b.x - a.x) : 0;
  return after < 0 ? b.y : a.y + Math.max(0, share) * (b.y - a.y);
}
