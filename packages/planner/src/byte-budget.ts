import type { Clock } from '@isthmus/core';

/** Bytes that may be sent now. */
export interface ByteBudget {
  readonly bytes: number;
  take(numBytes: number): void;
}

const hourMs = 3_600_000;
// What was not spent is kept for so long: a pause may be followed by better pictures, but not by a burst of an hour.
const keptMs = 60_000;

/** Spreads an hour's bytes evenly (a token bucket of a minute's depth); without a limit, Infinity. */
export function createByteBudget(clock: Clock, maxBytesPerHour: number = Infinity): ByteBudget {
  if (maxBytesPerHour === Infinity) return { bytes: Infinity, take: () => {} };
  const depth = (maxBytesPerHour * keptMs) / hourMs;
  let bytes = depth;
  let atMs = clock.now();
  const fill = (): number => {
    const nowMs = clock.now();
    bytes = Math.min(depth, bytes + ((nowMs - atMs) * maxBytesPerHour) / hourMs);
    atMs = nowMs;
    return bytes;
  };
  return {
    get bytes() {
      return fill();
    },
    take(numBytes) {
      bytes = fill() - numBytes;
    },
  };
}
