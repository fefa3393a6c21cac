import {
  chunkHeaderBytes,
  IsthmusError,
  type Manifest,
  maxChunkBytes,
  requestHeaderBytes,
} from '@isthmus/core';
import { type Plan, profiledMs } from '@isthmus/planner';
import { allPlans, formatPlan } from '../plan-options.js';
import type { FrameSet, FrameTrial } from '../rd/frame-set.js';

/** A plan with what it really takes on the machines of the simulation. */
export interface PlanOption {
  plan: Plan;
  /** As `--plan` takes it. */
  name: string;
  /** The cut that the device runs to. */
  deviceCut: number;
  /** Milliseconds on the device: the span, and encoding. */
  deviceMs: number;
  encodeMs: number;
  /** Milliseconds in the cloud: decoding, and the rest of the model. */
  decodeMs: number;
  cloudMs: number;
  /** Expected, 0…1. */
  quality: number;
  /** Of the request packet, picture by picture; empty for `local`. */
  packetBytes: Float64Array;
  /** With the chunks' headers. */
  wireBytes: Float64Array;
  meanBytes: number;
  /** Whether each picture is answered as the uncompressed model does; undefined where it was not measured. */
  agreement: Float64Array | undefined;
}

/** Everything that can be done with a frame, and what it takes. */
export interface Workload {
  manifest: Manifest;
  options: PlanOption[];
  numPictures: number;
  /** Index of a plan among the options. */
  indexOf(plan: Plan): number | undefined;
}

export interface WorkloadOptions {
  manifest: Manifest;
  frameSet?: FrameSet | undefined;
  /** Milliseconds on the simulated machines for one of the profile. */
  deviceSlowdown: number;
  cloudSlowdown: number;
  /** The deepest cut that the device may run to. @default the last, and `local` with it */
  maxDeviceCut?: number | undefined;
}

/**
 * All plans of a bundle with measured sizes and times.
 *
 * @throws IsthmusError `usage/invalid` for a bundle whose codecs were not measured, or frames of another model
 */
export function createWorkload(options: WorkloadOptions): Workload {
  const { manifest, frameSet, deviceSlowdown, cloudSlowdown } = options;
  const lastCut = manifest.cuts.length - 1;
  const maxDeviceCut = options.maxDeviceCut ?? lastCut;
  if (frameSet !== undefined && frameSet.model !== manifest.model) {
    throw new IsthmusError(
      'usage/invalid',
      `The frames are of ${frameSet.model}, the bundle is ${manifest.model}. Measure them again with: isthmus bench rd --frames`,
    );
  }
  const numPictures = frameSet?.names.length ?? 1;
  const trials = new Map(frameSet?.trials.map((trial) => [keyOf(trial), trial]));
  const found: PlanOption[] = [];
  for (const plan of allPlans(manifest)) {
    const deviceCut = plan.kind === 'local' ? lastCut : plan.from;
    if (deviceCut > maxDeviceCut) continue;
    const common = {
      plan,
      name: formatPlan(plan),
      deviceCut,
      deviceMs: deviceSlowdown * profiledMs(manifest, 0, deviceCut),
    };
    if (plan.kind === 'local') {
      const none = { packetBytes: new Float64Array(0), wireBytes: new Float64Array(0), meanBytes: 0 };
      const times = { encodeMs: 0, decodeMs: 0, cloudMs: 0 };
      found.push({
        ...common,
        ...none,
        ...times,
        quality: 1,
        agreement: new Float64Array(numPictures).fill(1),
      });
      continue;
    }
    const entry = manifest.codecs.find(({ id }) => id === plan.codec);
    const path = entry?.paths.findIndex(({ from, to }) => from === plan.from && to === plan.to) ?? -1;
    const measured = entry?.measured?.[path]?.[plan.level];
    if (measured === undefined) continue;
    const trial = trials.get(keyOf(plan));
    const packetBytes =
      trial === undefined
        ? new Float64Array(numPictures).fill(Math.round(requestHeaderBytes + measured.numBytes))
        : Float64Array.from(trial.numBytes);
    found.push({
      ...common,
      encodeMs: deviceSlowdown * measured.encodeMs,
      decodeMs: cloudSlowdown * measured.decodeMs,
      cloudMs: cloudSlowdown * profiledMs(manifest, plan.to, lastCut),
      quality: measured.quality,
      packetBytes,
      wireBytes: packetBytes.map(bytesOnWire),
      meanBytes: packetBytes.reduce((sum, numBytes) => sum + numBytes, 0) / numPictures,
      agreement: trial === undefined ? undefined : Float64Array.from(trial.agreement),
    });
  }
  if (!found.some(({ plan }) => plan.kind === 'split')) {
    throw new IsthmusError(
      'usage/invalid',
      `No codec of ${manifest.model} was measured at the cuts allowed. Split it with pictures: isthmus split --calibrate`,
    );
  }
  const indices = new Map(found.map(({ name }, index) => [name, index]));
  return { manifest, options: found, numPictures, indexOf: (plan) => indices.get(formatPlan(plan)) };
}

const keyOf = ({ codec, from, to, level }: Pick<FrameTrial, 'codec' | 'from' | 'to' | 'level'>): string =>
  `${from}-${to}/${codec}/${level}`;

/** Bytes of the chunks that carry a packet. */
function bytesOnWire(packetBytes: number): number {
  return packetBytes + chunkHeaderBytes * Math.ceil(packetBytes / (maxChunkBytes - chunkHeaderBytes));
}
