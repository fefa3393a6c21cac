import type { Clock } from '../clock.js';
import { IsthmusError, toIsthmusError } from '../errors.js';
import type { Chunk } from './chunk.js';

/** A packet put together again, and when its first and last chunk came, on the assembler's clock. */
export interface AssembledPacket {
  id: number;
  packet: Uint8Array;
  firstMs: number;
  lastMs: number;
}

export interface AssemblerOptions {
  clock: Clock;
  /**
   * Looks at the first chunk, before anything is allocated, and returns the whole packet's length in bytes.
   * What it throws refuses that packet alone.
   */
  admit: (id: number, firstChunk: Uint8Array) => number;
  /** Most packets under way at once. */
  maxOpen: number;
}

export type AssemblerEvent =
  | { type: 'packet'; packet: AssembledPacket }
  | { type: 'refused'; id: number; error: IsthmusError };

interface Open {
  packet: Uint8Array;
  received: number;
  firstMs: number;
}

// Refused packets whose remaining chunks may still be on their way.
const maxRefused = 1024;

/**
 * Puts packets together from interleaved chunks. Never holds more than `maxOpen` packets, each as long as
 * `admit` allowed.
 *
 * A chunk that breaks the framing (a gap, too much data, an unknown packet) throws `wire/malformed`: the
 * connection cannot go on. A packet that may not be is returned as `refused`, and its further chunks are ignored.
 */
export class PacketAssembler {
  readonly #options: AssemblerOptions;
  readonly #open = new Map<number, Open>();
  readonly #refused = new Set<number>();

  constructor(options: AssemblerOptions) {
    this.#options = options;
  }

  /** Takes one chunk; returns an event when it completes or refuses a packet. */
  take(chunk: Chunk): AssemblerEvent | undefined {
    if (chunk.offset === 0) {
      if (this.#open.has(chunk.id)) throw malformed(chunk, 'starts twice');
      this.#refused.delete(chunk.id);
      return this.#start(chunk);
    }
    if (this.#refused.has(chunk.id)) {
      if (chunk.last) this.#refused.delete(chunk.id);
      return undefined;
    }
    const open = this.#open.get(chunk.id);
    if (open === undefined) throw malformed(chunk, 'has no beginning');
    return this.#append(chunk, open);
  }

  /** Forgets a packet under way; its further chunks are ignored. */
  cancel(id: number): boolean {
    if (!this.#open.delete(id)) return false;
    this.#refuse(id);
    return true;
  }

  /** Number of packets under way. */
  get numOpen(): number {
    return this.#open.size;
  }

  #start(chunk: Chunk): AssemblerEvent | undefined {
    try {
      if (this.#open.size >= this.#options.maxOpen) {
        throw new IsthmusError(
          'limit/in-flight',
          `At most ${this.#options.maxOpen} requests may be under way.`,
          {
            retryable: true,
          },
        );
      }
      const numBytes = this.#options.admit(chunk.id, chunk.data);
      const open = { packet: new Uint8Array(numBytes), received: 0, firstMs: this.#options.clock.now() };
      this.#open.set(chunk.id, open);
      return this.#append(chunk, open);
    } catch (error) {
      if (!chunk.last) this.#refuse(chunk.id);
      this.#open.delete(chunk.id);
      return { type: 'refused', id: chunk.id, error: toIsthmusError(error, 'wire/malformed', 'Refused') };
    }
  }

  #append(chunk: Chunk, open: Open): AssemblerEvent | undefined {
    if (chunk.offset !== open.received)
      throw malformed(chunk, `continues at ${chunk.offset}, not ${open.received}`);
    const received = open.received + chunk.data.byteLength;
    if (received > open.packet.byteLength || chunk.last !== (received === open.packet.byteLength)) {
      throw malformed(chunk, 'is not as long as it says');
    }
    open.packet.set(chunk.data, open.received);
    open.received = received;
    if (!chunk.last) return undefined;
    this.#open.delete(chunk.id);
    const { packet, firstMs } = open;
    return { type: 'packet', packet: { id: chunk.id, packet, firstMs, lastMs: this.#options.clock.now() } };
  }

  #refuse(id: number): void {
    // A peer that heard of it stops sending, so that the last chunk never comes: the oldest make room.
    for (const oldest of this.#refused) {
      if (this.#refused.size < maxRefused) break;
      this.#refused.delete(oldest);
    }
    this.#refused.add(id);
  }
}

function malformed(chunk: Chunk, what: string): IsthmusError {
  return new IsthmusError('wire/malformed', `Packet ${chunk.id} ${what}.`);
}
