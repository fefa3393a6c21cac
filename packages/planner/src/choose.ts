import {
  type CodecEntry,
  type CodecLevel,
  type Cut,
  elementCount,
  getCut,
  IsthmusError,
  type Manifest,
  requestHeaderBytes,
  tensorBytes,
} from '@isthmus/core';
import type { LinkEstimate } from './link.js';
import { type ChosenPlan, deviceBytes, type Plan, profiledMs } from './plan.js';

export interface PlanRequest {
  manifest: Manifest;
  estimate: LinkEstimate;
  /** Milliseconds on the device for one millisecond of the manifest's profile. @default 1 */
  deviceSlowdown?: number;
  /** The same for the cloud. @default 1 */
  cloudSlowdown?: number;
  /** Ids of the codecs that may be used. @default all of the manifest's */
  codecs?: readonly string[];
  /** Memory the device may spend on segments. @default unlimited */
  maxDeviceBytes?: number;
  /** The deepest cut the device may run to. @default the last */
  maxDeviceCut?: number;
  /** Largest packet the receiver takes. @default unlimited */
  maxPacketBytes?: number;
  /** @default none */
  deadlineMs?: number;
  /** Whether {@link Plan} `local` is a choice. @default false */
  mayRunLocally?: boolean;
}

/** A plan with what it is expected to take. */
export interface PricedPlan {
  plan: Plan;
  deviceMs: number;
  linkMs: number;
  cloudMs: number;
  totalMs: number;
  /** Bytes of the request packet. */
  numBytes: number;
  /** Bits kept of a float32; 32 is lossless. */
  bits: number;
}

// Taken until a packet of some size has been seen: an ordinary mobile uplink.
const unknownBytesPerSecond = 1_250_000;
const unknownRoundTripMs = 40;

/**
 * Every plan that the limits allow, with its price: profiled milliseconds, scaled, on both sides; bytes over the
 * rate, plus one round trip, between. A quantized plan's bytes are its elements times its bits, without what
 * entropy coding saves, and so an upper bound but for the scales. Codec kinds other than `raw` and `quantized`
 * are not priced.
 */
export function pricePlans(request: PlanRequest): PricedPlan[] {
  const { manifest, estimate, deviceSlowdown = 1, cloudSlowdown = 1 } = request;
  const lastCut = manifest.cuts.length - 1;
  const maxDeviceCut = request.maxDeviceCut ?? lastCut;
  const maxBytes = request.maxDeviceBytes ?? Infinity;
  const fits = (cut: number): boolean => cut <= maxDeviceCut && deviceBytes(manifest, cut) <= maxBytes;
  const priced: PricedPlan[] = [];

  for (const entry of manifest.codecs) {
    if (request.codecs?.includes(entry.id) === false) continue;
    for (const { from, to } of entry.paths.filter((path) => fits(path.from))) {
      entry.levels.forEach((codecLevel, level) => {
        const size = estimateSize(entry, codecLevel, getCut(manifest, from));
        if (size === undefined || size.numBytes > (request.maxPacketBytes ?? Infinity)) return;
        const deviceMs = deviceSlowdown * profiledMs(manifest, 0, from);
        const cloudMs = cloudSlowdown * profiledMs(manifest, to, lastCut);
        const linkMs =
          (1000 * size.numBytes) / (estimate.bytesPerSecond ?? unknownBytesPerSecond) +
          (estimate.roundTripMs ?? unknownRoundTripMs);
        const plan: Plan = { kind: 'split', from, codec: entry.id, level, to };
        priced.push({ plan, deviceMs, linkMs, cloudMs, totalMs: deviceMs + linkMs + cloudMs, ...size });
      });
    }
  }
  if (request.mayRunLocally === true && fits(lastCut)) {
    const deviceMs = deviceSlowdown * profiledMs(manifest, 0, lastCut);
    const plan: Plan = { kind: 'local' };
    priced.push({ plan, deviceMs, linkMs: 0, cloudMs: 0, totalMs: deviceMs, numBytes: 0, bits: 32 });
  }
  return priced;
}

/**
 * The first simple rule: the fastest lossless plan, if it meets the deadline; else, of those that do, the one that
 * loses least; else the fastest.
 *
 * @throws IsthmusError `request/invalid-plan` when the limits allow no plan at all.
 *
 * @example
 * ```ts
 * const { kind, reason } = choosePlan({ manifest, estimate: link.estimate(), deadlineMs: 100 });
 * ```
 */
export function choosePlan(request: PlanRequest): ChosenPlan {
  const deadlineMs = request.deadlineMs ?? Infinity;
  const bySpeed = pricePlans(request).sort((a, b) => a.totalMs - b.totalMs);
  const inTime = bySpeed.filter(({ totalMs }) => totalMs <= deadlineMs);
  const mostBits = Math.max(...inTime.map(({ bits }) => bits));
  // Sorted by speed, so that the first of those that lose least is also the fastest of them.
  const best = inTime.find(({ bits }) => bits === mostBits) ?? bySpeed[0];
  if (best === undefined) {
    throw new IsthmusError(
      'request/invalid-plan',
      'No plan fits: the device may hold too little, or none of its codecs is allowed. Name a plan yourself.',
    );
  }
  const took = `${best.totalMs.toFixed(0)} ms expected`;
  if (inTime.length === 0) return { ...best.plan, reason: `fastest, though late: ${took}` };
  return { ...best.plan, reason: best.bits === 32 ? `fastest lossless: ${took}` : `in time: ${took}` };
}

// Elements of other types than float32 travel as they are, whatever the codec.
function estimateSize(
  entry: CodecEntry,
  { params }: CodecLevel,
  cut: Cut,
): { numBytes: number; bits: number } | undefined {
  let bits: unknown;
  if (entry.kind === 'raw') bits = params.dtype === 'float16' ? 16 : 32;
  else if (entry.kind === 'quantized') bits = params.bits;
  if (typeof bits !== 'number') return undefined;
  let numBytes = requestHeaderBytes;
  for (const { type, shape } of cut.tensors) {
    numBytes += type === 'float32' ? Math.ceil((elementCount(shape) * bits) / 8) : tensorBytes(type, shape);
  }
  return { numBytes, bits };
}
