import { expect, test } from 'vitest';
import { averagePrecision50, type Box, type ScoredBox } from './average-precision.js';

const box = (x: number, index = 0): Box => ({ index, x, y: 0, width: 10, height: 10 });
const found = (x: number, score: number, index = 0): ScoredBox => ({ ...box(x, index), score });

test('finding everything, and nothing else before it, is 1', () => {
  expect(
    averagePrecision50([[box(0), box(50)], [box(7)]], [[found(0, 0.9), found(50, 0.4)], [found(7, 0.8)]]),
  ).toBe(1);
  // What is wrong with less confidence than all that is right does not count.
  expect(averagePrecision50([[box(0)]], [[found(0, 0.9), found(200, 0.1)]])).toBe(1);
});

test('the area under precision over recall, at all points', () => {
  // By score: hit, miss, hit, miss, hit; four objects. Precision 1, 2/3, 3/5 at recall 1/4, 2/4, 3/4.
  const truth = [[box(0), box(50), box(100), box(150)]];
  const answers = [[found(0, 0.9), found(300, 0.8), found(50, 0.7), found(400, 0.6), found(100, 0.5)]];
  expect(averagePrecision50(truth, answers)).toBeCloseTo((1 + 2 / 3 + 3 / 5) / 4, 12);
});

test('precision counts as the best at that recall or a higher one', () => {
  // Miss, hit, hit: precision 1/2 then 2/3, and so 2/3 at both.
  expect(
    averagePrecision50([[box(0), box(50)]], [[found(300, 0.9), found(0, 0.8), found(50, 0.7)]]),
  ).toBeCloseTo(2 / 3, 12);
});

test('an object is found once, by half of the union, in its own picture and class', () => {
  expect(averagePrecision50([[box(0)]], [[found(0, 0.5), found(1, 0.9)]])).toBe(1);
  expect(
    averagePrecision50([[box(0), box(50)]], [[found(0, 0.9), found(1, 0.8), found(50, 0.7)]]),
  ).toBeCloseTo((1 + 2 / 3) / 2, 12);
  // 10 × 10 boxes apart by d overlap by (10 − d) / (10 + d).
  expect(averagePrecision50([[box(0)]], [[found(3.3, 1)]])).toBe(1);
  expect(averagePrecision50([[box(0)]], [[found(3.4, 1)]])).toBe(0);
  expect(averagePrecision50([[box(0)], []], [[], [found(0, 1)]])).toBe(0);
  expect(averagePrecision50([[box(0, 1)]], [[found(0, 1, 2)]])).toBe(0);
});

test('classes count alike, however many objects they have', () => {
  const truth = [[box(0, 0), box(20, 0), box(40, 0), box(60, 1)]];
  const answers = [[found(0, 1, 0), found(20, 1, 0), found(40, 1, 0), found(300, 1, 2)]];
  expect(averagePrecision50(truth, answers)).toBe(0.5);
});

test('where there is nothing, finding nothing is right', () => {
  expect(averagePrecision50([[], []], [[], []])).toBe(1);
  expect(averagePrecision50([[]], [[found(0, 1)]])).toBe(0);
});
