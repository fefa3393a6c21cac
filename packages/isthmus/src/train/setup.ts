import { IsthmusError, type Manifest, type NamedTensors, type Runtime } from '@isthmus/core';
import {
  type Bundle,
  type CalibrationTuning,
  type CutTransform,
  fitCutTransform,
  writeModel,
} from '@isthmus/graph';
import {
  blockFor,
  bottleneck,
  countComponents,
  exportCodec,
  fitLanding,
  type LinearLanding,
  landingGeometry,
  mapsOf,
} from '@isthmus/train';
import type { TrainingChoice } from './choice.js';
import { qualitiesOf } from './coded-pictures.js';
import { randomFor, shuffled } from './shuffle.js';

/** Which pictures are trained on, and which are only measured on. */
export interface PictureSplit {
  training: readonly string[];
  heldOut: readonly string[];
}

/** Where a codec with a latent starts. */
export interface LatentStart {
  start: CutTransform;
  numComponents: number;
  /** Where it lands deeper than it leaves. */
  landing?: LinearLanding | undefined;
}

/** Everything that a training starts from, and that does not change any more. */
export interface TrainingSetup extends TrainingChoice {
  pictures: PictureSplit;
  /** Undefined where pictures are sent. */
  latent?: LatentStart | undefined;
  /** Of pictures, the finest first. */
  qualities: readonly number[];
}

/** Fewer leave nothing to train on. */
export const minPictures = 16;
const mostHeldOut = 100;
const numFitted = 64;
/** Components that stay below this share of the root mean square of all are left out. */
const leastDeviation = 0.01;
/** And where a decoder cannot be as exact as that. */
const leastLandingDeviation = 0.05;
/** Of pixels' blocks: more cost the device more than they say. */
const mostPixelComponents = 64;
/** Numbers of a block where the transform may be larger than `calibrated` has it: the fit's time grows with the cube. */
const mostBlockNumbers = 1024;

/**
 * Holds out a tenth of the pictures, at least eight and at most a hundred.
 *
 * @throws IsthmusError `usage/invalid` for too few
 */
export function splitPictures(names: readonly string[], seed: number): PictureSplit {
  if (names.length < minPictures) {
    throw new IsthmusError(
      'usage/invalid',
      `Training needs at least ${minPictures} pictures, better thousands; there are ${names.length}.`,
    );
  }
  const order = shuffled(names, randomFor(seed, 'split'));
  const numHeldOut = Math.min(mostHeldOut, Math.max(8, Math.floor(names.length / 10)));
  return { heldOut: order.slice(0, numHeldOut), training: order.slice(numHeldOut) };
}

export interface SetupOptions {
  bundle: Bundle;
  runtime: Runtime;
  pictures: PictureSplit;
  /** The tensors of the cuts that the codec leaves and lands at, of pictures to train on. */
  frames: readonly NamedTensors[];
  tuning?: Partial<CalibrationTuning>;
}

/** Fits what a training starts from. */
export async function prepareSetup(choice: TrainingChoice, given: SetupOptions): Promise<TrainingSetup> {
  const { bundle, pictures } = given;
  if (choice.codec === 'pixels+adapter') {
    const qualities = choice.format === undefined ? [] : qualitiesOf(bundle.manifest, choice.format);
    return { ...choice, pictures, qualities };
  }
  return { ...choice, pictures, qualities: [], latent: await prepareLatent(choice, given) };
}

async function prepareLatent(
  { from, to, seed }: TrainingChoice,
  { bundle, runtime, frames, tuning }: SetupOptions,
): Promise<LatentStart> {
  const [own, target] = [tensorOf(bundle.manifest, from), tensorOf(bundle.manifest, to)];
  const [ownMaps, targetMaps] = [mapsOf(own.shape), mapsOf(target.shape)];
  const block = blockFor(ownMaps, targetMaps, mostBlockNumbers);
  const maxBlockSize = to > from ? ownMaps.channels * block * block : undefined;
  const fitted = await fitCutTransform(bundle, {
    ...{ runtime, cut: from },
    frames: frames.slice(0, numFitted).map((frame) => pick(frame, own.name)),
    tuning: { ...tuning, ...(maxBlockSize !== undefined && { maxBlockSize }) },
  });
  const start = rounded(fitted);
  const numLarge = countComponents(start, from === to ? leastDeviation : leastLandingDeviation);
  const numComponents = from === 0 && to > 0 ? Math.min(numLarge, mostPixelComponents) : numLarge;
  if (from === to) return { start, numComponents };
  const architecture = bottleneck({ start, numComponents, random: randomFor(seed, 'weights') });
  const { latentShape, deviations } = architecture;
  const [, , rows, columns] = latentShape;
  const geometry = landingGeometry({ rows, columns }, targetMaps);
  const latents = await encodeAll(runtime, writeModel(exportCodec(architecture, new Map()).encoder), {
    frames: frames.map((frame) => pick(frame, own.name)),
  });
  const targets = frames.map((frame) => toMaps(frame[target.name]?.data as Float32Array, targetMaps));
  const maps = targetMaps;
  return {
    start,
    numComponents,
    landing: fitLanding({ latents, latentShape, deviations, targets, maps, geometry }),
  };
}

async function encodeAll(
  runtime: Runtime,
  encoder: Uint8Array,
  { frames }: { frames: readonly NamedTensors[] },
): Promise<Float32Array[]> {
  const session = await runtime.load(encoder);
  try {
    const latents: Float32Array[] = [];
    for (const frame of frames) {
      const { outputs } = await session.run(frame);
      latents.push((outputs.latent?.data ?? new Float32Array()) as Float32Array);
    }
    return latents;
  } finally {
    await session.release();
  }
}

/** The one tensor of a cut. */
export function tensorOf(manifest: Manifest, cut: number): Manifest['cuts'][number]['tensors'][number] {
  const [tensor] = manifest.cuts[cut]?.tensors ?? [];
  if (tensor === undefined) throw new IsthmusError('bundle/no-such-cut', `There is no cut ${cut}.`);
  return tensor;
}

function pick(frame: NamedTensors, name: string): NamedTensors {
  const tensor = frame[name];
  return tensor === undefined ? {} : { [name]: tensor };
}

function toMaps(values: Float32Array, { channels, channelsLast }: ReturnType<typeof mapsOf>): Float32Array {
  if (!channelsLast) return values;
  const numTokens = values.length / channels;
  return Float32Array.from(
    values,
    (_, at) => values[(at % numTokens) * channels + Math.floor(at / numTokens)] ?? 0,
  );
}

// To what a checkpoint holds of it, so that going on is no different from never having stopped.
function rounded(start: CutTransform): CutTransform {
  const round = (values: Float64Array): Float64Array => values.map(Math.fround);
  const { forward, backward, variances } = start.transform;
  return {
    ...start,
    means: round(start.means),
    transform: {
      ...start.transform,
      ...{ forward: round(forward), backward: round(backward), variances: round(variances) },
    },
  };
}
