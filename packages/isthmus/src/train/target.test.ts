import { describe, expect, it } from 'vitest';
import { comparedCuts } from './choice.js';
import type { Evaluation } from './evaluate.js';
import { choosePictureTarget, chooseTarget, createPoints, landingRange, triedSteps } from './target.js';

/** A codec whose output is lost around a step of `middle`. */
function tryAll(middle: number): Evaluation[] {
  return triedSteps.map((step) => {
    const outputs = (4 * step ** 2) / (step ** 2 + middle ** 2);
    const rate = 1000 * Math.log2(1 + (8 * middle) / step);
    return {
      agreement: 1 - outputs / 4,
      terms: { rate, outputs, features: outputs / 10, later: outputs / 40 },
    };
  });
}

describe('what a training aims at', () => {
  it('goes from steps that change next to nothing to those that leave little', () => {
    const { steps, curve } = chooseTarget(tryAll(2));
    expect(steps).toHaveLength(10);
    expect(steps).toEqual([...steps].sort((a, b) => a - b));
    const [finest = 0, roughest = 0] = [steps[0], steps.at(-1)];
    expect(finest).toBeLessThan(0.1);
    expect(finest).toBeGreaterThan(0.01);
    expect(roughest).toBeGreaterThan(0.5);
    expect(roughest).toBeLessThan(4);
    expect(curve[0]?.step).toBeCloseTo(finest, 9);
    expect(curve.at(-1)?.step).toBeCloseTo(roughest, 9);
  });

  it('weighs errors at cuts by what they are beside those of the outputs', () => {
    const { prices } = chooseTarget(tryAll(2));
    expect(prices.outputs).toBe(1);
    expect(prices.features).toBeCloseTo(2.5, 6);
    expect(prices.later).toBeCloseTo(20, 6);
  });

  it('makes every step count the same, and dearer bits at rougher ones', () => {
    const target = chooseTarget(tryAll(2));
    const pointAt = createPoints(target);
    const [fine, rough] = [pointAt(0, { rateFactor: 1 }), pointAt(1, { rateFactor: 1 })];
    expect(fine.step).toBeCloseTo(target.steps[0] ?? 0, 9);
    expect(rough.step).toBeCloseTo(target.steps.at(-1) ?? 0, 9);
    for (const [point, at] of [
      [fine, target.curve[0]],
      [rough, target.curve.at(-1)],
    ] as const) {
      const { rate, outputs } = point.weights;
      expect(rate * (at?.rate ?? 0) + outputs * (at?.distortion ?? 0)).toBeCloseTo(1, 6);
    }
    expect(rough.weights.rate / rough.weights.outputs).toBeGreaterThan(
      fine.weights.rate / fine.weights.outputs,
    );
    expect(pointAt(0.5, { rateFactor: 0.5 }).weights.rate).toBeCloseTo(
      pointAt(0.5, { rateFactor: 1 }).weights.rate / 2,
      9,
    );
  });

  it('does without a model that answers the same to everything', () => {
    const dull = tryAll(2).map(({ terms }) => ({
      agreement: 1,
      terms: { ...terms, outputs: 0, features: 0, later: 0 },
    }));
    const target = chooseTarget(dull);
    expect(target.steps.every((step) => step > 0)).toBe(true);
    const { weights } = createPoints(target)(0.5, { rateFactor: 1 });
    expect(Object.values(weights).every(Number.isFinite)).toBe(true);
  });

  it('begins and ends at rougher steps where a decoder loses something itself', () => {
    const [exact, landing] = [chooseTarget(tryAll(2)).steps, chooseTarget(tryAll(2), landingRange).steps];
    expect(landing[0]).toBeGreaterThan(exact[0] ?? 0);
    expect(landing.at(-1)).toBeGreaterThanOrEqual(exact.at(-1) ?? 0);
  });

  it('lets features stand for the outputs where only they are compared', () => {
    const target = chooseTarget(tryAll(2));
    const pointAt = createPoints(target);
    const [whole, part] = [
      pointAt(0.5, { rateFactor: 1 }).weights,
      pointAt(0.5, { rateFactor: 1, stage: 'features' }).weights,
    ];
    expect(part.rate).toBe(whole.rate);
    // What the terms come to where training begins, at the step from which prices are.
    const terms = tryAll(2)[triedSteps.indexOf(1)]?.terms ?? { outputs: 0, features: 0, later: 0 };
    const all = whole.outputs * terms.outputs + whole.features * terms.features + whole.later * terms.later;
    expect(part.features * terms.features + part.later * terms.later).toBeCloseTo(all, 6);
  });

  it('takes pictures at their qualities, none of which counts much more than the roughest', () => {
    const tried = [0.0001, 0.05, 0.4, 1].map((outputs) => ({
      agreement: 1,
      terms: { rate: 1000 - outputs, outputs, features: 3 * outputs, later: 2 * outputs },
    }));
    const target = choosePictureTarget(tried);
    expect([target.steps, target.prices.features]).toEqual([[], 0]);
    const pointAt = createPoints(target);
    const points = [0, 0.3, 0.6, 1].map((level) => pointAt(level, { rateFactor: 1 }));
    expect(points.map(({ level }) => level)).toEqual([0, 1 / 3, 2 / 3, 1]);
    for (const { weights } of points) expect([weights.rate, weights.features]).toEqual([0, 0]);
    const [finest, , , roughest] = points.map(({ weights }, at) => {
      const { outputs, later } = tried[at]?.terms ?? { outputs: 0, later: 0 };
      return weights.outputs * outputs + weights.later * later;
    });
    expect(roughest).toBeCloseTo(1, 6);
    expect(finest).toBeLessThan(0.01);
  });
});

describe('what is compared', () => {
  const manifest = { cuts: Array.from({ length: 8 }) } as Parameters<typeof comparedCuts>[0];

  it.each([
    [{ from: 2, to: 2, tuneTo: 2 }, [5]],
    [{ from: 1, to: 2, tuneTo: 2 }, [3]],
    [{ from: 1, to: 1, tuneTo: 4 }, [4]],
    [{ from: 0, to: 0, tuneTo: 7 }, []],
    [{ from: 6, to: 6, tuneTo: 6 }, []],
  ])('%j: at later cuts %j', (choice, later) => {
    expect(comparedCuts(manifest, choice)).toEqual({ at: choice.to, later, last: 7 });
  });
});
