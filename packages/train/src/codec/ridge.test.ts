import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../testing/random.js';
import { createRidge } from './ridge.js';

describe('ridge regression', () => {
  it('leaves no error that a change of the weights would make smaller', () => {
    const sizes = { features: fc.integer({ min: 1, max: 7 }), outputs: fc.integer({ min: 1, max: 4 }) };
    fc.assert(
      fc.property(
        fc.record({ ...sizes, count: fc.integer({ min: 1, max: 23 }), seed: fc.nat() }),
        (given) => {
          const { features, outputs, count, seed } = given;
          const random = seededRandom(seed + 1);
          const draw = (length: number): Float64Array => Float64Array.from({ length }, () => random() - 0.3);
          const [xs, ys] = [
            Array.from({ length: count }, () => draw(features)),
            Array.from({ length: count }, () => draw(outputs)),
          ];
          const penalties = draw(features).map((value) => 0.01 + Math.abs(value));
          const ridge = createRidge(features, outputs);
          xs.forEach((x, at) => {
            ridge.add(x, ys[at] ?? new Float64Array());
          });
          const weights = ridge.solve(penalties);
          expect(ridge.numSamples).toBe(count);
          // The slope: Σ x·(x·w − y) + count · penalty · w.
          for (let i = 0; i < features; i++) {
            for (let output = 0; output < outputs; output++) {
              const weightOf = (feature: number): number => weights[feature * outputs + output] ?? 0;
              const slope = xs.reduce((sum, x, at) => {
                const error =
                  x.reduce((total, value, k) => total + value * weightOf(k), 0) - (ys[at]?.[output] ?? 0);
                return sum + (x[i] ?? 0) * error;
              }, 0);
              expect(slope + count * (penalties[i] ?? 0) * weightOf(i)).toBeCloseTo(0, 8);
            }
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  it('makes nothing of features that say nothing', () => {
    const ridge = createRidge(2, 1);
    for (let i = 0; i < 5; i++) ridge.add(Float64Array.of(0, i), Float64Array.of(2 * i));
    const [nothing = Number.NaN, slope] = ridge.solve([0, 0]);
    expect(nothing).toBeCloseTo(0, 9);
    expect(slope).toBeCloseTo(2, 9);
  });
});
