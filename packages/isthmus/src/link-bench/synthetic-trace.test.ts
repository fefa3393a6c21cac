import { expect, test } from 'vitest';
import { createRandom } from './random.js';
import {
  createStepTrace,
  createSyntheticTrace,
  type SyntheticKind,
  syntheticLinks,
} from './synthetic-trace.js';

const kinds = Object.keys(syntheticLinks) as SyntheticKind[];

test.each(kinds)('%s has the percentiles it was made for', (kind) => {
  // Two hours, so that a few long stays in one state do not decide.
  const numSeconds = 7200;
  const trace = createSyntheticTrace(kind, { durationMs: 1000 * numSeconds, random: createRandom(7) });
  const rates = Array.from(
    { length: numSeconds },
    (_, s) => (8 * trace.bytesBetween(1000 * s, 1000 * s + 1000)) / 1e6,
  );
  rates.sort((a, b) => a - b);
  const [low, middle, high] = [0.05, 0.5, 0.95].map(
    (share) => rates[Math.floor(share * numSeconds)] ?? Number.NaN,
  );
  const [wantedLow, wantedMiddle, wantedHigh] = syntheticLinks[kind].intended;
  // The lowest percentile lies on the slope between outage and service, where a little moves it far.
  expect(Math.abs((low ?? 0) - wantedLow)).toBeLessThan(0.35 * wantedLow + 0.1 * wantedMiddle);
  expect((middle ?? 0) / wantedMiddle).toBeGreaterThan(0.9);
  expect((middle ?? 0) / wantedMiddle).toBeLessThan(1.1);
  expect((high ?? 0) / wantedHigh).toBeGreaterThan(0.9);
  expect((high ?? 0) / wantedHigh).toBeLessThan(1.1);
});

test('AT&T is gone for a tenth of the time', () => {
  const trace = createSyntheticTrace('lte-poor', { durationMs: 7_200_000, random: createRandom(3) });
  const gone = Array.from({ length: 7200 }, (_, s) => trace.bytesBetween(1000 * s, 1000 * s + 1000)).filter(
    (bytes) => bytes === 0,
  );
  expect(gone.length / 7200).toBeGreaterThan(0.06);
  expect(gone.length / 7200).toBeLessThan(0.13);
});

test('is the same for the same random numbers, and another for others', () => {
  const make = (seed: number) =>
    createSyntheticTrace('lte', { durationMs: 20_000, random: createRandom(seed) });
  const fingerprint = (seed: number) => [1000, 5000, 19_000].map((ms) => make(seed).bytesBetween(0, ms));
  expect(fingerprint(1)).toEqual(fingerprint(1));
  expect(fingerprint(1)).not.toEqual(fingerprint(2));
});

test('the step drops to a twentieth, and later to nothing', () => {
  const trace = createStepTrace();
  expect(trace.bytesBetween(10_000, 11_000)).toBeCloseTo(20 * trace.bytesBetween(20_000, 21_000), 3);
  expect(trace.bytesBetween(40_000, 45_000)).toBe(0);
  expect(trace.bytesBetween(45_000, 46_000)).toBeCloseTo(1_250_000, 3);
});
