import { createManualClock, IsthmusError } from '@isthmus/core';
import { expect, test } from 'vitest';
import { createEnding } from './ending.js';
import { createLifetime } from './lifetime.js';

const never = new Promise<never>(() => {});

test('ends by deadline, by signal and with its parent, each with its own code', async () => {
  const clock = createManualClock();
  const user = new AbortController();
  const parent = createEnding();
  const byDeadline = createLifetime({ clock, deadlineMs: 50 }).race(never);
  const bySignal = createLifetime({ clock, signal: user.signal }).race(never);
  const byParent = createLifetime({ clock, parent }).race(never);
  clock.advance(50);
  user.abort('enough');
  parent.end(new IsthmusError('link/closed', 'over'));
  await expect(byDeadline).rejects.toMatchObject({ code: 'request/deadline' });
  await expect(bySignal).rejects.toMatchObject({ code: 'request/cancelled', cause: 'enough' });
  await expect(byParent).rejects.toMatchObject({ code: 'link/closed' });
});

test('gives what the work gives when it is in time, and lets go of the clock', async () => {
  const clock = createManualClock();
  const lifetime = createLifetime({ clock, deadlineMs: 50 });
  await expect(lifetime.race(Promise.resolve(7))).resolves.toBe(7);
  lifetime.dispose();
  clock.advance(100);
  expect(lifetime.signal.aborted).toBe(false);
});

test('does not begin when it is over', () => {
  const clock = createManualClock();
  expect(() => createLifetime({ clock, signal: AbortSignal.abort() })).toThrowError(
    expect.objectContaining({ code: 'request/cancelled' }),
  );
});
