import type { Fidelity } from './fidelity.js';

/** A level as it was measured on the frames held out. */
export interface LevelMeasure extends Fidelity {
  /** Bits of the payload per element of the cut's float32 tensors. */
  bitsPerElement: number;
  /** Mean bytes of the payload. */
  numBytes: number;
}

const numLevels = 10;
/**
 * Steps tried to find the finest and the roughest level, as 8·log2 of multiples of the components' root mean square:
 * from 1/64 of it to 128 times.
 */
export const triedSteps: readonly number[] = Array.from({ length: 14 }, (_, i) => -48 + 8 * i);
// Shares of the divergence of a payload that says nothing.
const faithfulShare = 0.0002;
const uselessShare = 0.45;
/** Measures on a few frames are noisy: a level this little above the hull stays. */
const hullSlack = 1.1;
/** And on very few, one this far above it is looked at again. */
const nearFactor = 1.5;

/**
 * Steps from the roughest that still changes next to nothing to the finest that leaves next to nothing.
 *
 * @param rough What {@link triedSteps} did.
 */
export function chooseSteps(rough: readonly Pick<LevelMeasure, 'divergence'>[]): number[] {
  const most = largestDivergence(rough);
  const lastFaithful = rough.findLastIndex(({ divergence }) => divergence <= faithfulShare * most);
  const firstUseless = rough.findIndex(({ divergence }) => divergence > uselessShare * most);
  const finest = triedSteps[Math.max(0, lastFaithful)]!;
  const roughest = Math.max(
    finest + numLevels,
    triedSteps[firstUseless < 0 ? triedSteps.length - 1 : firstUseless]!,
  );
  return Array.from({ length: numLevels }, (_, i) =>
    Math.round(finest + ((roughest - finest) * i) / (numLevels - 1)),
  );
}

/** The levels that are of use: those on the convex hull of bytes and divergence, from the most bytes. */
export function onHull(measures: readonly LevelMeasure[]): number[] {
  const hull: number[] = [];
  const slack = faithfulShare * largestDivergence(measures);
  const order = [...measures.keys()].sort((a, b) => measures[b]!.numBytes - measures[a]!.numBytes);
  for (const level of order) {
    const next = measures[level]!;
    // More bytes for no less divergence are of no use.
    while (hull.length > 0 && measures[hull.at(-1)!]!.divergence >= next.divergence - slack / 4) hull.pop();
    while (hull.length >= 2) {
      const before = measures[hull.at(-2)!]!;
      const last = measures[hull.at(-1)!]!;
      const share = (before.numBytes - last.numBytes) / (before.numBytes - next.numBytes || 1);
      const between = before.divergence + share * (next.divergence - before.divergence);
      if (last.divergence <= between * hullSlack + slack) break;
      hull.pop();
    }
    hull.push(level);
  }
  return hull;
}

/** Of levels measured on few frames, those that may turn out to be of use on more. */
export function nearHull(measures: readonly LevelMeasure[]): number[] {
  const order = [...measures].sort((a, b) => a.numBytes - b.numBytes || a.divergence - b.divergence);
  const hull: LevelMeasure[] = [];
  for (const next of order) {
    const isAbove = (last: LevelMeasure, before: LevelMeasure): boolean =>
      (last.divergence - before.divergence) * (next.numBytes - before.numBytes) >=
      (next.divergence - before.divergence) * (last.numBytes - before.numBytes);
    while (hull.length >= 2 && isAbove(hull.at(-1)!, hull.at(-2)!)) hull.pop();
    hull.push(next);
  }
  const slack = faithfulShare * largestDivergence(measures);
  return [...measures.keys()].filter((level) => {
    const { numBytes, divergence } = measures[level]!;
    const after = hull.findIndex((one) => one.numBytes >= numBytes);
    const [before, next] = [hull[after - 1] ?? hull[after]!, hull[after]!];
    const share = (numBytes - before.numBytes) / (next.numBytes - before.numBytes || 1);
    const least = before.divergence + share * (next.divergence - before.divergence);
    return divergence <= nearFactor * least + slack;
  });
}

/** What was measured of one level on so many frames, and on so many others. */
export function pooled(a: LevelMeasure, numA: number, b: LevelMeasure, numB: number): LevelMeasure {
  const mean = (x: number, y: number): number => (numA * x + numB * y) / (numA + numB);
  return {
    agreement: mean(a.agreement, b.agreement),
    divergence: mean(a.divergence, b.divergence),
    numBytes: mean(a.numBytes, b.numBytes),
    bitsPerElement: mean(a.bitsPerElement, b.bitsPerElement),
  };
}

const largestDivergence = (measures: readonly Pick<LevelMeasure, 'divergence'>[]): number =>
  measures.reduce((most, { divergence }) => Math.max(most, divergence), 0);
