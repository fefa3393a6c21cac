import type { Candidate } from './candidates.js';
import { type Constraints, isFeasible, mostUtility, type Objective } from './objective.js';
import { type PricedPlan, pricePlan, type Situation } from './price.js';

/** What there is to choose from for one frame. */
export interface Weighed {
  /** The best at each cut that the device runs to; undefined where nothing is allowed. */
  byCut: readonly (PricedPlan | undefined)[];
  /** Prices every candidate, by what is known when it is called. */
  all(): PricedPlan[];
}

/**
 * Finds the best candidate at each cut: the most useful of those that keep the constraints, or, where none does, the
 * least bad. Only those are priced that can still be it: no answer is worth more than its quality.
 *
 * @param candidates From each cut the best first, as `listCandidates` gives them.
 * @param maxBytes What may be sent now.
 */
export function weighAll(
  candidates: readonly Candidate[],
  situation: Situation,
  objective: Objective,
  constraints: Constraints,
  maxBytes: number,
): Weighed {
  const byCut: (PricedPlan | undefined)[] = [];
  for (const candidate of candidates) {
    const before = byCut[candidate.deviceCut];
    if (before !== undefined && isFeasible(constraints, before)) {
      if (before.utility >= mostUtility(objective, candidate.quality)) continue;
    }
    const priced = pricePlan(candidate, situation, objective);
    if (priced.numBytes > maxBytes) continue;
    if (before === undefined || isBetter(constraints, priced, before)) byCut[candidate.deviceCut] = priced;
  }
  return {
    byCut,
    all: () => candidates.map((candidate) => pricePlan(candidate, situation, objective)),
  };
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
