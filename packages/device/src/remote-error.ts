import { type ErrorCode, IsthmusError } from '@isthmus/core';

// The codes a receiver has reason to send. Whatever else arrives is its own affair, and becomes `internal`.
const remoteCodes: ReadonlySet<string> = new Set<ErrorCode>([
  'bundle/not-found',
  'bundle/invalid',
  'bundle/no-such-cut',
  'bundle/no-such-model',
  'tensor/shape-mismatch',
  'tensor/type-mismatch',
  'tensor/not-finite',
  'codec/unknown',
  'codec/no-such-level',
  'codec/no-such-path',
  'codec/corrupt',
  'wire/malformed',
  'wire/too-large',
  'wire/version-mismatch',
  'wire/table-mismatch',
  'wire/crc-mismatch',
  'wire/unexpected',
  'auth/denied',
  'auth/origin',
  'limit/connections',
  'limit/in-flight',
  'limit/rate',
  'receiver/busy',
  'receiver/draining',
  'request/cancelled',
  'request/deadline',
  'request/invalid-plan',
  'runtime/load-failed',
  'runtime/run-failed',
  'runtime/unavailable',
  'runtime/crashed',
]);

/** Whether a receiver may mean this by it. */
export function isRemoteCode(code: string): code is ErrorCode {
  return remoteCodes.has(code);
}

/** What the receiver said, as an error of this end. */
export function remoteError(message: {
  code: string;
  message: string;
  retryable?: boolean;
  retryAfterMs?: number | null;
}): IsthmusError {
  const known = isRemoteCode(message.code);
  return new IsthmusError(
    known ? (message.code as ErrorCode) : 'internal',
    known ? message.message : `The receiver reports ${message.code}: ${message.message}`,
    {
      retryable: message.retryable ?? false,
      details: { remote: true, remoteCode: message.code, retryAfterMs: message.retryAfterMs ?? null },
    },
  );
}
