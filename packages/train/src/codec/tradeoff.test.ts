import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fitTradeoff } from './tradeoff.js';

describe('the price of a bit', () => {
  it('is what high-rate theory says of a source that follows it', () => {
    // n components: n·step²/12 of error, n·log2(σ/step) bits; so the slope is step²·ln 2 / 6.
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 500 }), fc.integer({ min: 4, max: 10 }), (n, count) => {
        const curve = Array.from({ length: count }, (_, index) => {
          const step = 2 ** ((index - 8) / 4);
          return { step, rate: n * (10 - Math.log2(step)), distortion: (n * step ** 2) / 12 };
        });
        const { lambda, loss } = fitTradeoff(curve);
        for (const { step, rate, distortion } of curve) {
          expect(lambda(step) / ((step ** 2 * Math.LN2) / 6)).toBeCloseTo(1, 1);
          expect(loss(step) / (distortion + lambda(step) * rate)).toBeCloseTo(1, 6);
        }
      }),
    );
  });

  it('lies between two steps where the curve is not known', () => {
    const { loss } = fitTradeoff([
      { step: 1, rate: 100, distortion: 1 },
      { step: 4, rate: 50, distortion: 5 },
    ]);
    expect(loss(2)).toBeGreaterThan(Math.min(loss(1), loss(4)));
    expect(loss(2)).toBeLessThan(Math.max(loss(1), loss(4)));
    expect(loss(9)).toBe(loss(4));
    expect(loss(0.1)).toBe(loss(1));
  });

  it('is finite for a curve that says nothing', () => {
    const flat = [1, 2, 4].map((step) => ({ step, rate: 7, distortion: 0 }));
    const { lambda, loss } = fitTradeoff(flat);
    for (const step of [0.5, 1, 3, 100]) {
      expect(Number.isFinite(lambda(step))).toBe(true);
      expect(loss(step)).toBeGreaterThan(0);
    }
  });
});
