import { type Clock, IsthmusError, type NamedTensors, type Runtime, type Tensor } from '@isthmus/core';
import type { Bundle, CalibrationTuning } from '@isthmus/graph';
import { type Checkpoint, readSetup, writeSetup } from './checkpoint.js';
import { createEvaluator, type Evaluation } from './evaluate.js';
import { buildGraph, comparedCuts, framesPerStep, type TrainingGraph } from './graph.js';
import type { Sample, SampleSource } from './samples.js';
import { prepareSetup, splitPictures, type TrainingChoice } from './setup.js';
import { chooseTarget, triedSteps } from './target.js';
import { timeSteps } from './train-loop.js';

/** How long to train. */
export type TrainingLength = { numSteps: number } | { durationMs: number };

export interface OpenTrainingOptions {
  bundle: Bundle;
  runtime: Runtime;
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

const numFitted = 64;
const numTried = 2 * framesPerStep;

/**
 * Fits what a training starts from and says in a checkpoint, or reads that from one.
 *
 * @throws IsthmusError `usage/invalid` for too few pictures that can be read, or a checkpoint of something else
 */
export async function prepareTraining(options: OpenTrainingOptions): Promise<OpenTraining> {
  const { bundle, choice, folder, isResumed } = options;
  if (!isResumed) return startTraining(options);
  const found = await readSetup(folder, (cut) => bundle.manifest.cuts[cut]?.tensors[0]);
  for (const key of ['id', 'codec', 'cut', 'seed'] as const) {
    if (found.setup[key] === choice[key]) continue;
    throw new IsthmusError(
      'usage/invalid',
      `The training in ${folder} has ${key} ${found.setup[key]}, not ${choice[key]}. Go on with the same, or start again.`,
    );
  }
  return { ...found, graph: await buildGraph(bundle, found.setup, found.target.powers) };
}

async function startTraining(options: OpenTrainingOptions): Promise<OpenTraining> {
  const { bundle, runtime, choice, samples, names, folder, tuning } = options;
  const pictures = splitPictures(names, choice.seed);
  const first = await readSome(samples, pictures.training, numFitted, options.signal);
  if (first.length < framesPerStep) {
    throw new IsthmusError(
      'usage/invalid',
      `Of ${names.length} pictures too few can be read (${samples.skipped.size} cannot). Are they pictures?`,
    );
  }
  const tensorsAt = (cut: number): string[] =>
    (bundle.manifest.cuts[cut]?.tensors ?? []).map(({ name }) => name);
  const own = tensorsAt(choice.cut);
  const frames = first.map(({ tensors }) => pick(tensors, own));
  const setup = await prepareSetup(choice, {
    ...{ bundle, runtime, pictures, frames },
    ...(tuning !== undefined && { tuning }),
  });
  options.signal.throwIfAborted();
  const { at, later, last } = comparedCuts(bundle.manifest, choice.cut);
  const compared = [at, ...later, last].flatMap(tensorsAt);
  const powers = Object.fromEntries(compared.map((name) => [name, varianceOf(first, name)]));
  const graph = await buildGraph(bundle, setup, powers);
  const tried = await evaluateStart(options, graph, setup.start.tensor.name, first.slice(0, numTried));
  const aims = chooseTarget(tried);
  const opened = { setup, graph, target: { ...aims, powers, numSteps: 1 } };
  const numSteps = await countSteps(options, opened);
  const checkpoint: Checkpoint = { setup, target: { ...opened.target, numSteps } };
  await writeSetup(folder, checkpoint);
  return { ...checkpoint, graph };
}

// What the codec does at every step before training.
async function evaluateStart(
  { bundle, runtime, signal }: OpenTrainingOptions,
  graph: TrainingGraph,
  input: string,
  samples: readonly Sample[],
): Promise<Evaluation[]> {
  const evaluator = await createEvaluator(graph.training, bundle.manifest, input, runtime);
  try {
    const weights = startWeights(graph);
    const results: Evaluation[] = [];
    for (const step of triedSteps) {
      signal.throwIfAborted();
      results.push(await evaluator.evaluate(samples, { step, level: 0 }, weights));
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
async function countSteps(options: OpenTrainingOptions, opened: OpenTraining): Promise<number> {
  if ('numSteps' in options.length) return options.length.numSteps;
  const stepMs = await timeSteps(opened, options);
  return Math.max(20, Math.floor(options.length.durationMs / stepMs));
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

function pick(tensors: NamedTensors, names: readonly string[]): NamedTensors {
  return Object.fromEntries(Object.entries(tensors).filter(([name]) => names.includes(name)));
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
