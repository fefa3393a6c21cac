import { createManualClock, IsthmusError } from '@isthmus/core';
import { expect, test } from 'vitest';
import { createConnection } from './connection.js';
import { exponentialBackoff, type ReconnectPolicy } from './reconnect.js';

const settle = () => new Promise((resolve) => setImmediate(resolve));
const lost = new IsthmusError('link/lost', '');

function start(policy: ReconnectPolicy = exponentialBackoff({ firstMs: 100 })) {
  const clock = createManualClock();
  const states: string[] = [];
  const closes: ((error: IsthmusError) => void)[] = [];
  const closed: string[] = [];
  const outcomes: (IsthmusError | undefined)[] = [];
  const connection = createConnection({
    clock,
    random: () => 1,
    policy,
    async open(onClose) {
      const failure = outcomes.shift();
      if (failure !== undefined) throw failure;
      closes.push(onClose);
      return { close: (error: IsthmusError) => void closed.push(error.code) };
    },
    onState: ({ state, error }) => states.push(error === undefined ? state : `${state} ${error.code}`),
  });
  return { clock, states, closes, closed, outcomes, connection };
}

test('comes back after failures, waiting longer each time', async () => {
  const { clock, states, closes, outcomes, connection } = start();
  await connection.start();
  const failed = new IsthmusError('link/connect-failed', '');
  outcomes.push(failed, failed);
  closes[0]!(lost);
  closes[0]!(lost);
  for (const delayMs of [100, 200, 400]) {
    clock.advance(delayMs - 1);
    await settle();
    clock.advance(1);
    await settle();
  }
  expect(states).toEqual([
    'up',
    'lost link/lost',
    'gone link/connect-failed',
    'gone link/connect-failed',
    'up',
  ]);
  expect(connection.state).toBe('up');
});

test.each(['auth/denied', 'wire/version-mismatch', 'bundle/no-such-model'] as const)(
  'does not try again after %s',
  async (code) => {
    const { clock, states, closes, outcomes, connection } = start();
    await connection.start();
    outcomes.push(new IsthmusError(code, ''));
    closes[0]!(lost);
    clock.advance(100);
    await settle();
    clock.advance(100_000);
    await settle();
    expect(states).toEqual(['up', 'lost link/lost', `closed ${code}`]);
  },
);

test('a policy may give up', async () => {
  const { states, closes, connection } = start({ nextDelayMs: () => null });
  await connection.start();
  closes[0]!(lost);
  expect(states).toEqual(['up', 'lost link/lost', 'closed link/lost']);
});

test('closing ends the link and what would bring it back', async () => {
  const { clock, states, closes, closed, connection } = start();
  await connection.start();
  closes[0]!(lost);
  connection.close(new IsthmusError('link/closed', ''));
  clock.advance(100_000);
  await settle();
  expect(states).toEqual(['up', 'lost link/lost']);
  expect(closed).toEqual([]);

  const other = start();
  await other.connection.start();
  other.connection.close(new IsthmusError('link/closed', ''));
  expect(other.closed).toEqual(['link/closed']);
});

test('a link that opens after closing is closed', async () => {
  const { clock, closes, closed, connection } = start();
  await connection.start();
  closes[0]!(lost);
  clock.advance(100);
  connection.close(new IsthmusError('link/closed', ''));
  await settle();
  expect(closed).toEqual(['link/closed']);
  expect(connection.link).toBeUndefined();
});
