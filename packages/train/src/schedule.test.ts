import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cosineRate } from './schedule.js';

describe('cosineRate', () => {
  it('warms up, peaks, is halfway in the middle, and ends at the final rate', () => {
    const schedule = { peakRate: 1, finalRate: 0.1, numSteps: 111, numWarmupSteps: 10 };
    expect(cosineRate(schedule, 0)).toBeCloseTo(0.1);
    expect(cosineRate(schedule, 9)).toBeCloseTo(1);
    expect(cosineRate(schedule, 10)).toBeCloseTo(1);
    expect(cosineRate(schedule, 60)).toBeCloseTo(0.55);
    expect(cosineRate(schedule, 110)).toBeCloseTo(0.1);
    expect(cosineRate(schedule, 500)).toBeCloseTo(0.1);
  });

  it('rises while it warms up, then falls, and is always within its limits', () => {
    const schedules = fc.record({
      peakRate: fc.double({ min: 1e-6, max: 1, noNaN: true }),
      numWarmupSteps: fc.integer({ min: 0, max: 50 }),
      more: fc.integer({ min: 1, max: 100 }),
    });
    fc.assert(
      fc.property(schedules, ({ peakRate, numWarmupSteps, more }) => {
        const schedule = { peakRate, numWarmupSteps, numSteps: numWarmupSteps + more };
        const rates = Array.from({ length: schedule.numSteps }, (_, step) => cosineRate(schedule, step));
        expect(rates.every((rate) => rate >= 0 && rate <= peakRate)).toBe(true);
        const differences = rates.slice(1).map((rate, index) => rate - (rates[index] ?? 0));
        expect(
          differences.slice(0, Math.max(0, numWarmupSteps - 1)).every((difference) => difference > 0),
        ).toBe(true);
        expect(differences.slice(numWarmupSteps).every((difference) => difference < 0)).toBe(true);
      }),
    );
  });

  it('refuses a warm-up that never ends', () => {
    expect(() => cosineRate({ peakRate: 1, numSteps: 10, numWarmupSteps: 10 }, 0)).toThrow(
      expect.objectContaining({ code: 'usage/invalid' }),
    );
  });
});
