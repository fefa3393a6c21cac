import { IsthmusError, type Manifest, type NamedTensors, type Runtime } from '@isthmus/core';
import { type Bundle, type CalibrationTuning, type CutTransform, fitCutTransform } from '@isthmus/graph';
import { countComponents } from '@isthmus/train';
import { randomFor, shuffled } from './shuffle.js';

/** What is asked of a training. */
export interface TrainingChoice {
  /** The codec's name in the bundle. */
  id: string;
  codec: 'bottleneck';
  cut: number;
  seed: number;
}

/** Which pictures are trained on, and which are only measured on. */
export interface PictureSplit {
  training: readonly string[];
  heldOut: readonly string[];
}

/** Everything that a training starts from, and that does not change any more. */
export interface TrainingSetup extends TrainingChoice {
  pictures: PictureSplit;
  start: CutTransform;
  numComponents: number;
}

/** Fewer leave nothing to train on. */
export const minPictures = 16;
const mostHeldOut = 100;
const numFitted = 64;
/** Components that stay below this share of the root mean square of all are left out. */
const leastDeviation = 0.01;

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

/** A cut that a bottleneck can be trained at. @throws IsthmusError `usage/invalid`, `bundle/no-such-cut` */
export function checkCut(manifest: Manifest, index: number): void {
  const cut = manifest.cuts[index];
  const lastCut = manifest.cuts.length - 1;
  if (cut === undefined || index === lastCut) {
    throw new IsthmusError(
      'usage/invalid',
      `${manifest.model} has cuts 0 to ${lastCut - 1} to train a codec at, not ${index}.`,
    );
  }
  const [tensor] = cut.tensors;
  if (cut.tensors.length !== 1 || tensor?.type !== 'float32' || tensor.shape[0] !== 1) {
    const names = cut.tensors.map(({ name, type, shape }) => `${name}: ${type}[${shape}]`).join(', ');
    throw new IsthmusError(
      'usage/invalid',
      `A bottleneck is trained at a cut of one float32 tensor; cut ${index} is ${names}. Choose another.`,
    );
  }
}

/** @param frames Of the cut, of pictures to train on. */
export async function prepareSetup(
  choice: TrainingChoice,
  given: {
    bundle: Bundle;
    runtime: Runtime;
    pictures: PictureSplit;
    frames: readonly NamedTensors[];
    tuning?: Partial<CalibrationTuning>;
  },
): Promise<TrainingSetup> {
  const { bundle, runtime, pictures, frames, tuning } = given;
  const fitted = await fitCutTransform(bundle, {
    runtime,
    cut: choice.cut,
    frames: frames.slice(0, numFitted),
    ...(tuning !== undefined && { tuning }),
  });
  const start = rounded(fitted);
  return { ...choice, pictures, start, numComponents: countComponents(start, leastDeviation) };
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
