import { IsthmusError } from '@isthmus/core';

// Beyond these nothing is a trace, and numbers lose their precision: a year, a terabit per second.
const longestMs = 31_557_600_000;
const fastestBps = 1e12;

/** A stretch of time in which a link carries the same. */
export interface TraceSegment {
  durationMs: number;
  /** Bits per second; 0 in an outage. */
  rateBps: number;
}

export interface LinkTraceOptions {
  name: string;
  /** What traces are compared within; the same for those of one network. */
  kind: string;
  segments: Iterable<TraceSegment>;
  /** One way, both directions. */
  delayMs: number;
  /** False where loss was known and taken off the rate. @default true */
  lossless?: boolean;
}

/** What an uplink could carry at any time. Repeats from its start when it ends. */
export interface LinkTrace {
  readonly name: string;
  readonly kind: string;
  readonly durationMs: number;
  readonly delayMs: number;
  readonly lossless: boolean;
  /** Bits per second on average. */
  readonly meanRateBps: number;
  /** When a pipe that is free at `startMs` has delivered `numBytes`. */
  finishMs(startMs: number, numBytes: number): number;
  /** Bytes that a pipe which is never idle delivers from `startMs` to `endMs`. */
  bytesBetween(startMs: number, endMs: number): number;
}

/**
 * A trace of constant rates, one after the other. Looking something up takes logarithmic time: cumulative bytes are
 * kept at every change of rate.
 *
 * @throws IsthmusError `usage/invalid` for a trace that is empty, damaged, or never carries anything
 *
 * @example
 * ```ts
 * const trace = createLinkTrace({ name: 'constant', kind: 'test', segments: [{ durationMs: 1000, rateBps: 8e6 }], delayMs: 20 });
 * trace.finishMs(500, 100_000); // 600
 * ```
 */
export function createLinkTrace({
  name,
  kind,
  segments,
  delayMs,
  lossless = true,
}: LinkTraceOptions): LinkTrace {
  const times = [0];
  const totals = [0];
  let lastRateBps = -1;
  for (const { durationMs, rateBps } of segments) {
    if (!(durationMs >= 0 && durationMs <= longestMs && rateBps >= 0 && rateBps <= fastestBps)) {
      throw broken(name, `it holds a stretch of ${durationMs} ms at ${rateBps} bit/s`);
    }
    if (durationMs === 0) continue;
    const endMs = times[times.length - 1]! + durationMs;
    const total = totals[totals.length - 1]! + (rateBps * durationMs) / 8000;
    // Neighbours of one rate are one stretch: delivery opportunities come as many empty milliseconds.
    const at = rateBps === lastRateBps ? times.length - 1 : times.length;
    times[at] = endMs;
    totals[at] = total;
    lastRateBps = rateBps;
  }
  const timesMs = Float64Array.from(times);
  const bytes = Float64Array.from(totals);
  const last = timesMs.length - 1;
  const periodMs = timesMs[last]!;
  const periodBytes = bytes[last]!;
  if (periodBytes < 1) throw broken(name, 'it never carries a byte');
  if (periodMs > longestMs) throw broken(name, 'it is longer than a year');
  if (!(delayMs >= 0 && delayMs < Infinity)) throw broken(name, `its delay is ${delayMs} ms`);

  /** Bytes from the start of the trace to a time. */
  const totalAt = (atMs: number): number => {
    const rounds = Math.floor(atMs / periodMs);
    const withinMs = Math.min(periodMs, Math.max(0, atMs - rounds * periodMs));
    const i = Math.max(1, firstAtLeast(timesMs, withinMs));
    const share = (withinMs - timesMs[i - 1]!) / (timesMs[i]! - timesMs[i - 1]!);
    return rounds * periodBytes + bytes[i - 1]! + share * (bytes[i]! - bytes[i - 1]!);
  };

  return {
    name,
    kind,
    durationMs: periodMs,
    delayMs,
    lossless,
    meanRateBps: (8000 * periodBytes) / periodMs,
    finishMs(startMs, numBytes) {
      if (numBytes <= 0) return startMs;
      const target = totalAt(startMs) + numBytes;
      // The last round that ends before the target, so that a target at the very end of one belongs to it.
      const rounds = Math.ceil(target / periodBytes) - 1;
      const within = Math.min(periodBytes, target - rounds * periodBytes);
      const i = Math.max(1, firstAtLeast(bytes, within));
      const share = (within - bytes[i - 1]!) / (bytes[i]! - bytes[i - 1]!);
      const atMs = rounds * periodMs + timesMs[i - 1]! + share * (timesMs[i]! - timesMs[i - 1]!);
      return Math.max(startMs, atMs);
    },
    bytesBetween: (startMs, endMs) => (endMs <= startMs ? 0 : Math.max(0, totalAt(endMs) - totalAt(startMs))),
  };
}

/** Samples as stretches: each holds until the next one, the last as long as the one before it, or a second. */
export function untilNext(samples: readonly { atMs: number; rateBps: number }[]): TraceSegment[] {
  return samples.map(({ atMs, rateBps }, index) => {
    const [next, before] = [samples[index + 1], samples[index - 1]];
    const durationMs =
      next !== undefined ? next.atMs - atMs : before !== undefined ? atMs - before.atMs : 1000;
    return { durationMs, rateBps };
  });
}

/** Index of the first of ascending values that is at least `target`; the last index if none is. */
function firstAtLeast(ascending: Float64Array, target: number): number {
  let low = 0;
  let high = ascending.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ascending[middle]! >= target) high = middle;
    else low = middle + 1;
  }
  return low;
}

function broken(name: string, why: string): IsthmusError {
  return new IsthmusError('usage/invalid', `The trace ${name} cannot be used: ${why}.`);
}
