import { isIsthmusError } from '@isthmus/core';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseTrace } from './parse-trace.js';

const parse = (content: string, delayMs?: number) =>
  parseTrace(content, { name: 'file', kind: 'test', delayMs });

test('Mahimahi: each line lets 1504 bytes through, the last ends the period', () => {
  const trace = parse('3\n3\n10\n');
  expect(trace).toMatchObject({ durationMs: 10, delayMs: 20, lossless: true });
  expect(trace.bytesBetween(0, 10)).toBe(3 * 1504);
  expect(trace.bytesBetween(0, 2)).toBe(0);
  expect(trace.finishMs(0, 2 * 1504)).toBe(3);
  expect(trace.finishMs(3, 1504)).toBe(10);
  expect(trace.finishMs(3, 2 * 1504)).toBeCloseTo(12.5, 9);
  // What leaves at 0 leaves at the end of the period before.
  expect(parse('0\n5\n').bytesBetween(4, 5)).toBe(2 * 1504);
});

test('seconds and Mbit/s: each rate until the next', () => {
  const trace = parse('# time rate\n0 8\n0.5 1.6 # slower\n\n1.0 0\n', 7);
  expect(trace).toMatchObject({ durationMs: 1500, delayMs: 7 });
  expect(trace.bytesBetween(0, 500)).toBeCloseTo(500_000, 6);
  expect(trace.bytesBetween(500, 1000)).toBeCloseTo(100_000, 6);
  expect(trace.bytesBetween(1000, 1500)).toBe(0);
});

test("Sabre's JSON: durations, kilobits, latency of a request", () => {
  const trace = parse(
    '[{"duration_ms":1000,"bandwidth_kbps":800,"latency_ms":100},{"duration_ms":3000,"bandwidth_kbps":400,"latency_ms":20}]',
  );
  expect(trace).toMatchObject({ durationMs: 4000, delayMs: 20, lossless: true });
  expect(trace.bytesBetween(0, 4000)).toBe(250_000);
});

test('JSON by rows and by columns mean the same; loss takes its share off the rate', () => {
  const rows = parse(
    '[{"timestamp":0,"bandwidth":8,"delay":30,"loss":0.25},{"timestamp":2,"bandwidth":4,"delay":10,"loss":0}]',
  );
  const columns = parse('{"timestamps":[0,2],"bandwidths":[8,4],"delays":[30,10],"loss":[0.25,0]}');
  for (const trace of [rows, columns]) {
    expect(trace).toMatchObject({ durationMs: 4000, delayMs: 20, lossless: false });
    expect(trace.bytesBetween(0, 2000)).toBeCloseTo(1_500_000, 6);
    expect(trace.bytesBetween(2000, 4000)).toBeCloseTo(1_000_000, 6);
  }
});

test.each([
  ['', /empty/],
  ['# nothing\n\n', /empty/],
  ['12\n7\n', /line 2 is at 7 ms/],
  ['0\n0\n', /at 0 ms/],
  ['1.5\n', /whole milliseconds/],
  ['1\n2 3\n', /line 2 holds 2 numbers/],
  ['1 2 3\n', /line 1 says "1 2 3"/],
  ['0 5\n0 6\n', /line 2 goes back/],
  ['0 -5\n', /rate of -5/],
  ['0 0\n1 0\n', /never carries/],
  ['<html>', /line 1 says "<html>"/],
  ['[1, 2', /not JSON/],
  ['[]', /none of the JSON formats/],
  ['{"timestamps":[0,1],"bandwidths":[1]}', /not of one length/],
  ['{"timestamps":[1,1],"bandwidths":[1,2]}', /do not ascend/],
  ['[{"timestamp":0,"bandwidth":1,"loss":1.5}]', /none of the JSON formats/],
])('refuses %j', (content, message) => {
  expect(() => parse(content)).toThrowError(
    expect.objectContaining({ code: 'usage/invalid', message: expect.stringMatching(message) }),
  );
});

test('any text is a sound trace or refused', () => {
  const line = fc.oneof(
    fc.integer({ min: -5, max: 10_000 }).map(String),
    fc.tuple(fc.double(), fc.double()).map((pair) => pair.join(' ')),
    fc.string({ maxLength: 12 }),
  );
  const number = fc.oneof(fc.double(), fc.integer(), fc.constant(null));
  const json = fc.oneof(
    fc.array(fc.record({ duration_ms: number, bandwidth_kbps: number, latency_ms: number })),
    fc.array(fc.record({ timestamp: number, bandwidth: number, loss: number })),
    fc.record({ timestamps: fc.array(number), bandwidths: fc.array(number), loss: number }),
    fc.jsonValue(),
  );
  const content = fc.oneof(
    fc.array(line).map((lines) => lines.join('\n')),
    json.map((value) => JSON.stringify(value)),
  );
  fc.assert(
    fc.property(content, (text) => {
      let trace: ReturnType<typeof parse>;
      try {
        trace = parse(text);
      } catch (error) {
        expect(isIsthmusError(error, 'usage/invalid'), String(error)).toBe(true);
        return;
      }
      expect(trace.durationMs).toBeGreaterThan(0);
      expect(trace.meanRateBps).toBeGreaterThan(0);
      expect(trace.finishMs(0, 1)).toBeGreaterThanOrEqual(0);
    }),
    { numRuns: 500 },
  );
});
