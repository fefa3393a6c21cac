import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fitQuality } from './fit-quality.js';

const frames = fc.array(
  fc.record({
    divergence: fc.double({ min: 0, max: 20, noNaN: true }),
    agreement: fc.constantFrom(0, 1),
  }),
  { minLength: 1, maxLength: 400 },
);

test('quality falls with divergence, and is a share', () => {
  fc.assert(
    fc.property(frames, (measured) => {
      const quality = fitQuality(measured);
      const values = [0, 1e-6, 1e-3, 0.01, 0.1, 0.5, 1, 3, 10, 100].map(quality);
      for (const [i, value] of values.entries())
        expect(value).toBeLessThanOrEqual((values[i - 1] ?? 1) + 1e-12);
      for (const value of values) {
        expect(value).toBeGreaterThanOrEqual(-1e-12);
      }
    }),
  );
});

test('finds the law that frames follow', () => {
  const law = (divergence: number): number => 1 / (1 + divergence);
  // Every hundredth of the way up is answered alike by its own share of frames, evenly.
  const measured = Array.from({ length: 8_000 }, (_, i) => {
    const divergence = 10 ** (-3 + (i / 8_000) * 4);
    return { divergence, agreement: (i * 0.618034) % 1 < law(divergence) ? 1 : 0 };
  });
  const quality = fitQuality(measured);
  for (const divergence of [0.01, 0.1, 0.5, 1, 3]) {
    expect(Math.abs(quality(divergence) - law(divergence))).toBeLessThan(0.06);
  }
});

test('what has not moved at all is answered alike', () => {
  expect(fitQuality([])(0.1)).toBe(1);
  expect(fitQuality([{ divergence: 1, agreement: 0 }])(0)).toBe(1);
});
