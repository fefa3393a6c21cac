/**
 * The only source of time in Isthmus. Everything that waits or measures takes a clock, so that tests can
 * simulate hours in microseconds.
 */
export interface Clock {
  /** Milliseconds since an arbitrary, fixed origin; never goes back. */
  now(): number;
  /** Calls `callback` once after `delayMs`; the returned function cancels it. */
  after(delayMs: number, callback: () => void): () => void;
}

/** The real clock of this process or page. */
export const systemClock: Clock = {
  now: () => performance.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};

/** A clock that stands still until told to move. */
export interface ManualClock extends Clock {
  /** Moves time forward by `durationMs`, running due callbacks in the order of their times. */
  advance(durationMs: number): void;
}

/**
 * A clock for tests and simulations.
 *
 * @example
 * ```ts
 * const clock = createManualClock();
 * clock.after(1000, () => console.log('one second'));
 * clock.advance(1000); // prints "one second"
 * ```
 */
export function createManualClock(startMs: number = 0): ManualClock {
  let nowMs = startMs;
  let timers: { atMs: number; callback: () => void }[] = [];
  return {
    now: () => nowMs,
    after(delayMs, callback) {
      const timer = { atMs: nowMs + Math.max(0, delayMs), callback };
      timers.push(timer);
      return () => {
        timers = timers.filter((other) => other !== timer);
      };
    },
    advance(durationMs) {
      const endMs = nowMs + durationMs;
      for (;;) {
        const due = timers.filter((timer) => timer.atMs <= endMs);
        const next = due.reduce<(typeof due)[number] | undefined>(
          (first, timer) => (first === undefined || timer.atMs < first.atMs ? timer : first),
          undefined,
        );
        if (next === undefined) break;
        timers = timers.filter((timer) => timer !== next);
        nowMs = Math.max(nowMs, next.atMs);
        next.callback();
      }
      nowMs = endMs;
    },
  };
}
