import {
  type CodecEntry,
  codecBytes,
  describeSpan,
  getCut,
  getLevel,
  IsthmusError,
  type Manifest,
} from '@isthmus/core';

/** The device runs up to cut `from`, the codec carries the frame to cut `to`, the cloud runs the rest. */
export interface SplitPlan {
  kind: 'split';
  from: number;
  /** The id of one of the manifest's codecs. */
  codec: string;
  /** Index into the codec's levels. */
  level: number;
  to: number;
}

/** The device runs every segment; nothing is sent. */
export interface LocalPlan {
  kind: 'local';
}

/** How one frame is answered. */
export type Plan = SplitPlan | LocalPlan;

/** A plan, and why it was taken; for people. */
export type ChosenPlan = Plan & { reason: string };

/**
 * Refuses a plan that the bundle does not allow.
 *
 * @throws IsthmusError `request/invalid-plan`, `bundle/no-such-cut`, `codec/unknown`, `codec/no-such-path`,
 * `codec/no-such-level`
 */
export function checkPlan(manifest: Manifest, plan: Plan): void {
  if (plan.kind === 'local') return;
  if (plan.kind !== 'split' || ![plan.from, plan.to, plan.level].every(Number.isSafeInteger)) {
    throw new IsthmusError(
      'request/invalid-plan',
      "A plan is { kind: 'local' } or { kind: 'split', from, codec, level, to } with whole numbers.",
    );
  }
  getCut(manifest, plan.from);
  getCut(manifest, plan.to);
  if (plan.to < plan.from) {
    throw new IsthmusError(
      'request/invalid-plan',
      `A frame cannot land at cut ${plan.to}, before cut ${plan.from} where it leaves.`,
    );
  }
  getLevel(getCodec(manifest, plan.codec), plan);
}

/**
 * Bytes that running up to cut `to` takes on the device: the files of the segments and the largest set of
 * activations; with a codec, also its encoder's networks and tables. All of it is known before anything is fetched. An
 * estimate: a runtime may rearrange weights and keep more.
 *
 * @param codec The id of one of the manifest's codecs.
 * @throws IsthmusError `bundle/no-such-cut`, `codec/unknown`
 */
export function deviceBytes(manifest: Manifest, to: number, codec?: string): number {
  const encoder = codec === undefined ? 0 : codecBytes(getCodec(manifest, codec), 'encoder');
  if (to === 0) return encoder;
  const files = describeSpan(manifest, 0, to).files.reduce((sum, file) => sum + file.numBytes, 0);
  const activations = manifest.segments.slice(0, to).map(({ profile }) => profile.peakActivationBytes);
  return files + Math.max(...activations) + encoder;
}

function getCodec(manifest: Manifest, codec: string): CodecEntry {
  const entry = manifest.codecs.find(({ id }) => id === codec);
  if (entry !== undefined) return entry;
  const ids = manifest.codecs.map(({ id }) => id).join(', ');
  throw new IsthmusError('codec/unknown', `${manifest.model} has no codec ${codec}, only ${ids}.`);
}

// What one core of an ordinary machine does with ONNX Runtime, for bundles that were never measured.
const assumedFlopsPerMs = 1e7;

/** Milliseconds from cut `from` to cut `to` by the profile; by counted operations where it was not measured. */
export function profiledMs({ segments }: Manifest, from: number, to: number): number {
  const isMeasured = segments.some(({ profile }) => profile.durationMs > 0);
  return segments
    .slice(from, to)
    .reduce(
      (sum, { profile }) => sum + (isMeasured ? profile.durationMs : profile.flops / assumedFlopsPerMs),
      0,
    );
}
