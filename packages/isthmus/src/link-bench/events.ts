import type { Clock } from '@isthmus/core';

/** Simulated time: a clock, and what is to happen by it. */
export interface EventQueue extends Clock {
  /** `rank` orders what happens at the same time; equal ranks keep the order in which they were added. @default 1 */
  at(atMs: number, callback: () => void, rank?: number): () => void;
  /** Runs everything up to that time. */
  runUntil(endMs: number): void;
}

interface Event {
  atMs: number;
  rank: number;
  order: number;
  callback: (() => void) | undefined;
}

/** A binary heap of events; canceling only empties one, which is cheaper than finding it. */
export function createEventQueue(): EventQueue {
  const heap: Event[] = [];
  let nowMs = 0;
  let order = 0;

  const isBefore = (a: Event, b: Event): boolean =>
    a.atMs !== b.atMs ? a.atMs < b.atMs : a.rank !== b.rank ? a.rank < b.rank : a.order < b.order;

  const push = (event: Event): void => {
    let at = heap.length;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = event;
  };

  const pop = (): Event => {
    const first = heap[0]!;
    const moved = heap.pop()!;
    const { length } = heap;
    if (length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= length) break;
      if (child + 1 < length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, moved)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = moved;
    return first;
  };

  const at = (atMs: number, callback: () => void, rank = 1): (() => void) => {
    const event: Event = { atMs: Math.max(nowMs, atMs), rank, order: order++, callback };
    if (event.atMs < Infinity) push(event);
    return () => {
      event.callback = undefined;
    };
  };

  return {
    now: () => nowMs,
    after: (delayMs, callback) => at(nowMs + delayMs, callback),
    at,
    runUntil(endMs) {
      while (heap.length > 0 && heap[0]!.atMs <= endMs) {
        const event = pop();
        nowMs = event.atMs;
        event.callback?.();
      }
      nowMs = Math.max(nowMs, endMs);
    },
  };
}
