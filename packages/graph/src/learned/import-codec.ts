import {
  builtinCodecs,
  type CalibratedTables,
  type Clock,
  type CutTensor,
  getCut,
  IsthmusError,
  learnedCodec,
  learnedFiles,
  learnedTensors,
  manifestLimits,
  type NamedTensors,
  type Runtime,
  type Tensor,
  tunedLearnedCodec,
} from '@isthmus/core';
import { type BuiltCodec, buildCodec } from '../build-codec.js';
import type { Bundle } from '../bundle.js';
import type { LevelMeasure } from '../calibrate/choose-levels.js';
import { createComparison } from '../calibrate/fidelity.js';
import { heldOutFrames, isHeldOut } from '../calibrate/held-out.js';
import { runAll, withSpan } from '../calibrate/run-span.js';
import { spread } from '../calibrate/spread.js';
import { maxMeasured, numTried, tryLevels } from '../calibrate/try-levels.js';
import { type CalibrationTuning, defaultTuning } from '../calibrate/tuning.js';
import { seededFrame } from '../frames.js';
import type { ModelProto } from '../onnx_pb.js';
import type { TensorInfos } from '../shapes.js';
import { toOnnxType } from '../tensors.js';
import { addCodec, checkCodecId } from './add-codec.js';
import { checkOutputs, encoderInputs, loadNetwork, readNetwork, runEncoder } from './check-networks.js';
import { fitLatent } from './fit-latent.js';
import { measureCodec, runCodec, withCoders, withSegments } from './measure-codec.js';
import type { TunedWeights } from './tuned-weights.js';
import { checkTuned, writeTunedSegments } from './write-tuned.js';

/** What importing is busy with. */
export interface ImportProgress {
  stage: 'check' | 'encode' | 'fit' | 'measure';
}

export interface ImportCodecOptions {
  /** Of its files, those of the segments are needed; with those of the codecs at cut `from`, levels compare with theirs. */
  bundle: Bundle;
  runtime: Runtime;
  clock: Clock;
  /** The codec's name in the manifest: lower-case letters, digits, `.`, `_`, `-`. */
  id: string;
  /** The cut whose float32 tensors the encoder takes. */
  from: number;
  /** The cut where the codec lands, `from` or a later one: whose tensors the decoder, or the tuned segments behind it, give. */
  to: number;
  /** ONNX; a model from `readModel` where weights lie in other files. */
  encoder: Uint8Array | ModelProto;
  decoder: Uint8Array | ModelProto;
  /** Then the decoder gives the tensors of cut `tuned.via`, and tuned segments lead on from there to `to`. @default none */
  tuned?: TunedWeights;
  /** @default fitted to the frames */
  tables?: CalibratedTables;
  /**
   * The quantizer's step at each level, the finest first; each is rounded to a power of 2^(1/8). A decoder that is told
   * the level was trained with some: it needs them, or tables. @default chosen, from near-lossless to rough
   */
  steps?: readonly number[];
  /**
   * Tensors of cut 0, of pictures that the codec was not trained on. Levels are measured on a quarter of them, or on all
   * where tables are given; without frames they stay unmeasured, and only plans that ask for them use them.
   */
  frames?: readonly NamedTensors[];
  /** @default as in `defaultTuning` */
  tuning?: Partial<CalibrationTuning>;
  onProgress?: (progress: ImportProgress) => void;
}

const minFrames = 4;
/** Of the quantizer; and the largest is one over it. */
const smallestStep = 2 ** -24;

/**
 * Makes a `learned` codec of an encoder and a decoder that were trained elsewhere, for {@link addCodec}: checks that both
 * run and fit the bundle, fits the tables of the integer coder and chooses levels where no tables are given, and measures
 * every level.
 *
 * @throws IsthmusError
 * - `usage/invalid`: a path, a name or a number of frames that cannot be; `bundle/no-such-cut`;
 * - `model/invalid`: a tensor of a network that is missing or not wanted, by name;
 * - `tensor/type-mismatch`, `tensor/shape-mismatch`: one that is of another type or shape than it must be;
 * - `tensor/not-finite`: an encoder that gives NaN or infinity;
 * - `model/not-onnx`, `model/truncated`, `model/external-data`, `model/unsupported`: a network that cannot be read, or
 *   whose latent is far from the size of 1;
 * - the runtime's, for networks that do not load or run.
 *
 * @example
 * ```ts
 * const codec = await importCodec({ bundle, runtime, clock: systemClock, id: 'learned-3', from: 3, to: 3, encoder, decoder, frames });
 * codec.entry.measured?.[0]?.map(({ numBytes, quality }) => [numBytes, quality]);
 * const withCodec = addCodec(bundle, codec);
 * ```
 */
