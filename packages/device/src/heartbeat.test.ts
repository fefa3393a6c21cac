import { createManualClock, type IsthmusError } from '@isthmus/core';
import { expect, test } from 'vitest';
import { startHeartbeat } from './heartbeat.js';

function start({ intervalMs = 5, timeoutMs = 20 } = {}) {
  const clock = createManualClock();
  const state = {
    buffered: 0,
    pings: [] as number[],
    roundTrips: [] as number[],
    dead: [] as IsthmusError[],
    isOverdue: false,
  };
  const heartbeat = startHeartbeat({
    clock,
    intervalMs,
    timeoutMs,
    sendPing: (id) => state.pings.push(id),
    bufferedBytes: () => state.buffered,
    onRoundTrip: (durationMs) => state.roundTrips.push(durationMs),
    onDead: (error) => state.dead.push(error),
    isOverdue: () => state.isOverdue,
  });
  return { clock, heartbeat, state };
}

test('measures round trips, one ping at a time', () => {
  const { clock, heartbeat, state } = start();
  expect(state.pings).toEqual([1]);
  clock.advance(3);
  heartbeat.pong(1);
  heartbeat.pong(1);
  heartbeat.pong(9);
  clock.advance(2);
  expect(state.pings).toEqual([1, 2]);
  clock.advance(5);
  expect(state.pings).toEqual([1, 2]);
  expect(state.roundTrips).toEqual([3]);
});

test('silence is death, once', () => {
  const { clock, state } = start();
  clock.advance(1000);
  expect(state.dead.map(({ code }) => code)).toEqual(['link/lost']);
});

test('anything heard is life, and so is a send buffer that gets shorter', () => {
  const { clock, heartbeat, state } = start();
  for (let i = 0; i < 20; i++) {
    clock.advance(10);
    heartbeat.heard();
  }
  state.buffered = 1000;
  clock.advance(10);
  for (let i = 0; i < 20; i++) {
    state.buffered--;
    clock.advance(10);
  }
  expect(state.dead).toEqual([]);
  clock.advance(30);
  expect(state.dead).toHaveLength(1);
});

test('a stopped heartbeat is still', () => {
  const { clock, heartbeat, state } = start();
  heartbeat.stop();
  clock.advance(1000);
  expect(state).toMatchObject({ pings: [1], dead: [] });
});

test('begins with a few pings in quick succession', () => {
  const { clock, heartbeat, state } = start({ intervalMs: 5000, timeoutMs: 15_000 });
  for (let id = 1; id <= 5; id++) {
    clock.advance(20);
    heartbeat.pong(id);
    clock.advance(30);
  }
  expect(state.pings).toEqual([1, 2, 3]);
  clock.advance(5000);
  expect(state.pings).toEqual([1, 2, 3, 4]);
});

test('pings often while nothing gets through, and soon notices when it does not', () => {
  const { clock, heartbeat, state } = start({ intervalMs: 5000, timeoutMs: 15_000 });
  const answer = (): void => {
    for (const id of state.pings) heartbeat.pong(id);
  };
  for (let beat = 0; beat < 3; beat++) {
    answer();
    clock.advance(50);
  }
  answer();
  // Something is sent, and overdue a while later.
  heartbeat.watch();
  clock.advance(900);
  expect(state.pings).toHaveLength(3);
  state.isOverdue = true;
  clock.advance(250);
  expect(state.pings).toHaveLength(4);
  for (let beat = 0; beat < 4; beat++) {
    answer();
    clock.advance(250);
  }
  expect(state.pings).toHaveLength(8);
  // One at a time, also then.
  clock.advance(1000);
  expect(state.pings).toHaveLength(8);
  state.isOverdue = false;
  answer();
  clock.advance(3000);
  expect(state.pings).toHaveLength(8);
});

test('pings when asked, but no more than four times a second', () => {
  const { clock, heartbeat, state } = start({ intervalMs: 5000, timeoutMs: 15_000 });
  for (let id = 1; id <= 3; id++) {
    heartbeat.pong(id);
    clock.advance(50);
  }
  heartbeat.pong(3);
  // Frames that are skipped, twenty a second, for a second.
  for (let frame = 0; frame < 20; frame++) {
    heartbeat.look();
    for (const id of state.pings) heartbeat.pong(id);
    clock.advance(50);
  }
  expect(state.pings).toHaveLength(7);
  // Nobody answers: one ping is out, and no second one.
  clock.advance(250);
  heartbeat.look();
  clock.advance(250);
  heartbeat.look();
  expect(state.pings).toHaveLength(8);
  expect(state.roundTrips).toHaveLength(7);
});
