import { bdRatePercent } from './bd-rate.js';
import { accuracyOf, type RdBdRate, type RdPoint, type RdResult } from './result.js';

/** What every method is held against, if it was measured. */
const anchors = ['webp', 'jpeg', 'avif'];

/** Each method against each anchor: over all its cuts, then path by path where it has several. */
export function compareMethods(points: readonly RdPoint[], metric: RdResult['metric']): RdBdRate[] {
  const rated = points.map((point) => ({ ...point, accuracy: accuracyOf(metric, point) }));
  const of = (method: string) => rated.filter((point) => point.method === method);
  const methods = [...new Set(points.map(({ method }) => method))];
  const rates: RdBdRate[] = [];
  for (const against of anchors.filter((anchor) => methods.includes(anchor))) {
    for (const method of methods.filter((name) => name !== against)) {
      const all = of(method);
      const paths = new Map(all.map(({ from, to }) => [`${from}-${to}`, { from, to }]));
      const groups = [{ from: null, to: null }, ...(paths.size > 1 ? paths.values() : [])];
      for (const { from, to } of groups) {
        const test = from === null ? all : all.filter((point) => point.from === from && point.to === to);
        rates.push({ method, from, to, against, percent: bdRatePercent(of(against), test) ?? null });
      }
    }
  }
  return rates;
}
