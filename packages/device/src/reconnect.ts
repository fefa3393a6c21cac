import type { IsthmusError } from '@isthmus/core';

/** What a policy may look at. */
export interface ReconnectContext {
  /** Attempts that have failed since the link was lost. */
  readonly failures: number;
  /** Since the link was lost. */
  readonly elapsedMs: number;
  readonly lastError: IsthmusError;
  /** In [0, 1). */
  readonly random: () => number;
}

/** Decides when to try again after the link was lost. */
export interface ReconnectPolicy {
  /** Milliseconds to wait before the next attempt; null to give the link up for good. */
  nextDelayMs(context: ReconnectContext): number | null;
}

export interface BackoffOptions {
  /** Before the first attempt. @default 100 */
  firstMs?: number;
  /** @default 2 */
  factor?: number;
  /** @default 10_000 */
  maxMs?: number;
}

/**
 * Waits longer after each failure, between half and all of `firstMs · factor^failures`, so that many devices that
 * lost the same receiver do not come back at once. Never gives up.
 *
 * @example
 * ```ts
 * await connect(url, { model, reconnect: exponentialBackoff({ firstMs: 500, maxMs: 60_000 }) });
 * ```
 */
export function exponentialBackoff(options: BackoffOptions = {}): ReconnectPolicy {
  const { firstMs = 100, factor = 2, maxMs = 10_000 } = options;
  return {
    nextDelayMs: ({ failures, random }) =>
      Math.min(maxMs, firstMs * factor ** failures) * (0.5 + 0.5 * random()),
  };
}
