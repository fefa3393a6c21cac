import {
  adaptedFiles,
  builtinCodecs,
  type Clock,
  type CodecLevel,
  createAdaptedCodec,
  createPictureCodecs,
  getCut,
  IsthmusError,
  learnedTensors,
  manifestLimits,
  type NamedTensors,
  type PictureCoder,
  type PictureFormat,
  type Runtime,
} from '@isthmus/core';
import { type BuiltCodec, buildCodec } from '../build-codec.js';
import type { Bundle } from '../bundle.js';
import { type LevelMeasure, onHull } from '../calibrate/choose-levels.js';
import { createComparison } from '../calibrate/fidelity.js';
import { withSpan } from '../calibrate/run-span.js';
import { spread } from '../calibrate/spread.js';
import { maxMeasured, tryLevels } from '../calibrate/try-levels.js';
import { pixelsEntries } from '../codec-entries.js';
import type { ModelProto } from '../onnx_pb.js';
import { checkCodecId } from './add-codec.js';
import { adapterOutputs, checkOutputs, loadNetwork, readNetwork } from './check-networks.js';
import type { ImportProgress } from './import-codec.js';
import { measureCodec, withCoders, withSegments } from './measure-codec.js';
import type { TunedWeights } from './tuned-weights.js';
import { checkTuned, writeTunedSegments } from './write-tuned.js';

export interface ImportAdaptedOptions {
  /** Of its files, those of the segments are needed; with those of the codecs at cut 0, levels compare with theirs. */
  bundle: Bundle;
  runtime: Runtime;
  clock: Clock;
  /** Encodes and decodes pictures: `createSharpCoder()` of `@isthmus/runtime/pictures`. */
  pictures: PictureCoder;
  /** The codec's name in the manifest: lower-case letters, digits, `.`, `_`, `-`. */
  id: string;
  format: PictureFormat;
  /** What encoders count 1…100 by, the finest first; those off the convex hull of bytes and divergence are dropped. */
  qualities: readonly number[];
  /**
   * ONNX, from the decoded picture, the tensor of cut 0 by its name, to the tensors of cut `tuned.via`, or of `to` where
   * nothing is tuned. A network cannot give what it takes, so where that is cut 0 again, its only output may have any
   * name. May take `level`, a float32 [1]: the quality's index among `qualities` over the last one's.
   * @default none: the tuned segments take the picture as it is
   */
  adapter?: Uint8Array | ModelProto;
  /** @default none */
  tuned?: TunedWeights;
  /** The cut where the codec lands. */
  to: number;
  /** Tensors of cut 0, of pictures that nothing was trained on: levels are measured on them. */
  frames: readonly NamedTensors[];
  onProgress?: (progress: ImportProgress) => void;
}

interface Adapter {
  bytes: Uint8Array;
  isToldLevel: boolean;
}

/**
 * Makes an `adapted` codec, for `addCodec`: the frame as a picture file, and what mends in the cloud what coding did to it.
 * Checks that adapter and tuned segments run and fit the bundle, keeps the qualities on the convex hull of bytes and
 * divergence, and measures them.
 *
 * @throws IsthmusError
 * - `usage/invalid`: qualities, a path or a name that cannot be, no frames, neither adapter nor tuned segments, a model that
 *   takes no pictures, a weight that is not there; `bundle/no-such-cut`;
 * - `model/invalid`, `tensor/type-mismatch`, `tensor/shape-mismatch`: a tensor that does not fit, by name;
 * - `model/not-onnx`, `model/truncated`, `model/external-data`, `model/unsupported`; the runtime's and the coder's.
 *
 * @example
 * ```ts
 * const codec = await importAdapted({
 *   bundle, runtime, clock: systemClock, pictures: createSharpCoder(), id: 'webp-tuned',
 *   format: 'webp', qualities: [90, 70, 50, 30, 10], tuned: { via: 0, weights }, to: 4, frames,
 * });
 * const withCodec = addCodec(bundle, codec);
 * ```
 */
