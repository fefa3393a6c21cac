import { type Clock, maxChunkBytes } from '@isthmus/core';

/** What is known about the way to the receiver; null where nothing was observed yet. */
export interface LinkEstimate {
  /** Goodput of the uplink, bytes per second. */
  bytesPerSecond: number | null;
  /** Round trip of a small message, the least of the recent ones, in milliseconds. */
  roundTripMs: number | null;
}

/** The part of an `arrived` or `receipt` message that tells of the link; times on the receiver's clock. */
export interface PacketArrival {
  numBytes: number;
  firstMs: number;
  lastMs: number;
}

export interface LinkEstimator {
  /** A packet came in whole. */
  addArrival(arrival: PacketArrival): void;
  /** A small message was answered after `durationMs`. */
  addRoundTrip(durationMs: number): void;
  estimate(): LinkEstimate;
}

const fastHalfLifeMs = 1_000;
const slowHalfLifeMs = 8_000;
const numRoundTrips = 16;
// What a receiver's clock can tell apart; keeps a packet that came all at once from being infinitely fast.
const resolutionMs = 0.1;

/**
 * Estimates rate and round trip apart from each other, so that the latency of a small packet is never taken for
 * a low rate. The rate is bytes over time, both forgotten exponentially; a large packet weighs as much as it is
 * long, and one of a single chunk, which tells nothing, weighs nothing. Of a fast and a slow average the lower
 * counts: down quickly, up slowly (as in dash.js and Shaka Player).
 *
 * @example
 * ```ts
 * const link = createLinkEstimator({ clock });
 * link.addArrival({ numBytes: 116_384, firstMs: 0, lastMs: 100 });
 * link.estimate().bytesPerSecond; // 1_000_000: the first chunk had arrived when the measurement began
 * ```
 */
export function createLinkEstimator({ clock }: { clock: Clock }): LinkEstimator {
  const fast = { halfLifeMs: fastHalfLifeMs, bytes: 0, durationMs: 0 };
  const slow = { halfLifeMs: slowHalfLifeMs, bytes: 0, durationMs: 0 };
  const roundTrips: number[] = [];
  let lastMs = clock.now();

  return {
    addArrival({ numBytes, firstMs, lastMs: arrivedMs }) {
      const bytes = numBytes - maxChunkBytes;
      if (bytes <= 0) return;
      const nowMs = clock.now();
      for (const average of [fast, slow]) {
        const kept = 0.5 ** ((nowMs - lastMs) / average.halfLifeMs);
        average.bytes = average.bytes * kept + bytes;
        average.durationMs = average.durationMs * kept + Math.max(resolutionMs, arrivedMs - firstMs);
      }
      lastMs = nowMs;
    },
    addRoundTrip(durationMs) {
      roundTrips.push(durationMs);
      if (roundTrips.length > numRoundTrips) roundTrips.shift();
    },
    estimate() {
      const rates = [fast, slow].map(({ bytes, durationMs }) => (1000 * bytes) / durationMs);
      return {
        bytesPerSecond: slow.bytes > 0 ? Math.min(...rates) : null,
        roundTripMs: roundTrips.length > 0 ? Math.min(...roundTrips) : null,
      };
    },
  };
}
