import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createEventQueue } from './events.js';
import { createPipe } from './pipe.js';
import { constantTrace } from './testing/small-bundle.js';

const chunk = 16_384;

function open(bytesPerMs: number) {
  const events = createEventQueue();
  const pipe = createPipe(constantTrace(bytesPerMs), events);
  const through: [number, number][] = [];
  const send = (id: number, numBytes: number) =>
    pipe.send(id, numBytes, ({ lastMs }) => through.push([id, lastMs]));
  return { events, pipe, through, send };
}

test('first in, first out, at the rate of the trace', () => {
  const { events, pipe, through, send } = open(100);
  send(1, 5000);
  send(2, 1000);
  events.at(80, () => send(3, 1000));
  events.runUntil(1000);
  expect(through).toEqual([
    [1, 50],
    [2, 60],
    [3, 90],
  ]);
  expect(pipe.deliveredBytes).toBe(7000);
  expect([1, 2, 3].map((id) => pipe.sendMs(id))).toEqual([50, 10, 10]);
});

test('tells when the first chunk was through', () => {
  const events = createEventQueue();
  const seen: number[] = [];
  createPipe(constantTrace(1024), events).send(1, 3 * chunk, ({ firstMs, lastMs }) =>
    seen.push(firstMs, lastMs),
  );
  events.runUntil(100);
  expect(seen).toEqual([16, 48]);
});

test('what the socket holds cannot be taken back, the rest can', () => {
  const { events, pipe, through, send } = open(1024);
  send(1, 40 * chunk);
  send(2, chunk);
  let unsentBytes = 0;
  // Two chunks are through and four more in the socket.
  events.at(32, () => {
    unsentBytes = pipe.abandon(1);
  });
  events.runUntil(1000);
  expect(unsentBytes).toBe(34 * chunk);
  expect(through).toEqual([[2, 7 * 16]]);
  expect(pipe.deliveredBytes).toBe(7 * chunk);
});

test('a packet behind a full socket goes back whole; one that is through, not at all', () => {
  const { events, pipe, through, send } = open(1024);
  send(1, 5 * chunk);
  send(2, chunk);
  expect(pipe.abandon(2)).toBe(chunk);
  events.runUntil(1000);
  expect(pipe.abandon(1)).toBe(0);
  expect(through).toEqual([[1, 80]]);
});

test('a ping waits for the socket, not for what waits before it', () => {
  const { events, pipe, send } = open(1024);
  let pingMs = 0;
  send(1, 5 * chunk);
  send(2, 5 * chunk);
  pipe.sendUrgent(1024, ({ lastMs }) => {
    pingMs = lastMs;
  });
  events.runUntil(1000);
  expect(pingMs).toBe(81);
});

test('every byte that was handed over is delivered or taken back', () => {
  const act = fc.record({
    waitMs: fc.integer({ min: 0, max: 60 }),
    numBytes: fc.integer({ min: 1, max: 200_000 }),
    abandonAfterMs: fc.option(fc.integer({ min: 0, max: 200 }), { nil: undefined }),
  });
  fc.assert(
    fc.property(fc.array(act, { maxLength: 20 }), (acts) => {
      const { events, pipe, send } = open(500);
      let atMs = 0;
      let handed = 0;
      let back = 0;
      acts.forEach(({ waitMs, numBytes, abandonAfterMs }, id) => {
        atMs += waitMs;
        handed += numBytes;
        events.at(atMs, () => send(id, numBytes));
        if (abandonAfterMs === undefined) return;
        events.at(atMs + abandonAfterMs, () => {
          back += pipe.abandon(id);
        });
      });
      events.runUntil(1e6);
      expect(pipe.deliveredBytes + back).toBe(handed);
    }),
  );
});
