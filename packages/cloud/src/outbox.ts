import { ChunkScheduler, type ControlMessage, encodeControl, messageKind } from '@isthmus/core';
import type { WebSocket } from 'ws';
import type { ByteBudget } from './budget.js';

export interface OutboxOptions {
  /** Results count until they are handed to the socket. */
  budget: ByteBudget;
  /** A result has been handed to the socket whole, or will never be. */
  onDone: () => void;
  /** The client lets so much pile up that it can only be cut off. */
  onOverflow: () => void;
  onBytes: (numBytes: number) => void;
}

// Chunks wait here rather than in the socket, so that results interleave and a cancelled one stops.
const socketFullBytes = 262_144;
// Control messages go out at once; a client that provokes this many without reading them means no good.
const overflowBytes = 4_194_304;

/** What goes out on one connection: control messages at once, results chunk by chunk as the socket drains. */
export class Outbox {
  readonly #socket: WebSocket;
  readonly #options: OutboxOptions;
  readonly #chunks = new ChunkScheduler();
  readonly #sending = new Map<number, number>();
  #stopped = false;
  #overflowed = false;

  constructor(socket: WebSocket, options: OutboxOptions) {
    this.#socket = socket;
    this.#options = options;
  }

  /** Results not yet handed over whole. */
  get numSending(): number {
    return this.#sending.size;
  }

  isSending(id: number): boolean {
    return this.#sending.has(id);
  }

  control(message: ControlMessage): void {
    this.#send(encodeControl(message));
  }

  result(id: number, packet: Uint8Array): void {
    if (this.#stopped) return;
    this.#sending.set(id, packet.byteLength);
    this.#options.budget.take(packet.byteLength);
    this.#chunks.add(messageKind.resultChunk, id, packet);
    this.#pump();
  }

  /** Whether a result was on its way, and now is not. */
  cancel(id: number): boolean {
    if (!this.#chunks.cancel(id)) return false;
    this.#finish(id);
    return true;
  }

  /** Forgets what has not been sent; nothing can be sent after that. */
  stop(): void {
    this.#stopped = true;
    this.#chunks.clear();
    for (const id of [...this.#sending.keys()]) this.#finish(id);
  }

  // Each chunk's callback comes when the kernel took it, and asks for more.
  readonly #pump = (error?: Error | null): void => {
    if (error) return;
    while (!this.#stopped && this.#socket.bufferedAmount < socketFullBytes) {
      const chunk = this.#chunks.next();
      if (chunk === undefined) return;
      this.#send(chunk.message, this.#pump);
      if (chunk.done) this.#finish(chunk.id);
    }
  };

  #send(message: Uint8Array, onSent?: (error?: Error | null) => void): void {
    if (this.#stopped || this.#socket.readyState !== this.#socket.OPEN) return;
    this.#socket.send(message, { binary: true }, onSent);
    this.#options.onBytes(message.byteLength);
    if (this.#overflowed || this.#socket.bufferedAmount <= overflowBytes) return;
    // Once: what is said on the way out overflows too.
    this.#overflowed = true;
    this.#options.onOverflow();
  }

  #finish(id: number): void {
    const numBytes = this.#sending.get(id);
    if (numBytes === undefined) return;
    this.#sending.delete(id);
    this.#options.budget.give(numBytes);
    this.#options.onDone();
  }
}
