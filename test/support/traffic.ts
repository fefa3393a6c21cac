import { chunkHeaderBytes, concatBytes, decodeChunk, messageKind } from '@isthmus/core';

/** The packets in a connection's messages, put together from their chunks, in the order they were finished. */
export function packetsIn(messages: readonly Uint8Array[], kind: 'request' | 'result'): Uint8Array[] {
  const wanted = kind === 'request' ? messageKind.requestChunk : messageKind.resultChunk;
  const parts = new Map<number, Uint8Array[]>();
  const packets: Uint8Array[] = [];
  for (const message of messages) {
    if (message[0] !== wanted || message.byteLength <= chunkHeaderBytes) continue;
    const { id, data, last } = decodeChunk(message);
    parts.set(id, [...(parts.get(id) ?? []), data]);
    if (last) packets.push(concatBytes(parts.get(id)!));
  }
  return packets;
}
