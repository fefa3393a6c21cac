import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { CutCandidate } from './cuts.js';
import { chooseCuts } from './segments.js';

const total = { flops: 1000, weightBytes: 1000 };
const inputBytes = 4096;

/** A chain: cut i lies behind node i. */
function chain(cuts: readonly { bytes: number; at: number; tensors?: number }[]): CutCandidate[] {
  return cuts.map(({ bytes, at, tensors = 1 }, index) => ({
    tensors: Array.from({ length: tensors }, (_, tensor) => `t${index}.${tensor}`),
    numBytes: bytes,
    prefix: Array.from({ length: index + 1 }, (_, node) => node),
    flops: at,
    weightBytes: at,
  }));
}

describe('chooseCuts', () => {
  it('takes the later of two equal cuts, such as before and after a Relu', () => {
    const chosen = chooseCuts(
      chain([
        { bytes: 2048, at: 500 },
        { bytes: 2048, at: 501 },
      ]),
      { inputBytes, total },
    );
    expect(chosen.map((cut) => cut.flops)).toEqual([501]);
  });

  it('takes the smaller of two neighbours, such as before and after a pooling', () => {
    const chosen = chooseCuts(
      chain([
        { bytes: 8192, at: 500 },
        { bytes: 2048, at: 505 },
      ]),
      { inputBytes, total },
    );
    expect(chosen.map((cut) => cut.numBytes)).toEqual([2048]);
  });

  it('takes one tensor rather than several of the same bytes', () => {
    const cuts = chain([
      { bytes: 2048, at: 500, tensors: 3 },
      { bytes: 2048, at: 505 },
      { bytes: 2048, at: 510, tensors: 2 },
    ]);
    expect(chooseCuts(cuts, { inputBytes, total }).map((cut) => cut.tensors.length)).toEqual([1]);
  });

  it('spreads over a long chain of equal cuts', () => {
    const cuts = chain(Array.from({ length: 99 }, (_, index) => ({ bytes: 2048, at: (index + 1) * 10 })));
    const progress = chooseCuts(cuts, { inputBytes, total }).map((cut) => cut.flops / 1000);
    expect(progress.length).toBeGreaterThanOrEqual(3);
    const gaps = [0, ...progress].map((from, index) => (progress[index] ?? 1) - from);
    expect(Math.max(...gaps)).toBeLessThanOrEqual(0.4);
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(0.02);
  });

  it('always has the smallest cut in the first half, if there is one', () => {
    const cuts = chain(
      Array.from({ length: 40 }, (_, index) => ({ bytes: index === 12 ? 256 : 4096, at: (index + 1) * 25 })),
    );
    expect(chooseCuts(cuts, { inputBytes, total }).map((cut) => cut.numBytes)).toContain(256);
  });

  it('keeps its promises for any chain', () => {
    const anyChain = fc
      .array(
        fc.record({
          bytes: fc.integer({ min: 1, max: 1e6 }),
          at: fc.integer({ min: 0, max: 1000 }),
          tensors: fc.integer({ min: 1, max: 4 }),
        }),
        { maxLength: 60 },
      )
      .map((cuts) => chain(cuts.toSorted((a, b) => a.at - b.at)));
    fc.assert(
      fc.property(anyChain, fc.integer({ min: 1, max: 12 }), (cuts, maxSegments) => {
        const chosen = chooseCuts(cuts, { inputBytes, total, maxSegments });
        expect(chosen.length).toBeLessThan(maxSegments);
        chosen.forEach((cut, index) => {
          const next = chosen[index + 1];
          if (next === undefined) return;
          expect(next.prefix.length).toBeGreaterThan(cut.prefix.length);
          // Never adjacent cuts of equal worth.
          expect(next.flops - cut.flops).toBeGreaterThanOrEqual(20 - 1e-9);
        });
        // With room left and candidates that differ, the minimum is reached, or nothing left would differ.
        if (chosen.length < Math.min(4, maxSegments) - 1) {
          for (const cut of cuts) {
            const near = [0, 1000, ...chosen.map(({ flops }) => flops)];
            const isNear = near.some((flops) => Math.abs(flops - cut.flops) < 40);
            expect(isNear).toBe(true);
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  it('never chooses cuts that cross each other', () => {
    const [front, back] = chain([
      { bytes: 1024, at: 300 },
      { bytes: 512, at: 600 },
    ]);
    // Two branches: neither contains the other.
    const left = { ...front!, prefix: [0, 1, 2] };
    const right = { ...back!, prefix: [0, 1, 3, 4] };
    expect(chooseCuts([left, right], { inputBytes, total })).toHaveLength(1);
  });
});