export async function importAdapted(options: ImportAdaptedOptions): Promise<BuiltCodec> {
  const { bundle, runtime, clock, pictures, id, format, qualities, tuned, to, frames, onProgress } = options;
  const { manifest } = bundle;
  checkOptions(options);
  onProgress?.({ stage: 'check' });
  const adapter = await checkAdapter(options);
  const tunedBytes = tuned && writeTunedSegments(bundle, to, tuned);
  const kind = createAdaptedCodec(pictures);
  const levels = qualities.map((quality, at): CodecLevel => {
    // Kept when others are dropped.
    const level = at / Math.max(1, qualities.length - 1);
    return { name: `q${quality}`, params: { format, quality, ...(adapter?.isToldLevel && { level }) } };
  });
  const build = (kept: CodecLevel[]): Promise<BuiltCodec> =>
    buildCodec({
      id,
      kind,
      path: { from: 0, to },
      levels: kept,
      networks: [
        ...(adapter === undefined ? [] : [[adaptedFiles.adapter(id), adapter.bytes] as const]),
        ...(tunedBytes === undefined ? [] : [[adaptedFiles.tuned(id), tunedBytes] as const]),
      ],
    });

  onProgress?.({ stage: 'fit' });
  const lastCut = manifest.cuts.length - 1;
  const some = spread(frames, maxMeasured);
  const measures = await withSpan(bundle, 0, lastCut, runtime, async (whole): Promise<LevelMeasure[]> => {
    const heldOut = await Promise.all(some.map(async (frame) => ({ frame, outputs: await whole(frame) })));
    const codec = withSegments(bundle, await build(levels));
    const comparison = createComparison(manifest);
    return withSpan(bundle, to, lastCut, runtime, (tail) =>
      withCoders((held) =>
        tryLevels({ manifest, kind: held(kind), codec, runtime, tail, comparison, heldOut }),
      ),
    );
  });
  const kept = onHull(measures).map((at) => {
    const { name, params } = levels[at]!;
    return { name, params: { ...params, ...measures[at] } };
  });
  onProgress?.({ stage: 'measure' });
  const codecs = [...builtinCodecs, ...createPictureCodecs(pictures)];
  return measureCodec(await build(kept), { bundle, runtime, clock, frames, codecs });
}

function checkOptions(options: ImportAdaptedOptions): void {
  const { bundle, id, qualities, adapter, tuned, to, frames } = options;
  const { manifest } = bundle;
  const refuse = (what: string): IsthmusError => new IsthmusError('usage/invalid', what);
  checkCodecId(manifest, id);
  getCut(manifest, to);
  if (pixelsEntries(manifest).length === 0) {
    throw refuse(
      `${manifest.model} does not take pictures. Say how when splitting: isthmus split --picture …`,
    );
  }
  if (adapter === undefined && tuned === undefined) {
    throw refuse(
      'An adapted codec has an adapter, tuned segments or both; with neither, take a picture codec.',
    );
  }
  if (tuned !== undefined) checkTuned(manifest, { from: 0, to }, tuned.via);
  if (adapter === undefined && tuned !== undefined && tuned.via !== 0) {
    throw refuse(`Without an adapter, tuned segments begin at cut 0, not at ${tuned.via}.`);
  }
  const isLadder = qualities.every(
    (quality, at) =>
      Number.isInteger(quality) && quality >= 1 && quality <= 100 && quality < (qualities[at - 1] ?? 101),
  );
  if (!isLadder || qualities.length === 0 || qualities.length > manifestLimits.levels) {
    throw refuse(
      `Qualities are 1 to ${manifestLimits.levels} whole numbers from 100 down to 1, each less than the one before; ` +
        `[${qualities}] will not do.`,
    );
  }
  if (frames.length === 0) throw refuse('Levels are chosen and measured on frames; give some.');
  if (getCut(manifest, 0).tensors.some(({ name }) => name === learnedTensors.level)) {
    throw refuse(
      `The model takes a tensor ${learnedTensors.level}, which is what an adapter's own is called.`,
    );
  }
}

async function checkAdapter(options: ImportAdaptedOptions): Promise<Adapter | undefined> {
  const { bundle, runtime, tuned, to, frames } = options;
  if (options.adapter === undefined) return undefined;
  const path = { from: 0, to: tuned?.via ?? to };
  const bytes = await readNetwork('adapter', options.adapter, bundle.manifest, path);
  const session = await loadNetwork('adapter', bytes, runtime);
  try {
    const outputs = session.outputNames.map((name) => ({ name }));
    await checkOutputs('adapter', session, frames[0]!, adapterOutputs(bundle.manifest, path, outputs));
    return { bytes, isToldLevel: session.inputNames.includes(learnedTensors.level) };
  } finally {
    await session.release();
  }
}
