import type { Clock } from '@isthmus/core';

export interface ThrottleOptions {
  clock: Clock;
  /** 0 for no limit. */
  bytesPerSecond: number;
  /** Stop reading the socket: TCP's window fills, and the client's `bufferedAmount` grows. */
  pause: () => void;
  resume: () => void;
}

// What may come at once after a pause: a quarter of a second's worth, but at least a few chunks.
const burstSeconds = 0.25;
const minBurstBytes = 65536;

/**
 * A token bucket on what a connection sends. Bytes that are already here are never refused, only what follows
 * is read later.
 */
export class Throttle {
  readonly #options: ThrottleOptions;
  readonly #burstBytes: number;
  #roomBytes: number;
  #filledMs: number;
  #cancelTimer: (() => void) | undefined;

  constructor(options: ThrottleOptions) {
    this.#options = options;
    this.#burstBytes = Math.max(minBurstBytes, options.bytesPerSecond * burstSeconds);
    this.#roomBytes = this.#burstBytes;
    this.#filledMs = options.clock.now();
  }

  /** Whether reading is paused. */
  get paused(): boolean {
    return this.#cancelTimer !== undefined;
  }

  /** Counts what has come in. */
  take(numBytes: number): void {
    const { clock, bytesPerSecond, pause } = this.#options;
    if (bytesPerSecond === 0) return;
    const nowMs = clock.now();
    const gained = ((nowMs - this.#filledMs) / 1000) * bytesPerSecond;
    this.#roomBytes = Math.min(this.#burstBytes, this.#roomBytes + gained) - numBytes;
    this.#filledMs = nowMs;
    if (this.#roomBytes >= 0) return;
    // What the socket had already handed over still arrives while paused, and makes the pause longer.
    if (this.#cancelTimer === undefined) pause();
    this.#cancelTimer?.();
    this.#cancelTimer = clock.after((-this.#roomBytes / bytesPerSecond) * 1000, () => {
      this.#cancelTimer = undefined;
      this.#options.resume();
    });
  }

  /** Ends the pause for good, so that a closing handshake can be read. */
  stop(): void {
    this.#cancelTimer?.();
    if (this.#cancelTimer !== undefined) this.#options.resume();
    this.#cancelTimer = undefined;
  }
}