export async function importCodec(options: ImportCodecOptions): Promise<BuiltCodec> {
  const { bundle, runtime, id, from, to, tuned, frames = [], onProgress } = options;
  const { manifest } = bundle;
  checkOptions(options);
  onProgress?.({ stage: 'check' });
  const encoder = await readNetwork('encoder', options.encoder, manifest, { from, to });
  const decoder = await readNetwork('decoder', options.decoder, manifest, { from, to: tuned?.via ?? to });
  const kind = tuned === undefined ? learnedCodec : tunedLearnedCodec;
  const tunedBytes = tuned && writeTunedSegments(bundle, to, tuned);
  const measured = options.tables === undefined ? heldOutFrames(frames) : frames;
  // Frames at the cut, to fit and to measure on; without any, noise shows whether the networks run.
  const atCut =
    frames.length > 0
      ? await withSpan(bundle, 0, from, runtime, (run) => runAll(run, frames))
      : [seededFrame(infosOf(encoderInputs(manifest, from)), 1)];
  const latents = await checkNetworks(options, { encoder, decoder }, atCut, () =>
    onProgress?.({ stage: 'encode' }),
  );
  const build = (tables: CalibratedTables, measures?: readonly LevelMeasure[]): Promise<BuiltCodec> =>
    buildCodec({
      id,
      kind,
      path: { from, to },
      levels: tables.levels.map((_, level) => ({ name: `level-${level}`, params: { ...measures?.[level] } })),
      tables: [learnedFiles.tables(id), tables],
      networks: [
        [learnedFiles.encoder(id), encoder],
        [learnedFiles.decoder(id), decoder],
        ...(tunedBytes === undefined ? [] : [[learnedFiles.tuned(id), tunedBytes] as const]),
      ],
    });
  if (options.tables !== undefined) checkTables(options.tables, latents[0]!);
  if (frames.length === 0 && options.tables !== undefined) {
    const codec = await build(options.tables);
    // Where nothing is measured, whether it runs at all.
    await runCodec(codec, { bundle, runtime, kind, frame: atCut[0]! });
    return codec;
  }

  onProgress?.({ stage: 'fit' });
  const lastCut = manifest.cuts.length - 1;
  const heldOut = spread(options.tables === undefined ? heldOutFrames(atCut) : atCut, maxMeasured);
  const codec = await withSpan(bundle, from, lastCut, runtime, async (whole) => {
    const all = await Promise.all(heldOut.map(async (frame) => ({ frame, outputs: await whole(frame) })));
    return withSpan(bundle, to, lastCut, runtime, async (tail) => {
      const measure = async (tables: CalibratedTables, isFinal: boolean): Promise<LevelMeasure[]> => {
        const tried = {
          ...{ manifest, runtime, tail, codec: withSegments(bundle, await build(tables)) },
          comparison: createComparison(manifest),
          heldOut: spread(all, isFinal ? maxMeasured : numTried),
        };
        return withCoders((held) => tryLevels({ ...tried, kind: held(kind) }));
      };
      if (options.tables !== undefined) return build(options.tables, await measure(options.tables, true));
      const fitted = await fitLatent({
        latents: latents.filter((_, at) => !isHeldOut(at)),
        steps: options.steps,
        tuning: { ...defaultTuning, ...options.tuning },
        measure,
      });
      return build(fitted.tables, fitted.measures);
    });
  });
  onProgress?.({ stage: 'measure' });
  return measureCodec(codec, { ...options, frames: measured, codecs: builtinCodecs });
}

