import {
  type CodecEntry,
  type Cut,
  chunkHeaderBytes,
  elementCount,
  getCut,
  type Manifest,
  type MeasuredLevel,
  maxChunkBytes,
  requestHeaderBytes,
  resultHeaderBytes,
  tensorBytes,
} from '@isthmus/core';
import type { Constraints } from './objective.js';
import { deviceBytes, type LocalPlan, type SplitPlan } from './plan.js';

/** A plan, and what the bundle says of it. */
export interface Candidate {
  plan: SplitPlan | LocalPlan;
  /** Index of the cut that the device runs to. */
  deviceCut: number;
  /** Names codec and path, for what is learned of it. */
  coder: string;
  /** What goes over the link, headers of packet and chunks included. */
  numBytes: number;
  /** What comes back. */
  answerBytes: number;
  /** Deviation of the bytes from frame to frame, relative to their mean. */
  bytesSpread: number;
  /** Expected, 0…1. */
  quality: number;
  /** By the profile, not by this device and this receiver. */
  encodeMs: number;
  decodeMs: number;
  /** Of the span, and of the codec's encoder. */
  deviceBytes: number;
}

/**
 * Every plan of a bundle that the constraints allow and that no other beats in all respects: fewer bytes, higher
 * quality, shorter coding, from the same cut to the same cut. Once a bundle; what changes from frame to frame is only
 * how they are priced.
 */
export function listCandidates(manifest: Manifest, constraints: Constraints): Candidate[] {
  const lastCut = manifest.cuts.length - 1;
  const maxDeviceBytes = constraints.maxDeviceBytes ?? Infinity;
  const maxDeviceCut = constraints.maxDeviceCut ?? lastCut;
  const firstCut = Math.max(constraints.minCut ?? 0, constraints.neverPixels === true ? 1 : 0);
  const answerBytes = resultHeaderBytes + getCut(manifest, lastCut).numBytes;
  const groups = new Map<string, Candidate[]>();
  for (const entry of manifest.codecs) {
    if (constraints.codecs?.includes(entry.id) === false) continue;
    for (const [path, { from, to }] of entry.paths.entries()) {
      const numDeviceBytes = deviceBytes(manifest, from, entry.id);
      if (from < firstCut || from > maxDeviceCut || numDeviceBytes > maxDeviceBytes) continue;
      const group = groups.get(`${from} ${to}`) ?? [];
      groups.set(`${from} ${to}`, group);
      for (const level of entry.levels.keys()) {
        const measured =
          entry.measured?.[path]?.[level] ?? assumeMeasure(entry, level, getCut(manifest, from));
        if (measured === undefined) continue;
        const packetBytes = requestHeaderBytes + measured.numBytes;
        if (packetBytes > (constraints.maxPacketBytes ?? Infinity)) continue;
        const plan: SplitPlan = { kind: 'split', from, codec: entry.id, level, to };
        group.push({
          plan,
          deviceCut: from,
          coder: coderOf(plan),
          numBytes:
            packetBytes + chunkHeaderBytes * Math.ceil(packetBytes / (maxChunkBytes - chunkHeaderBytes)),
          answerBytes,
          bytesSpread: measured.numBytesDeviation / Math.max(1, measured.numBytes),
          quality: measured.quality,
          encodeMs: measured.encodeMs,
          decodeMs: measured.decodeMs,
          deviceBytes: numDeviceBytes,
        });
      }
    }
  }
  const candidates = [...groups.values()].flatMap(withoutDominated).sort((a, b) => b.quality - a.quality);
  const wholeBytes = deviceBytes(manifest, lastCut);
  if (constraints.mayRunLocally === true && lastCut <= maxDeviceCut && wholeBytes <= maxDeviceBytes) {
    candidates.push({
      plan: { kind: 'local' },
      deviceCut: lastCut,
      coder: '',
      numBytes: 0,
      answerBytes: 0,
      bytesSpread: 0,
      quality: 1,
      encodeMs: 0,
      decodeMs: 0,
      deviceBytes: wholeBytes,
    });
  }
  return candidates;
}

/** What is learned of a codec on one path says little of it on another. */
export const coderOf = ({ codec, from, to }: Pick<SplitPlan, 'codec' | 'from' | 'to'>): string =>
  `${codec} ${from} ${to}`;

function withoutDominated(group: readonly Candidate[]): Candidate[] {
  const beats = (a: Candidate, b: Candidate): boolean =>
    a.numBytes <= b.numBytes &&
    a.quality >= b.quality &&
    a.encodeMs <= b.encodeMs &&
    a.decodeMs <= b.decodeMs;
  return group.filter(
    (one, at) =>
      !group.some(
        (other, otherAt) => other !== one && beats(other, one) && !(beats(one, other) && otherAt > at),
      ),
  );
}

// What uniform quantization leaves of a model's answers, as measured on MobileNetV1 and ResNet-50 in the middle.
const qualityOfBits: Readonly<Record<number, number>> = {
  32: 1,
  16: 1,
  8: 0.999,
  6: 0.99,
  4: 0.96,
  3: 0.91,
  2: 0.77,
};

/**
 * For bundles that were split without pictures: bytes are an upper bound, elements times bits; elements of other types
 * than float32 travel as they are. Undefined for codecs of which nothing can be said unmeasured.
 */
function assumeMeasure({ kind, levels }: CodecEntry, level: number, cut: Cut): MeasuredLevel | undefined {
  const params = levels[level]?.params;
  let bits: unknown;
  if (kind === 'raw') bits = params?.dtype === 'float16' ? 16 : 32;
  else if (kind === 'quantized') bits = params?.bits;
  if (typeof bits !== 'number') return undefined;
  const sizes = cut.tensors.map(({ type, shape }) =>
    type === 'float32' ? Math.ceil((elementCount(shape) * bits) / 8) : tensorBytes(type, shape),
  );
  return {
    numBytes: sizes.reduce((sum, size) => sum + size, 0),
    numBytesDeviation: 0,
    quality: qualityOfBits[bits] ?? 0.5,
    encodeMs: 0,
    decodeMs: 0,
  };
}
