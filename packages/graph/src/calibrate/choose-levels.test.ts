import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type LevelMeasure, nearHull, onHull, pooled } from './choose-levels.js';

const measureOf = (numBytes: number, divergence: number): LevelMeasure => ({
  numBytes,
  divergence,
  agreement: 1,
  bitsPerElement: numBytes / 100,
});
/** A codec whose divergence falls with the square of its bytes, and one that takes `factor` times as much. */
const curve = (factor: number): LevelMeasure[] =>
  [1000, 1400, 2000, 2800, 4000, 5600].map((numBytes) =>
    measureOf(factor * numBytes, (1000 / numBytes) ** 2),
  );

describe('levels worth measuring on more frames', () => {
  it('are those of a codec that is nearly as good, not those of one that is far from it', () => {
    expect(nearHull([...curve(1), ...curve(1.05)])).toEqual(Array.from({ length: 12 }, (_, i) => i));
    const good = nearHull([...curve(1), ...curve(1.6)]);
    expect(good.slice(0, 6)).toEqual([0, 1, 2, 3, 4, 5]);
    // Only what takes more bytes than all others has nothing to be compared with.
    expect(good.slice(6)).toEqual([11]);
  });

  it('hold all that would be kept as of use', () => {
    const measure = fc
      .tuple(fc.integer({ min: 1, max: 1_000_000 }), fc.double({ min: 1e-9, max: 10, noNaN: true }))
      .map(([numBytes, divergence]) => measureOf(numBytes, divergence));
    const levels = fc.uniqueArray(measure, { minLength: 1, maxLength: 24, selector: (one) => one.numBytes });
    fc.assert(
      fc.property(levels, (measures) => {
        const near = new Set(nearHull(measures));
        for (const level of onHull(measures)) expect(near.has(level)).toBe(true);
      }),
    );
  });

  it('are averaged as if they had been measured on all frames at once', () => {
    expect(pooled(measureOf(100, 0.1), 5, measureOf(200, 0.3), 15)).toEqual({
      numBytes: 175,
      divergence: expect.closeTo(0.25, 12),
      agreement: 1,
      bitsPerElement: 1.75,
    });
  });
});
