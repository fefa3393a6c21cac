import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLinkTrace } from './trace.js';

const make = (segments: { durationMs: number; rateBps: number }[]) =>
  createLinkTrace({ name: 'made', kind: 'test', segments, delayMs: 0 });

// 1000 bytes a millisecond for 10 ms, nothing for 5, half for 5: 12 500 bytes in 20 ms.
const uneven = make([
  { durationMs: 10, rateBps: 8e6 },
  { durationMs: 5, rateBps: 0 },
  { durationMs: 5, rateBps: 4e6 },
]);

test('says when bytes are through, also past an outage and past the end', () => {
  expect(uneven.durationMs).toBe(20);
  expect(uneven.meanRateBps).toBe(5e6);
  expect(uneven.finishMs(0, 4000)).toBe(4);
  expect(uneven.finishMs(2, 8000)).toBe(10);
  expect(uneven.finishMs(9, 1500)).toBe(16);
  expect(uneven.finishMs(12, 500)).toBe(16);
  expect(uneven.finishMs(12, 2500)).toBe(20);
  expect(uneven.finishMs(12, 3500)).toBe(21);
  expect(uneven.finishMs(40, 25_000)).toBe(80);
  expect(uneven.finishMs(7.5, 0)).toBe(7.5);
});

test('says how many bytes a time carries', () => {
  expect(uneven.bytesBetween(0, 20)).toBe(12_500);
  expect(uneven.bytesBetween(8, 17)).toBe(3000);
  expect(uneven.bytesBetween(10, 15)).toBe(0);
  expect(uneven.bytesBetween(19, 62)).toBe(500 + 25_000 + 2000);
  expect(uneven.bytesBetween(5, 5)).toBe(0);
});

test.each([
  ['empty', [], /never carries a byte/],
  ['silent', [{ durationMs: 100, rateBps: 0 }], /never carries a byte/],
  ['negative', [{ durationMs: 100, rateBps: -1 }], /-1 bit\/s/],
  ['endless', [{ durationMs: Infinity, rateBps: 1 }], /Infinity ms/],
])('refuses a trace that is %s', (_, segments, message) => {
  expect(() => make(segments)).toThrowError(
    expect.objectContaining({ code: 'usage/invalid', message: expect.stringMatching(message) }),
  );
});

const anySegments = fc
  .array(
    fc.record({
      durationMs: fc.double({ min: 1, max: 1000, noNaN: true }),
      rateBps: fc.oneof(fc.constant(0), fc.double({ min: 1e4, max: 1e8, noNaN: true })),
    }),
    { minLength: 1, maxLength: 30 },
  )
  .filter((segments) => segments.some(({ rateBps }) => rateBps > 0));
const anyTime = fc.double({ min: 0, max: 50_000, noNaN: true });
const anyBytes = fc.integer({ min: 1, max: 1_000_000 });

test('what is through when it is said to be through is what was sent', () => {
  fc.assert(
    fc.property(anySegments, anyTime, anyBytes, (segments, startMs, numBytes) => {
      const trace = make(segments);
      const finishMs = trace.finishMs(startMs, numBytes);
      expect(finishMs).toBeGreaterThanOrEqual(startMs);
      expect(trace.bytesBetween(startMs, finishMs)).toBeCloseTo(numBytes, 1);
    }),
  );
});

test('two packets one after the other take as long as one of both', () => {
  fc.assert(
    fc.property(anySegments, anyTime, anyBytes, anyBytes, (segments, startMs, first, second) => {
      const trace = make(segments);
      const apart = trace.finishMs(trace.finishMs(startMs, first), second);
      const whole = trace.finishMs(startMs, first + second);
      expect(trace.bytesBetween(Math.min(apart, whole), Math.max(apart, whole))).toBeLessThan(0.1);
    }),
  );
});

test('who starts earlier never ends later', () => {
  fc.assert(
    fc.property(anySegments, anyTime, anyTime, anyBytes, (segments, a, b, numBytes) => {
      const trace = make(segments);
      const [early, late] = [Math.min(a, b), Math.max(a, b)];
      expect(trace.finishMs(early, numBytes)).toBeLessThanOrEqual(trace.finishMs(late, numBytes) + 1e-6);
    }),
  );
});
