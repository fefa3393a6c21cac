import { expect, test } from 'vitest';
import { createSlots } from './slots.js';

const { signal } = new AbortController();
const settle = () => new Promise((resolve) => setImmediate(resolve));

test('admits as many as the limit, in order, and counts each release once', async () => {
  const slots = createSlots(2);
  const entered: number[] = [];
  const releases: (() => void)[] = [];
  for (const number of [1, 2, 3, 4, 5]) {
    void slots.take(signal).then((release) => {
      entered.push(number);
      releases.push(release);
    });
  }
  await settle();
  expect(entered).toEqual([1, 2]);
  releases[0]!();
  releases[0]!();
  await settle();
  expect(entered).toEqual([1, 2, 3]);
  slots.limit = 4;
  await settle();
  expect(entered).toEqual([1, 2, 3, 4, 5]);
});

test('who stops waiting is passed over', async () => {
  const slots = createSlots(1);
  const release = await slots.take(signal);
  const controller = new AbortController();
  const left = slots.take(controller.signal);
  const next = slots.take(signal);
  controller.abort(new Error('left'));
  await expect(left).rejects.toThrow('left');
  release();
  await expect(next).resolves.toBeTypeOf('function');
  await expect(slots.take(controller.signal)).rejects.toThrow('left');
});

test('beyond so many that wait, the one that has waited longest is dropped', async () => {
  const slots = createSlots(1, 1);
  const release = await slots.take(signal);
  const first = slots.take(signal);
  const second = slots.take(signal);
  await expect(first).rejects.toMatchObject({ code: 'request/dropped', retryable: true });
  release();
  await expect(second).resolves.toBeTypeOf('function');
  const none = createSlots(1, 0);
  await none.take(signal);
  await expect(none.take(signal)).rejects.toMatchObject({ code: 'request/dropped' });
});
