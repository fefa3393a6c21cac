import { type Clock, IsthmusError, type Tensor } from '@isthmus/core';
import type { CalibrationTuning } from '@isthmus/graph';
import { type Checkpoint, readSetup, writeSetup } from './checkpoint.js';
import { type ComparedCuts, choiceKeys, comparedCuts, type TrainingChoice } from './choice.js';
import { createEvaluator, type Evaluation } from './evaluate.js';
import { buildGraph, framesPerStep, type GraphOptions, type TrainingGraph } from './graph.js';
import type { Sample, SampleSource } from './samples.js';
import { prepareSetup, splitPictures, type TrainingSetup, tensorOf } from './setup.js';
import {
  choosePictureTarget,
  chooseTarget,
  landingRange,
  type TrainingTarget,
  triedSteps,
} from './target.js';
import { timeSteps } from './train-loop.js';

/** How long to train. */
export type TrainingLength = { numSteps: number } | { durationMs: number };

export interface OpenTrainingOptions extends GraphOptions {
  clock: Clock;
  choice: TrainingChoice;
  samples: SampleSource;
  /** Pictures that may be trained on. */
  names: readonly string[];
  /** Where the checkpoint is. */
  folder: string;
  isResumed: boolean;
  length: TrainingLength;
  threads?: number;
  signal: AbortSignal;
  tuning?: Partial<CalibrationTuning>;
}

/** Everything that does not change any more while training. */
export interface OpenTraining extends Checkpoint {
  graph: TrainingGraph;
}

/** Frames to fit to: closed forms need more where a decoder is fitted as well. */
const numFitted = 64;
const numFittedLanding = 128;
const numTried = 2 * framesPerStep;

/**
 * Fits what a training starts from and says in a checkpoint, or reads that from one.
 *
 * @throws IsthmusError `usage/invalid` for too few pictures that can be read, or a checkpoint of something else
 */
export async function prepareTraining(options: OpenTrainingOptions): Promise<OpenTraining> {
  const { bundle, choice, folder, isResumed } = options;
  if (!isResumed) return startTraining(options);
  const found = await readSetup(folder, bundle.manifest);
  for (const key of choiceKeys) {
    if (found.setup[key] === choice[key]) continue;
    throw new IsthmusError(
      'usage/invalid',
      `The training in ${folder} has ${key} ${found.setup[key]}, not ${choice[key]}. Go on with the same, or start again.`,
    );
  }
  return { ...found, graph: await buildGraph(options, found.setup, found.target.powers) };
}

async function startTraining(options: OpenTrainingOptions): Promise<OpenTraining> {
  const { bundle, runtime, choice, samples, names, folder, tuning } = options;
  const pictures = splitPictures(names, choice.seed);
  const numWanted = choice.to > choice.from ? numFittedLanding : numFitted;
  const first = await readSome(samples, pictures.training, numWanted, options.signal);
  if (first.length < framesPerStep) {
    throw new IsthmusError(
      'usage/invalid',
      `Of ${names.length} pictures too few can be read (${samples.skipped.size} cannot). Are they pictures?`,
    );
  }
  const tensorsAt = (cut: number): string[] =>
    (bundle.manifest.cuts[cut]?.tensors ?? []).map(({ name }) => name);
  const setup = await prepareSetup(choice, {
    ...{ bundle, runtime, pictures },
    frames: first.map(({ tensors }) => tensors),
    ...(tuning !== undefined && { tuning }),
  });
  options.signal.throwIfAborted();
  const { at, later, last } = comparedCuts(bundle.manifest, choice);
  const compared = [at, ...later, last].flatMap(tensorsAt);
  const powers = Object.fromEntries(compared.map((name) => [name, varianceOf(first, name)]));
  const graph = await buildGraph(options, setup, powers);
  const aims = await measureStart(options, { setup, graph, powers }, first.slice(0, numTried));
  const opened = { setup, graph, target: { ...aims, powers, numSteps: 1, numFeatureSteps: 0 } };
  const checkpoint: Checkpoint = {
    setup,
    target: { ...opened.target, ...(await countSteps(options, opened)) },
  };
  await writeSetup(folder, checkpoint);
  return { ...checkpoint, graph };
}

