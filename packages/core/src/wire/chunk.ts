import { IsthmusError } from '../errors.js';
import { type ChunkKind, chunkHeaderBytes, maxChunkBytes, messageKind } from './constants.js';

/** One chunk of a packet; `data` is a view into the message. */
export interface Chunk {
  kind: ChunkKind;
  id: number;
  offset: number;
  last: boolean;
  data: Uint8Array;
}

/** @throws IsthmusError `wire/malformed` */
export function decodeChunk(message: Uint8Array): Chunk {
  if (message.byteLength <= chunkHeaderBytes || message.byteLength > maxChunkBytes) {
    throw new IsthmusError('wire/malformed', `A chunk of ${message.byteLength} bytes cannot be.`);
  }
  const view = new DataView(message.buffer, message.byteOffset, chunkHeaderBytes);
  const kind = view.getUint8(0);
  if (kind !== messageKind.requestChunk && kind !== messageKind.resultChunk) {
    throw new IsthmusError('wire/malformed', `Message kind ${kind} is not a chunk.`);
  }
  if (view.getUint8(1) > 1 || view.getUint16(2, true) !== 0) {
    throw new IsthmusError('wire/malformed', 'Reserved bits of a chunk must be zero.');
  }
  return {
    kind,
    last: view.getUint8(1) === 1,
    id: view.getUint32(4, true),
    offset: view.getUint32(8, true),
    data: message.subarray(chunkHeaderBytes),
  };
}

interface Outgoing {
  kind: ChunkKind;
  id: number;
  packet: Uint8Array;
  offset: number;
}

/**
 * Cuts packets into chunks, one of each in turn, so that a small request is not stuck behind a large one and a
 * cancelled one stops at once. Holds packets, not sockets: whoever owns the socket asks for the next chunk when
 * there is room.
 */
export class ChunkScheduler {
  #outgoing: Outgoing[] = [];
  #next = 0;

  add(kind: ChunkKind, id: number, packet: Uint8Array): void {
    this.#outgoing.push({ kind, id, packet, offset: 0 });
  }

  /** Forgets what is left of a packet; whether there was any. */
  cancel(id: number): boolean {
    const index = this.#outgoing.findIndex((outgoing) => outgoing.id === id);
    if (index < 0) return false;
    this.#outgoing.splice(index, 1);
    if (index < this.#next) this.#next--;
    return true;
  }

  clear(): void {
    this.#outgoing = [];
    this.#next = 0;
  }

  /** Bytes of packets not yet handed out. */
  get pendingBytes(): number {
    return this.#outgoing.reduce((sum, { packet, offset }) => sum + packet.byteLength - offset, 0);
  }

  /** The next chunk as a whole message, or undefined when nothing waits. `done` tells that its packet is finished. */
  next(): { id: number; message: Uint8Array; done: boolean } | undefined {
    if (this.#outgoing.length === 0) return undefined;
    if (this.#next >= this.#outgoing.length) this.#next = 0;
    const outgoing = this.#outgoing[this.#next]!;
    const { kind, id, packet, offset } = outgoing;
    const end = Math.min(offset + maxChunkBytes - chunkHeaderBytes, packet.byteLength);
    const done = end === packet.byteLength;
    const message = new Uint8Array(chunkHeaderBytes + end - offset);
    const view = new DataView(message.buffer);
    view.setUint8(0, kind);
    view.setUint8(1, done ? 1 : 0);
    view.setUint32(4, id, true);
    view.setUint32(8, offset, true);
    message.set(packet.subarray(offset, end), chunkHeaderBytes);
    if (done) this.#outgoing.splice(this.#next, 1);
    else {
      outgoing.offset = end;
      this.#next++;
    }
    return { id, message, done };
  }
}
