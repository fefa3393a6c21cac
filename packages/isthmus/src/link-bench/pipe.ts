import { maxChunkBytes } from '@isthmus/core';
import type { EventQueue } from './events.js';
import type { LinkTrace } from './trace.js';

/** What of a packet has left the device whole; times at the end of the pipe, without the delay. */
export interface Delivery {
  /** When its first chunk was through, and its last. */
  firstMs: number;
  lastMs: number;
}

/** The uplink of the simulation: one pipe, first in, first out. */
export interface Pipe {
  /** Hands a message over; `onDelivered` is called when all of it is through, never if it is abandoned before. */
  send(id: number, numBytes: number, onDelivered: (delivery: Delivery) => void): void;
  /** As `send`, but past everything that the socket does not hold yet, as control messages go. */
  sendUrgent(numBytes: number, onDelivered: (delivery: Delivery) => void): void;
  /** Takes back what the socket does not hold yet; how many bytes that were, 0 for what is through. */
  abandon(id: number): number;
  /** Bytes delivered so far, and milliseconds the pipe was busy with the message of that id. */
  readonly deliveredBytes: number;
  sendMs(id: number): number;
}

// As the device's pump: what a socket and the bottleneck's buffer hold cannot be taken back.
const defaultWindowBytes = 65_536;

interface Message {
  id: number;
  numBytes: number;
  /** Undefined once it was abandoned: what is left of it goes through and is of no use. */
  onDelivered: ((delivery: Delivery) => void) | undefined;
}

/**
 * Since the socket is refilled as soon as it holds less than a window, the pipe is never idle while something waits:
 * bytes go through one after the other at the rate of the trace. The window only says what an abandoned packet still
 * costs: the bytes up to the chunk with which the socket was last filled.
 */
export function createPipe(
  trace: LinkTrace,
  events: EventQueue,
  windowBytes: number = defaultWindowBytes,
): Pipe {
  let queue: Message[] = [];
  let headSinceMs = 0;
  let stopHead: () => void = () => {};
  let deliveredBytes = 0;
  const busyMs = new Map<number, number>();

  const startHead = (sinceMs: number): void => {
    const [head] = queue;
    if (head === undefined) return;
    headSinceMs = sinceMs;
    expectHead(head);
  };
  const expectHead = (head: Message): void => {
    stopHead();
    const lastMs = trace.finishMs(headSinceMs, head.numBytes);
    stopHead = events.at(lastMs, () => {
      queue.shift();
      deliveredBytes += head.numBytes;
      busyMs.set(head.id, lastMs - headSinceMs);
      const firstMs = trace.finishMs(headSinceMs, Math.min(head.numBytes, maxChunkBytes));
      startHead(lastMs);
      head.onDelivered?.({ firstMs: Math.min(firstMs, lastMs), lastMs });
    });
  };

  /** Bytes of a message that are through or in the socket. */
  const heldBytes = (index: number): number => {
    let aheadBytes = 0;
    for (const { numBytes } of queue.slice(0, index)) aheadBytes += numBytes;
    const goneBytes = trace.bytesBetween(headSinceMs, events.now());
    const endBytes = goneBytes + windowBytes - aheadBytes;
    if (endBytes <= 0) return 0;
    return Math.min(queue[index]!.numBytes, maxChunkBytes * Math.ceil(endBytes / maxChunkBytes));
  };

  return {
    send(id, numBytes, onDelivered) {
      queue.push({ id, numBytes, onDelivered });
      if (queue.length === 1) startHead(events.now());
    },
    sendUrgent(numBytes, onDelivered) {
      let at = queue.length;
      while (at > 1 && heldBytes(at - 1) === 0) at--;
      queue.splice(at, 0, { id: -1, numBytes, onDelivered });
      if (queue.length === 1) startHead(events.now());
    },
    abandon(id) {
      const index = queue.findIndex((message) => message.id === id);
      const message = queue[index];
      if (message === undefined) return 0;
      const keptBytes = heldBytes(index);
      const unsentBytes = message.numBytes - keptBytes;
      if (unsentBytes > 0) {
        message.onDelivered = undefined;
        message.numBytes = keptBytes;
        if (keptBytes === 0) queue = queue.filter((other) => other !== message);
        else if (index === 0) expectHead(message);
      }
      return unsentBytes;
    },
    get deliveredBytes() {
      return deliveredBytes;
    },
    sendMs: (id) => busyMs.get(id) ?? 0,
  };
}
