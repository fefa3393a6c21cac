import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type FrameSet, parseFrameSet } from './frame-set.js';

const frameSet: FrameSet = {
  model: 'small',
  names: ['a.png', 'b.png'],
  trials: [{ codec: 'raw', from: 0, to: 0, level: 0, numBytes: [10, 20], agreement: [1, 0] }],
};

test('reads what was written', () => {
  expect(parseFrameSet(JSON.stringify(frameSet), 'frames.json')).toEqual(frameSet);
});

test.each([
  ['not JSON', 'nothing'],
  ['another file', '{"points": []}'],
  ['no frames', JSON.stringify({ ...frameSet, names: [] })],
  ['frames that are missing', JSON.stringify({ ...frameSet, names: ['a.png'] })],
])('refuses %s', (_, content) => {
  expect(() => parseFrameSet(content, 'frames.json')).toThrowError(
    expect.objectContaining({ code: 'usage/invalid', message: expect.stringContaining('frames.json') }),
  );
});

test('reads anything, or refuses it', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (content) => {
      try {
        parseFrameSet(content, 'x');
      } catch (error) {
        expect(error).toMatchObject({ code: 'usage/invalid' });
      }
    }),
  );
});
