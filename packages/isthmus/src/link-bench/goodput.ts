import type { Observer } from './policy.js';

/** What simple rules know of a link: the goodput of the last packets, as players of video do. */
export interface Goodput extends Pick<Observer, 'sent' | 'arrived' | 'abandoned' | 'roundTrip'> {
  /** Bytes per millisecond: the harmonic mean of the last five packets; undefined before the first. */
  readonly recent: number | undefined;
  /** All bytes over all that time. */
  readonly overall: number | undefined;
  /** Of a ping; 0 before the first was answered. */
  readonly roundTripMs: number;
}

const numRecent = 5;
// What a device can tell apart.
const resolutionMs = 0.5;
// Handed over, but perhaps not gone.
const windowBytes = 65_536;

/**
 * Goodput of a packet: its bytes over the time from when the link was free for it to the acknowledgement, less the
 * round trip. One that was given up counts with what must have left in that time, as in dash.js' AbandonRequestsRule.
 */
export function createGoodput(clock: { now(): number }): Goodput {
  const pending = new Map<number, { numBytes: number; sentMs: number }>();
  const recentMs: number[] = [];
  let sumMs = 0;
  let sumBytes = 0;
  let roundTripMs = Infinity;
  let freeMs = 0;

  const add = (numBytes: number, durationMs: number): void => {
    const tookMs = Math.max(resolutionMs, durationMs);
    recentMs.push(tookMs / Math.max(1, numBytes));
    if (recentMs.length > numRecent) recentMs.shift();
    sumMs += tookMs;
    sumBytes += numBytes;
  };

  return {
    sent({ id, numBytes }) {
      pending.set(id, { numBytes, sentMs: clock.now() });
    },
    arrived({ id, numBytes }) {
      const packet = pending.get(id);
      const nowMs = clock.now();
      if (packet !== undefined) {
        const knownMs = roundTripMs === Infinity ? 0 : roundTripMs;
        add(numBytes, nowMs - Math.max(packet.sentMs + knownMs, freeMs));
      }
      pending.delete(id);
      freeMs = nowMs;
    },
    abandoned({ id, unsentBytes }) {
      const packet = pending.get(id);
      // What has left whole will still be acknowledged, and says more then.
      if (packet === undefined || unsentBytes === 0) return;
      pending.delete(id);
      const nowMs = clock.now();
      const goneBytes = packet.numBytes - unsentBytes - windowBytes;
      if (goneBytes > 0) add(goneBytes, nowMs - Math.max(packet.sentMs, freeMs));
    },
    roundTrip(durationMs) {
      roundTripMs = Math.min(roundTripMs, durationMs);
    },
    get recent() {
      return recentMs.length === 0 ? undefined : recentMs.length / recentMs.reduce((sum, ms) => sum + ms, 0);
    },
    get overall() {
      return sumMs === 0 ? undefined : sumBytes / sumMs;
    },
    get roundTripMs() {
      return roundTripMs === Infinity ? 0 : roundTripMs;
    },
  };
}
