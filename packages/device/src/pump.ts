import { ChunkScheduler, type Clock, messageKind } from '@isthmus/core';

export interface ChunkPumpOptions {
  clock: Clock;
  /** Bytes the socket has taken but not yet sent. */
  bufferedBytes: () => number;
  send: (message: Uint8Array) => void;
}

/** Feeds packets to a socket, chunk by chunk, no faster than it sends. */
export interface ChunkPump {
  add(id: number, packet: Uint8Array): void;
  /** Stops sending that packet; the bytes of it that the socket was not given yet. */
  cancel(id: number): number;
  /** Drops everything; nothing is sent any more. */
  stop(): void;
}

const minWindowBytes = 32_768;
const maxWindowBytes = 1_048_576;
const lookMs = 2;

/**
 * A WebSocket takes whatever it is given, and what it has taken cannot be taken back: a cancelled request, or a
 * large one before a small one, would hold up the rest for as long as it lasts. So only a window of bytes is
 * handed over at a time. No event tells when the socket has room again, so the pump looks every few milliseconds;
 * the window doubles when it has run dry meanwhile, and halves when most of it is still there.
 */
export function createChunkPump({ clock, bufferedBytes, send }: ChunkPumpOptions): ChunkPump {
  const scheduler = new ChunkScheduler();
  let windowBytes = 2 * minWindowBytes;
  let stopLooking: (() => void) | undefined;

  const fill = (): void => {
    while (bufferedBytes() < windowBytes) {
      const chunk = scheduler.next();
      if (chunk === undefined) return;
      send(chunk.message);
    }
    if (scheduler.pendingBytes > 0) stopLooking = clock.after(lookMs, look);
  };
  const look = (): void => {
    stopLooking = undefined;
    const buffered = bufferedBytes();
    if (buffered === 0) windowBytes = Math.min(maxWindowBytes, 2 * windowBytes);
    else if (buffered > windowBytes / 2) windowBytes = Math.max(minWindowBytes, windowBytes / 2);
    fill();
  };

  return {
    add(id, packet) {
      scheduler.add(messageKind.requestChunk, id, packet);
      if (stopLooking === undefined) fill();
    },
    cancel(id) {
      const before = scheduler.pendingBytes;
      scheduler.cancel(id);
      return before - scheduler.pendingBytes;
    },
    stop() {
      scheduler.clear();
      stopLooking?.();
      stopLooking = undefined;
    },
  };
}
