import { IsthmusError } from '@isthmus/core';
import { expect, test } from 'vitest';
import { exponentialBackoff } from './reconnect.js';

test('waits double each time, up to a limit, with jitter of a half', () => {
  const policy = exponentialBackoff({ firstMs: 100, factor: 2, maxMs: 1000 });
  const delays = (random: number): (number | null)[] =>
    [0, 1, 2, 3, 4, 50].map((failures) =>
      policy.nextDelayMs({
        failures,
        elapsedMs: 0,
        lastError: new IsthmusError('link/lost', ''),
        random: () => random,
      }),
    );
  expect(delays(0)).toEqual([50, 100, 200, 400, 500, 500]);
  expect(delays(1)).toEqual([100, 200, 400, 800, 1000, 1000]);
});
