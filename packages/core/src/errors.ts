/**
 * Every code an Isthmus error can carry. Codes are API: they are stable, they cross the wire, and a program
 * may switch on them. The part before the slash names the stage that refused.
 */
export type ErrorCode =
  // files and models
  | 'model/not-onnx'
  | 'model/truncated'
  | 'model/invalid'
  | 'model/unsupported-operator'
  | 'model/unsupported'
  | 'model/no-cuts'
  | 'model/external-data'
  | 'model/verify-failed'
  // bundles
  | 'bundle/not-found'
  | 'bundle/invalid'
  | 'bundle/hash-mismatch'
  | 'bundle/no-such-cut'
  | 'bundle/no-such-model'
  // tensors and frames
  | 'tensor/shape-mismatch'
  | 'tensor/type-mismatch'
  | 'tensor/not-finite'
  | 'image/decode-failed'
  | 'image/unsupported'
  // codecs
  | 'codec/unknown'
  | 'codec/no-such-level'
  | 'codec/no-such-path'
  | 'codec/corrupt'
  // the wire
  | 'wire/malformed'
  | 'wire/too-large'
  | 'wire/version-mismatch'
  | 'wire/table-mismatch'
  | 'wire/crc-mismatch'
  | 'wire/unexpected'
  // the receiver's answers
  | 'auth/denied'
  | 'auth/origin'
  | 'limit/connections'
  | 'limit/in-flight'
  | 'limit/rate'
  | 'receiver/busy'
  | 'receiver/draining'
  | 'receiver/listen-failed'
  // the life of a request
  | 'request/cancelled'
  | 'request/deadline'
  | 'request/invalid-plan'
  | 'request/skipped'
  | 'request/dropped'
  | 'link/lost'
  | 'link/connect-failed'
  | 'link/closed'
  // runtimes
  | 'runtime/load-failed'
  | 'runtime/run-failed'
  | 'runtime/unavailable'
  | 'runtime/crashed'
  // fetching models
  | 'pull/unknown-model'
  | 'pull/download-failed'
  | 'pull/integrity'
  | 'pull/disk'
  // training
  | 'train/no-gradient'
  | 'train/not-finite'
  | 'train/state-invalid'
  | 'usage/invalid'
  | 'internal';

export interface IsthmusErrorOptions {
  /** The error that led to this one. */
  cause?: unknown;
  /** Machine-readable particulars: names, sizes, positions. */
  details?: Readonly<Record<string, unknown>>;
  /** Whether the same request may succeed if tried again unchanged. @default false */
  retryable?: boolean;
}

/**
 * The one error class of Isthmus. `message` says what happened and what to do; `code` is stable.
 *
 * @example
 * ```ts
 * try {
 *   await session.run(frame);
 * } catch (error) {
 *   if (isIsthmusError(error, 'link/lost')) retryLater();
 *   else throw error;
 * }
 * ```
 */
export class IsthmusError extends Error {
  readonly code: ErrorCode;
  readonly details: Readonly<Record<string, unknown>>;
  readonly retryable: boolean;

  constructor(code: ErrorCode, message: string, options: IsthmusErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'IsthmusError';
    this.code = code;
    this.details = options.details ?? {};
    this.retryable = options.retryable ?? false;
  }
}

/** Whether `error` is an {@link IsthmusError}, and, if `code` is given, has that code. */
export function isIsthmusError(error: unknown, code?: ErrorCode): error is IsthmusError {
  return error instanceof IsthmusError && (code === undefined || error.code === code);
}

/** `error` itself if it already is an {@link IsthmusError}, else a new one with it as the cause. */
export function toIsthmusError(error: unknown, code: ErrorCode, message: string): IsthmusError {
  if (error instanceof IsthmusError) return error;
  const reason = error instanceof Error ? error.message : String(error);
  return new IsthmusError(code, `${message}: ${reason}`, { cause: error });
}
