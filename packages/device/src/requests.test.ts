import { createManualClock, IsthmusError, isIsthmusError } from '@isthmus/core';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createRequestTable, type RequestLink } from './requests.js';

function createTable() {
  const clock = createManualClock();
  const log: string[] = [];
  const seen: string[] = [];
  const table = createRequestTable({
    clock,
    random: () => 0.5,
    observer: {
      sent: ({ id, numBytes }) => seen.push(`sent ${id}: ${numBytes}`),
      abandoned: ({ id, unsentBytes }) => seen.push(`abandoned ${id}: ${unsentBytes}`),
    },
  });
  const createLink = (name: string): RequestLink => ({
    send: (id, packet) => log.push(`${name} sends ${id}: ${packet[0]}`),
    stop: () => 0,
    cancel: (id) => {
      log.push(`${name} cancels ${id}`);
      return 1;
    },
  });
  return { clock, table, log, seen, createLink };
}

const signal = new AbortController().signal;
const result = (id: number) => ({ id, packet: Uint8Array.of(id), firstMs: 0, lastMs: 1 });
const remote = (code: 'receiver/busy' | 'runtime/run-failed' | 'receiver/draining', retryAfterMs?: number) =>
  new IsthmusError(code, '', { details: { remote: true, retryAfterMs: retryAfterMs ?? null } });
const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'answered',
    (error: unknown) => (isIsthmusError(error) ? error.code : String(error)),
  );

test('a request waits for a link, moves to the next with its id, and ends with its result', async () => {
  const { table, log, createLink } = createTable();
  const answer = table.submit(Uint8Array.of(7), signal);
  expect(log).toEqual([]);
  table.attach(createLink('first'));
  table.detach();
  table.attach(createLink('second'));
  expect(log).toEqual(['first sends 1: 7', 'second sends 1: 7']);
  table.onResult(result(1));
  table.onResult(result(1));
  await expect(answer).resolves.toMatchObject({ packet: Uint8Array.of(1), receivedMs: 1 });
  table.attach(createLink('third'));
  expect(log).toHaveLength(2);
});

test('an abort cancels at the receiver too, and frees the id', async () => {
  const { table, log, createLink } = createTable();
  table.attach(createLink('link'));
  const controller = new AbortController();
  const code = codeOf(table.submit(Uint8Array.of(1), controller.signal));
  controller.abort(new IsthmusError('request/cancelled', ''));
  expect(await code).toBe('request/cancelled');
  expect(log).toEqual(['link sends 1: 1', 'link cancels 1']);
  expect(table.isAwaited(1)).toBe(false);
  expect(await codeOf(table.submit(Uint8Array.of(1), controller.signal))).toBe('request/cancelled');
});

test('a refusal that passes is tried again after a while, under a new id, a few times', async () => {
  const { table, log, clock, createLink } = createTable();
  table.attach(createLink('link'));
  const code = codeOf(table.submit(Uint8Array.of(1), signal));
  table.onError(1, remote('receiver/busy', 500));
  clock.advance(499);
  expect(log).toHaveLength(1);
  clock.advance(1);
  expect(log).toEqual(['link sends 1: 1', 'link sends 2: 1']);
  for (const id of [2, 3, 4]) {
    table.onError(id, remote('receiver/busy'));
    clock.advance(10_000);
  }
  table.onError(5, remote('receiver/busy'));
  expect(await code).toBe('receiver/busy');
});

test('a refusal by a draining receiver waits for the next link', async () => {
  const { table, log, clock, createLink } = createTable();
  table.attach(createLink('old'));
  const answer = codeOf(table.submit(Uint8Array.of(1), signal));
  table.onError(1, remote('receiver/draining'));
  clock.advance(60_000);
  expect(log).toHaveLength(1);
  table.attach(createLink('new'));
  expect(log).toEqual(['old sends 1: 1', 'new sends 2: 1']);
  table.onResult(result(2));
  expect(await answer).toBe('answered');
});

test('other errors end a request', async () => {
  const { table, createLink } = createTable();
  table.attach(createLink('link'));
  const code = codeOf(table.submit(Uint8Array.of(1), signal));
  table.onError(1, remote('runtime/run-failed'));
  table.onError(1, remote('runtime/run-failed'));
  expect(await code).toBe('runtime/run-failed');
});

test('whatever happens in whatever order, each request ends exactly once', async () => {
  const event = fc.oneof(
    fc.constant({ do: 'submit' as const }),
    fc.record({
      do: fc.constantFrom('result' as const, 'busy' as const, 'error' as const, 'draining' as const),
      id: fc.integer({ min: 1, max: 12 }),
    }),
    fc.record({ do: fc.constant('abort' as const), index: fc.nat({ max: 5 }) }),
    fc.constantFrom({ do: 'attach' as const }, { do: 'detach' as const }, { do: 'wait' as const }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(event, { maxLength: 60 }), async (events) => {
      const { table, clock, createLink } = createTable();
      const controllers: AbortController[] = [];
      const ends: number[] = [];
      for (const step of events) {
        if (step.do === 'submit') {
          const index = controllers.push(new AbortController()) - 1;
          ends.push(0);
          const ended = (): void => {
            ends[index]!++;
          };
          table.submit(Uint8Array.of(1), controllers[index]!.signal).then(ended, ended);
        } else if (step.do === 'result') table.onResult(result(step.id));
        else if (step.do === 'busy') table.onError(step.id, remote('receiver/busy'));
        else if (step.do === 'draining') table.onError(step.id, remote('receiver/draining'));
        else if (step.do === 'error') table.onError(step.id, remote('runtime/run-failed'));
        else if (step.do === 'abort')
          controllers[step.index]?.abort(new IsthmusError('request/cancelled', ''));
        else if (step.do === 'attach') table.attach(createLink('link'));
        else if (step.do === 'detach') table.detach();
        else clock.advance(1000);
      }
      table.failAll(new IsthmusError('link/lost', ''));
      clock.advance(100_000);
      await Promise.resolve();
      await Promise.resolve();
      expect(ends.every((count) => count === 1)).toBe(true);
    }),
    { numRuns: 300 },
  );
});

test('tells what was given to the link, in bytes on the wire, and what of it was taken back', () => {
  const { table, seen, createLink } = createTable();
  const controller = new AbortController();
  const ended = table.submit(new Uint8Array(20_000), controller.signal).catch(() => {});
  expect(seen).toEqual([]);
  table.attach(createLink('first'));
  table.detach();
  table.attach(createLink('second'));
  controller.abort(new IsthmusError('request/cancelled', ''));
  expect(seen).toEqual(['sent 1: 20024', 'sent 1: 20024', 'abandoned 1: 13']);
  void table.submit(Uint8Array.of(1), signal).catch(() => {});
  table.onError(2, remote('runtime/run-failed'));
  expect(seen.slice(3)).toEqual(['sent 2: 13', 'abandoned 2: 13']);
  return ended;
});
