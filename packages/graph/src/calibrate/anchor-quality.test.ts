import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { anchorQuality } from './anchor-quality.js';
import type { Fidelity } from './fidelity.js';

const frames = (divergence: number): Fidelity[] => [
  { agreement: 1, divergence: divergence / 2 },
  { agreement: 1, divergence: divergence * 2 },
];
const anchors = [
  [0.001, 0.98],
  [0.01, 0.95],
  [0.1, 0.8],
  [1, 0.4],
].map(([divergence, quality]) => ({ frames: frames(divergence!), quality: quality! }));

describe('quality by that of levels measured before', () => {
  it('is theirs where divergence is theirs, and between them between', () => {
    const quality = anchorQuality(anchors)!;
    expect(quality(frames(0.01), 0)).toBeCloseTo(0.95, 6);
    // Midway in shares of changed answers, which are to each other as roots of divergences.
    expect(quality(frames(Math.sqrt(0.1 * 0.01)), 0)).toBeCloseTo(1 - Math.sqrt(0.05 * 0.2), 3);
  });

  it('goes on beyond the finest of them, and beyond the roughest is no better than it seems by itself', () => {
    const quality = anchorQuality(anchors)!;
    expect(quality(frames(1e-5), 0)).toBeCloseTo(1 - 0.02 / 10, 3);
    expect(quality(frames(0), 0)).toBeGreaterThan(0.9999);
    expect(quality(frames(100), 0.9)).toBeCloseTo(0.4, 6);
    expect(quality(frames(100), 0.1)).toBeCloseTo(0.1, 6);
  });

  it('is told by all frames: where few lose much, as many answers change as where all lose little', () => {
    const quality = anchorQuality(anchors)!;
    const even = Array.from({ length: 10 }, () => ({ agreement: 1, divergence: 0.01 }));
    const uneven = even.map((one, i) => ({ ...one, divergence: i === 0 ? 1 : 0 }));
    expect(quality(uneven, 0)).toBeCloseTo(quality(even, 0), 6);
  });

  it('never rises with divergence, whatever was measured', () => {
    const anchor = fc.record({
      divergence: fc.double({ min: 1e-6, max: 10, noNaN: true }),
      quality: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(fc.array(anchor, { minLength: 4, maxLength: 20 }), (given) => {
        const quality = anchorQuality(given.map((one) => ({ ...one, frames: frames(one.divergence) })))!;
        const along = Array.from({ length: 50 }, (_, i) => quality(frames(1e-7 * 10 ** (i / 5)), 0));
        along.forEach((value, i) => {
          expect(value).toBeGreaterThanOrEqual(-1e-9);
          expect(value).toBeLessThanOrEqual((along[i - 1] ?? 1) + 1e-9);
        });
      }),
    );
  });

  it('is not told from too few', () => {
    expect(anchorQuality(anchors.slice(1))).toBeUndefined();
  });
});