// What there is to win, by what can be had without training.
async function measureStart(
  options: OpenTrainingOptions,
  { setup, graph, powers }: { setup: TrainingSetup; graph: TrainingGraph; powers: TrainingTarget['powers'] },
  samples: readonly Sample[],
): Promise<Pick<TrainingTarget, 'steps' | 'prices' | 'curve'>> {
  if (setup.latent === undefined) {
    const levels = setup.qualities.map((_, index) => index / Math.max(1, setup.qualities.length - 1));
    const points = levels.map((level, index) => ({ step: index + 1, level }));
    return choosePictureTarget(await evaluateAt(options, graph, samples, points));
  }
  const points = triedSteps.map((step) => ({ step, level: 0 }));
  if (setup.from === setup.to) return chooseTarget(await evaluateAt(options, graph, samples, points));
  // A decoder that starts far off says nothing of steps and prices: the same latent decoded where it was taken does.
  const { from, to } = setup;
  const { later, last } = comparedCuts(options.bundle.manifest, setup);
  const compared: ComparedCuts = { at: from, later: [to, ...later], last };
  const { landing: _, ...latent } = setup.latent;
  const own = { ...setup, latent, to: from, tuneTo: from, network: 'none' as const };
  const input = tensorOf(options.bundle.manifest, from).name;
  const ownPowers = { ...powers, [input]: varianceOf(samples, input) };
  const reference = await buildGraph(options, own, ownPowers, compared);
  const tried = await evaluateAt(options, reference, samples, points);
  return chooseTarget(
    tried.map((result) => ({ ...result, terms: { ...result.terms, features: result.terms.later } })),
    landingRange,
  );
}

// What the codec does before training.
async function evaluateAt(
  { bundle, runtime, signal }: OpenTrainingOptions,
  graph: TrainingGraph,
  samples: readonly Sample[],
  points: readonly { step: number; level: number }[],
): Promise<Evaluation[]> {
  const evaluator = await createEvaluator(graph, bundle.manifest, runtime);
  try {
    const weights = startWeights(graph);
    const results: Evaluation[] = [];
    for (const point of points) {
      signal.throwIfAborted();
      results.push(await evaluator.evaluate(samples, point, weights));
    }
    return results;
  } finally {
    await evaluator.release();
  }
}

/** The parameters as they are before training. */
export function startWeights({ training }: TrainingGraph): ReadonlyMap<string, Tensor> {
  return new Map(training.draft.parameters.map(({ name, tensor }) => [name, tensor]));
}

// Once and for all: what is trained must not depend on how fast the machine is when it goes on.
async function countSteps(
  options: OpenTrainingOptions,
  opened: OpenTraining,
): Promise<Pick<TrainingTarget, 'numSteps' | 'numFeatureSteps'>> {
  const { length } = options;
  const { timeShare, stepShare } = opened.graph.stages;
  if ('numSteps' in length) {
    return { numSteps: length.numSteps, numFeatureSteps: Math.floor(stepShare * length.numSteps) };
  }
  const countOf = async (stage: 'features' | 'outputs', share: number): Promise<number> =>
    share === 0 ? 0 : Math.floor((share * length.durationMs) / (await timeSteps(opened, stage, options)));
  const numFeatureSteps = await countOf('features', timeShare);
  const numOthers = Math.max(20, await countOf('outputs', 1 - timeShare));
  return { numSteps: numFeatureSteps + numOthers, numFeatureSteps };
}

/** The first of the pictures that can be read. */
export async function readSome(
  samples: SampleSource,
  names: readonly string[],
  limit: number,
  signal: AbortSignal,
): Promise<Sample[]> {
  const found: Sample[] = [];
  for (const name of names) {
    if (found.length === limit) break;
    signal.throwIfAborted();
    const sample = await samples.get(name);
    if (sample !== undefined) found.push(sample);
  }
  return found;
}

function varianceOf(samples: readonly Sample[], name: string): number {
  let [sum, squares, count] = [0, 0, 0];
  for (const { tensors } of samples) {
    const values = (tensors[name]?.data ?? []) as Float32Array;
    for (const value of values) {
      sum += value;
      squares += value * value;
    }
    count += values.length;
  }
  return count === 0 ? 1 : Math.max(1e-12, squares / count - (sum / count) ** 2);
}
