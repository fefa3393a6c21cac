/** How much slower (or faster) than the manifest's profile segments run here. */
export interface Pace {
  /** Milliseconds for one profiled millisecond; 1 until something was measured. */
  readonly slowdown: number;
  add(durationMs: number, profiledMs: number): void;
}

const weight = 0.3;

/** An exponentially weighted average of measured ratios. */
export function createPace(): Pace {
  let slowdown: number | undefined;
  return {
    get slowdown() {
      return slowdown ?? 1;
    },
    add(durationMs, profiledMs) {
      if (profiledMs <= 0) return;
      const ratio = durationMs / profiledMs;
      slowdown = slowdown === undefined ? ratio : slowdown + weight * (ratio - slowdown);
    },
  };
}
