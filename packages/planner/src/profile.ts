import type { Clock, Manifest, MeasuredLevel } from '@isthmus/core';
import { coderOf } from './candidates.js';
import { profiledMs, type SplitPlan } from './plan.js';

/** A frame was encoded; bytes of the payload. */
export interface Encoded {
  codec: string;
  from: number;
  to: number;
  level: number;
  durationMs: number;
  numBytes: number;
}

/** What computing takes, here and at the receiver: the bundle's profile at first, then more and more what is seen. */
export interface Profile {
  /** Milliseconds to run up to cut `to` on this device. */
  deviceMs(to: number): number;
  /** Milliseconds to encode here; `coder` as of {@link coderOf}. */
  encodeMs(coder: string, profiled: number): number;
  /** Bytes to expect of a frame now, for those the bundle's pictures took on average at that cut. */
  bytes(coder: string, profiled: number): number;
  /** Milliseconds of waiting at the receiver. */
  queueMs(): number;
  /** Milliseconds of decoding there; where a codec lands deeper, in place of the segments between. */
  decodeMs(coder: string, profiled: number): number;
  /** Milliseconds from cut `to` to the end there. */
  cloudMs(to: number): number;
  /** Standard deviation of computing times over their expectation, here and at the receiver. */
  readonly spread: number;
  readonly cloudSpread: number;
  ran(observed: { to: number; durationMs: number }): void;
  encoded(observed: Encoded): void;
  answered(observed: { plan: SplitPlan; queueMs: number; decodeMs: number; runMs: number }): void;
}

// A throttled device or a busy cloud shows within three or four frames.
const weight = 0.3;
// Frames differ; what the camera looks at differs more slowly.
const bytesWeight = 0.1;
// A queue that nobody has looked at for a while has been worked off, as far as anyone knows.
const queueHalfLifeMs = 1_000;
// How much a cut's own ratio follows what is seen at it; the common one follows everything.
const ownWeight = 0.15;

/**
 * Learns how many times slower than the bundle's profile this device and this receiver are. A ratio common to all cuts
 * follows every frame, so that a change is believed at cuts that are not in use; a cut's own ratio on top holds what
 * the profile has wrong about it.
 */
export function createProfile(options: {
  manifest: Manifest;
  clock: Clock;
  deviceSlowdown?: number;
  cloudSlowdown?: number;
}): Profile {
  const { manifest, clock } = options;
  const lastCut = manifest.cuts.length - 1;
  const profiled = manifest.cuts.map((_, cut) => ({
    device: profiledMs(manifest, 0, cut),
    cloud: profiledMs(manifest, cut, lastCut),
  }));
  const device = createRatios(options.deviceSlowdown ?? 1);
  const cloud = createRatios(options.cloudSlowdown ?? 1);
  const sizes = createRatios(1, bytesWeight);
  const coding = createRatios(options.deviceSlowdown ?? 1);
  const decoding = createRatios(options.cloudSlowdown ?? 1);
  const coded = measuredTimes(manifest);
  let queue = { meanMs: 0, atMs: clock.now() };
  const queueMs = (): number =>
    queue.meanMs === 0 ? 0 : queue.meanMs * 0.5 ** ((clock.now() - queue.atMs) / queueHalfLifeMs);

  return {
    deviceMs: (to) => (profiled[to]?.device ?? 0) * device.of(to),
    encodeMs: (coder, profiledEncodeMs) => profiledEncodeMs * coding.of(coder),
    bytes: (coder, profiledBytes) => profiledBytes * sizes.of(coder),
    queueMs,
    decodeMs: (coder, profiledDecodeMs) => profiledDecodeMs * decoding.of(coder),
    cloudMs: (to) => (profiled[to]?.cloud ?? 0) * cloud.of(to),
    get spread() {
      return device.spread;
    },
    get cloudSpread() {
      return cloud.spread;
    },
    ran({ to, durationMs }) {
      device.add(to, durationMs, profiled[to]?.device ?? 0);
    },
    encoded({ durationMs, numBytes, ...path }) {
      const expected = coded(path);
      if (expected === undefined) return;
      const coder = coderOf(path);
      coding.add(coder, durationMs, expected.encodeMs);
      // What has one size whatever the frame tells nothing of the others.
      if (expected.numBytesDeviation > 0) sizes.add(coder, numBytes, expected.numBytes);
    },
    answered({ plan, queueMs: waitedMs, decodeMs, runMs }) {
      queue = { meanMs: queueMs() + weight * (waitedMs - queueMs()), atMs: clock.now() };
      cloud.add(plan.to, runMs, profiled[plan.to]?.cloud ?? 0);
      const expected = coded(plan);
      if (expected !== undefined) decoding.add(coderOf(plan), decodeMs, expected.decodeMs);
    },
  };
}

interface Ratios {
  of(key: number | string): number;
  readonly spread: number;
  add(key: number | string, found: number, expected: number): void;
}

// Milliseconds shorter than this are mostly of the timer and the scheduler.
const least = 0.05;
const startSpread = 0.1;

function createRatios(start: number, commonWeight: number = weight): Ratios {
  // One frame tells how fast a machine is, but not how large frames are.
  const isTrusted = commonWeight >= weight;
  const own = new Map<number | string, number>();
  let common = start;
  let isMeasured = false;
  let variance = startSpread ** 2;
  const of = (key: number | string): number => common * (own.get(key) ?? 1);
  return {
    of,
    get spread() {
      return Math.sqrt(variance);
    },
    add(key, found, expected) {
      if (expected < least || !(found >= 0)) return;
      const ratio = found / expected;
      const error = Math.min(1, Math.abs(ratio / of(key) - 1));
      if (isMeasured) variance += commonWeight * (error ** 2 - variance);
      const before = own.get(key) ?? 1;
      common = isMeasured || !isTrusted ? common + commonWeight * (ratio / before - common) : ratio;
      own.set(key, before + Math.min(ownWeight, commonWeight) * (ratio / Math.max(common, 1e-9) - before));
      isMeasured = true;
    },
  };
}

type LevelAt = Pick<SplitPlan, 'codec' | 'from' | 'to' | 'level'>;

function measuredTimes(manifest: Manifest): (at: LevelAt) => MeasuredLevel | undefined {
  const entries = new Map(manifest.codecs.map((entry) => [entry.id, entry]));
  return ({ codec, from, to, level }) => {
    const entry = entries.get(codec);
    const path = entry?.paths.findIndex((one) => one.from === from && one.to === to) ?? -1;
    return entry?.measured?.[path]?.[level];
  };
}