function checkOptions(options: ImportCodecOptions): void {
  const { bundle, id, from, to, tuned, tables, steps, frames = [] } = options;
  const { manifest } = bundle;
  checkCodecId(manifest, id);
  const cut = getCut(manifest, from);
  getCut(manifest, to);
  if (tuned !== undefined) checkTuned(manifest, { from, to }, tuned.via);
  const landing = getCut(manifest, tuned?.via ?? to);
  const lastCut = manifest.cuts.length - 1;
  if (to < from || from === lastCut) {
    throw new IsthmusError(
      'usage/invalid',
      `A codec leads from a cut before the last, ${lastCut}, to the same or a later one; ${from} to ${to} cannot be.`,
    );
  }
  if (encoderInputs(manifest, from).length === 0) {
    throw new IsthmusError('usage/invalid', `Cut ${from} has no float32 tensor for an encoder to take.`);
  }
  const isLadder = steps?.every(
    (step, at) => step >= smallestStep && step <= 1 / smallestStep && step > (steps[at - 1] ?? 0),
  );
  if (isLadder === false || steps?.length === 0 || (steps?.length ?? 0) > manifestLimits.levels) {
    throw new IsthmusError(
      'usage/invalid',
      `A codec has 1 to ${manifestLimits.levels} steps, each larger than the one before; [${steps}] will not do.`,
    );
  }
  if (steps !== undefined && tables !== undefined) {
    throw new IsthmusError('usage/invalid', 'Tables hold the steps of their levels; give one or the other.');
  }
  const own: readonly string[] = Object.values(learnedTensors);
  const clash = [...cut.tensors, ...landing.tensors].find(({ name }) => own.includes(name));
  if (clash !== undefined) {
    throw new IsthmusError(
      'usage/invalid',
      `The model has a tensor ${clash.name} at this cut, which is what a codec's own are called. Choose another cut.`,
    );
  }
  if (tables === undefined && frames.length < minFrames) {
    throw new IsthmusError(
      'usage/invalid',
      `Fitting a codec's tables needs at least ${minFrames} frames, better a hundred; there are ${frames.length}.`,
    );
  }
}

/** Runs both networks; what the encoder makes of each frame. */
async function checkNetworks(
  { bundle: { manifest }, runtime, from, to, tuned, tables, steps }: ImportCodecOptions,
  models: { encoder: Uint8Array; decoder: Uint8Array },
  frames: readonly NamedTensors[],
  onChecked: () => void,
): Promise<Tensor<'float32'>[]> {
  const inputs = encoderInputs(manifest, from);
  const feedsOf = (frame: NamedTensors): NamedTensors =>
    Object.fromEntries(inputs.map(({ name }) => [name, frame[name]!]));
  const encoder = await loadNetwork('encoder', models.encoder, runtime);
  try {
    const decoder = await loadNetwork('decoder', models.decoder, runtime);
    try {
      const first = await runEncoder(encoder, feedsOf(frames[0]!));
      const { tensors } = getCut(manifest, tuned?.via ?? to);
      await checkOutputs('decoder', decoder, { [learnedTensors.latent]: first }, tensors);
      if (decoder.inputNames.includes(learnedTensors.level) && tables === undefined && steps === undefined) {
        throw new IsthmusError(
          'usage/invalid',
          'The decoder is told the level: give the steps it was trained with, or tables, so that levels mean the same.',
        );
      }
      onChecked();
      const latents = [first];
      for (const frame of frames.slice(1)) latents.push(await runEncoder(encoder, feedsOf(frame)));
      const odd = latents.find(({ shape }) => shape.join() !== first.shape.join());
      if (odd !== undefined) {
        throw new IsthmusError(
          'tensor/shape-mismatch',
          `The encoder's latent is [${first.shape}] for one frame and [${odd.shape}] for another; it must not change.`,
        );
      }
      return latents;
    } finally {
      await decoder.release();
    }
  } finally {
    await encoder.release();
  }
}

function checkTables({ tensors, levels }: CalibratedTables, { shape }: Tensor): void {
  const [tensor, ...others] = tensors;
  const actual = tensor && [1, tensor.scales.length, tensor.height, tensor.width];
  if (others.length > 0 || tensor?.name !== learnedTensors.latent || actual?.join() !== shape.join()) {
    throw new IsthmusError(
      'tensor/shape-mismatch',
      `The tables are for ${tensors.map(({ name }) => name).join(', ')} [${actual}]; they must be for one tensor, ` +
        `${learnedTensors.latent} [${shape}].`,
    );
  }
  if (levels.length > manifestLimits.levels) {
    throw new IsthmusError('usage/invalid', `A codec has at most ${manifestLimits.levels} levels.`);
  }
}

function infosOf(tensors: readonly CutTensor[]): TensorInfos {
  return new Map(
    tensors.map(({ name, type, shape }) => [name, { elementType: toOnnxType(type), shape: [...shape] }]),
  );
}
