import { type Clock, describeSpan, type Manifest } from '@isthmus/core';
import type { Candidate } from './candidates.js';
import type { Constraints } from './objective.js';
import { deviceBytes } from './plan.js';
import type { PricedPlan } from './price.js';

/** Named so that they can be changed. */
export interface SpanTuning {
  /** How long a new span is expected to be of use. */
  horizonMs: number;
  /** Of the downlink, for the price of a download. */
  downloadBytesPerSecond: number;
  /** Composing and starting a session: bytes of weights a second. */
  loadBytesPerSecond: number;
  /** Half-life of the memory of what a cut would have been worth. */
  halfLifeMs: number;
  /** Least gain a frame, as a share of utility, that is worth a download. */
  minGain: number;
}

export const defaultSpanTuning: SpanTuning = {
  horizonMs: 30_000,
  downloadBytesPerSecond: 2_500_000,
  loadBytesPerSecond: 100_000_000,
  halfLifeMs: 1_000,
  minGain: 0.01,
};

interface Weighing {
  /** Best utility at that cut for this frame; undefined where no plan is allowed. */
  best(cut: number): number | undefined;
  /** What this frame gets with the spans that are there. */
  taken: PricedPlan | undefined;
  /** The cut in use. */
  inUse: number;
  intervalMs: number;
  bytesPerSecond: number | null;
}

/** Which spans a device should hold. */
export interface SpanChoice {
  isReady(cut: number): boolean;
  ready(cut: number): void;
  dropped(cut: number): void;
  weigh(weighing: Weighing): { prepare: number | null; evict: readonly number[] };
}

// A cut that was asked for and did not come is not asked for again before.
const retryMs = 10_000;

/**
 * Treats a span as an investment: the gain of a frame, remembered with a half-life, times the frames of the horizon,
 * against the frames that pass while it is fetched and loaded. Under the memory cap, the spans that gained least lately
 * go first: bandwidth for memory.
 */
export function createSpanChoice(options: {
  manifest: Manifest;
  clock: Clock;
  constraints: Constraints;
  candidates: readonly Candidate[];
  tuning?: Partial<SpanTuning>;
}): SpanChoice {
  const { manifest, clock, constraints, candidates } = options;
  const tuning = { ...defaultSpanTuning, ...options.tuning };
  const maxDeviceBytes = constraints.maxDeviceBytes ?? Infinity;
  const cuts = manifest.cuts.map(({ index }) => ({
    index,
    // Of its span and of the largest encoder that a plan there takes: one at a time is enough.
    bytes: candidates.reduce(
      (most, plan) => (plan.deviceCut === index ? Math.max(most, plan.deviceBytes) : most),
      deviceBytes(manifest, index),
    ),
    // Of all of them: those that plans use come with the span.
    encoderBytes: encoderBytes(candidates, index, deviceBytes(manifest, index)),
    isNew: true,
    files: index === 0 ? [] : describeSpan(manifest, 0, index).files,
    // What the cut would have gained over what was taken, a frame, as a share of the larger utility.
    gain: 0,
    // Its own utility, for who goes first.
    worth: 0,
    askedMs: -Infinity,
  }));
  const held = new Set<number>([0]);
  const fetched = new Set<string>();
  let weighedMs = clock.now();

  const costMs = (cut: (typeof cuts)[number]): number => {
    const missing = cut.files.filter(({ path }) => !fetched.has(path));
    const missingBytes = missing.reduce(
      (sum, { numBytes }) => sum + numBytes,
      cut.isNew ? cut.encoderBytes : 0,
    );
    return 1000 * (missingBytes / tuning.downloadBytesPerSecond + cut.bytes / tuning.loadBytesPerSecond);
  };

  const room = (
    cut: (typeof cuts)[number],
    { inUse, taken }: Pick<Weighing, 'inUse' | 'taken'>,
  ): number[] | undefined => {
    const others = cuts.filter(({ index }) => index > 0 && index !== cut.index && held.has(index));
    // Of the encoders at cut 0 only the one in use is kept when room is wanted.
    const atFrame = inUse === 0 ? (taken?.deviceBytes ?? 0) : 0;
    let total = others.reduce((sum, { bytes }) => sum + bytes, cut.bytes + atFrame);
    const evict: number[] = [];
    for (const { index, bytes } of others.sort((a, b) => a.worth - b.worth)) {
      if (total <= maxDeviceBytes) break;
      if (index === inUse) continue;
      evict.push(index);
      total -= bytes;
    }
    return total <= maxDeviceBytes ? evict : undefined;
  };

  return {
    isReady: (cut) => held.has(cut),
    ready(cut) {
      held.add(cut);
      const known = cuts[cut];
      if (known === undefined) return;
      known.isNew = false;
      for (const { path } of known.files) fetched.add(path);
    },
    dropped(cut) {
      if (cut > 0) held.delete(cut);
    },
    weigh({ best, taken, inUse, intervalMs }) {
      const nowMs = clock.now();
      const kept = 0.5 ** ((nowMs - weighedMs) / tuning.halfLifeMs);
      weighedMs = nowMs;
      const numFrames = intervalMs > 0 ? tuning.horizonMs / intervalMs : 1;
      let choice: { cut: (typeof cuts)[number]; value: number; evict: number[] } | undefined;
      for (const cut of cuts) {
        const utility = best(cut.index);
        if (utility === undefined) continue;
        // Without any plan to take, each gains all.
        cut.gain = taken === undefined ? 1 : kept * cut.gain + (1 - kept) * gainOver(taken.utility, utility);
        cut.worth = kept * cut.worth + (1 - kept) * utility;
        if (held.has(cut.index) || nowMs - cut.askedMs < retryMs || cut.gain < tuning.minGain) continue;
        // While it is on its way, frames go on being answered: what is lost is the gain until then.
        const frames = numFrames - (intervalMs > 0 ? costMs(cut) / intervalMs : 0);
        const value = cut.gain * frames;
        if (value <= tuning.minGain * numFrames || value <= (choice?.value ?? 0)) continue;
        const evict = room(cut, { inUse, taken });
        if (evict !== undefined) choice = { cut, value, evict };
      }
      if (choice === undefined) return { prepare: null, evict: [] };
      choice.cut.askedMs = nowMs;
      return { prepare: choice.cut.index, evict: choice.evict };
    },
  };
}

function gainOver(taken: number, utility: number): number {
  return (utility - taken) / Math.max(Math.abs(utility), Math.abs(taken), 1e-9);
}

/** Of the encoders of all codecs that plans from a cut use, together. */
function encoderBytes(candidates: readonly Candidate[], cut: number, spanBytes: number): number {
  const ofCoder = new Map(
    candidates.flatMap(({ plan, deviceCut, deviceBytes }) =>
      plan.kind === 'split' && deviceCut === cut ? [[plan.codec, deviceBytes - spanBytes] as const] : [],
    ),
  );
  return [...ofCoder.values()].reduce((sum, numBytes) => sum + numBytes, 0);
}
