/** How often frames come. */
export interface Interval {
  /** 0 until two frames have come. */
  readonly meanMs: number;
  add(capturedMs: number): void;
}

const weight = 0.2;
// A longer pause is not the pace of a camera.
const longestMs = 2_000;

/** An exponentially weighted mean of the time between captures. */
export function createInterval(): Interval {
  let lastMs: number | undefined;
  let meanMs = 0;
  return {
    get meanMs() {
      return meanMs;
    },
    add(capturedMs) {
      const sinceMs = lastMs === undefined ? Infinity : capturedMs - lastMs;
      lastMs = capturedMs;
      if (sinceMs <= 0 || sinceMs > longestMs) return;
      meanMs = meanMs === 0 ? sinceMs : meanMs + weight * (sinceMs - meanMs);
    },
  };
}
