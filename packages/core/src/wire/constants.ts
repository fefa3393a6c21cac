import type { ErrorCode } from '../errors.js';

/** Protocol versions this code speaks, newest first. */
export const protocolVersions: readonly number[] = [1];

/** First byte of every WebSocket message. */
export const messageKind = { control: 1, requestChunk: 2, resultChunk: 3 } as const;
export type ChunkKind = typeof messageKind.requestChunk | typeof messageKind.resultChunk;

/** Largest chunk message, its header included: small enough that a cancel or a second request gets its turn. */
export const maxChunkBytes = 16384;
export const chunkHeaderBytes = 12;
/** Control messages are small; a hello carries at most a token of a few kilobytes. */
export const maxControlBytes = 65536;

/** Bytes before the payload of a request packet; they count towards its rate. */
export const requestHeaderBytes = 20;
export const resultHeaderBytes = 12;
/** Largest result a device accepts unless told otherwise. */
export const defaultMaxResultBytes = 67_108_864;

const closeCodes: Partial<Record<ErrorCode, number>> = {
  'link/closed': 1000,
  'receiver/draining': 1001,
  'wire/malformed': 4000,
  'wire/version-mismatch': 4001,
  'wire/unexpected': 4002,
  'auth/denied': 4003,
  'bundle/no-such-model': 4004,
  'wire/table-mismatch': 4005,
  'auth/origin': 4006,
  'wire/too-large': 4008,
  'limit/connections': 4009,
  'limit/rate': 4010,
  'request/deadline': 4011,
};

/** The WebSocket close code that goes with an error code (RFC 6455: 4000–4999 are private); the reason is the code. */
export function closeCodeFor(code: ErrorCode): number {
  return closeCodes[code] ?? 4099;
}
