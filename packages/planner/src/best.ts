import type { Candidate } from './candidates.js';
import { type Constraints, isFeasible, type Objective } from './objective.js';
import { type PricedPlan, pricePlan, type Situation } from './price.js';

/** All candidates of a bundle, priced for one frame. */
export interface Weighed {
  all: readonly PricedPlan[];
  /** The best at each cut that the device runs to; undefined where nothing is allowed. */
  byCut: readonly (PricedPlan | undefined)[];
}

/**
 * Prices every candidate and finds the best at each cut: the most useful of those that keep the constraints, or, where
 * none does, the least bad.
 *
 * @param maxBytes What may be sent now.
 */
export function weighAll(
  candidates: readonly Candidate[],
  situation: Situation,
  objective: Objective,
  constraints: Constraints,
  maxBytes: number,
): Weighed {
  const all: PricedPlan[] = [];
  const byCut: (PricedPlan | undefined)[] = [];
  for (const candidate of candidates) {
    const priced = pricePlan(candidate, situation, objective);
    all.push(priced);
    if (priced.numBytes > maxBytes) continue;
    const before = byCut[candidate.deviceCut];
    if (before === undefined || isBetter(constraints, priced, before)) byCut[candidate.deviceCut] = priced;
  }
  return { all, byCut };
}

/** The best at the cuts that the predicate allows. */
export function bestAmong(
  { byCut }: Weighed,
  constraints: Constraints,
  isAllowed: (cut: number) => boolean,
  isWanted: (priced: PricedPlan) => boolean = () => true,
): PricedPlan | undefined {
  let best: PricedPlan | undefined;
  for (const [cut, priced] of byCut.entries()) {
    if (priced === undefined || !isAllowed(cut) || !isWanted(priced)) continue;
    if (best === undefined || isBetter(constraints, priced, best)) best = priced;
  }
  return best;
}

function isBetter(constraints: Constraints, a: PricedPlan, b: PricedPlan): boolean {
  const [x, y] = [isFeasible(constraints, a), isFeasible(constraints, b)];
  if (x !== y) return x;
  return x ? a.utility > b.utility : isLessBad(a, b);
}

// When nothing is feasible: rather in time than good.
function isLessBad(a: PricedPlan, b: PricedPlan): boolean {
  const [x, y] = [a.inTime * a.quality, b.inTime * b.quality];
  return x === y ? a.totalMs < b.totalMs : x > y;
}
