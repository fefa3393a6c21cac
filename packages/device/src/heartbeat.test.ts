import { createManualClock, type IsthmusError } from '@isthmus/core';
import { expect, test } from 'vitest';
import { startHeartbeat } from './heartbeat.js';

function start() {
  const clock = createManualClock();
  const state = {
    buffered: 0,
    pings: [] as number[],
    roundTrips: [] as number[],
    dead: [] as IsthmusError[],
  };
  const heartbeat = startHeartbeat({
    clock,
    intervalMs: 5,
    timeoutMs: 20,
    sendPing: (id) => state.pings.push(id),
    bufferedBytes: () => state.buffered,
    onRoundTrip: (durationMs) => state.roundTrips.push(durationMs),
    onDead: (error) => state.dead.push(error),
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
