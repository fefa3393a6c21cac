import type { PictureCoder, Runtime, Tensor } from '@isthmus/core';
import type { BuiltCodec, CalibrationTuning } from '@isthmus/graph';
import type { Frame } from '../rd/pictures.js';
import { checkChoice, comparedCuts, type TrainingChoice } from './choice.js';
import { createEvaluator, type Evaluation, type Evaluator } from './evaluate.js';
import { importTrained } from './import-trained.js';
import {
  type OpenTraining,
  prepareTraining,
  readSome,
  startWeights,
  type TrainingLength,
} from './open-training.js';
import { type RunOptions, runTraining } from './run-training.js';
import { openSamples, type Sample } from './samples.js';
import { createPoints } from './target.js';

export interface TrainCodecOptions extends RunOptions {
  runtime: Runtime;
  /** For codecs of pictures: `createSharpCoder()`. */
  coder: PictureCoder;
  choice: TrainingChoice;
  /** All pictures, by name. */
  names: readonly string[];
  readFrame: (name: string) => Promise<Frame>;
  length: TrainingLength;
  tuning?: Partial<CalibrationTuning>;
}

/** A level before or after training, on pictures held out. */
export interface LevelReport extends Evaluation {
  level: number;
}

export interface TrainedCodec {
  codec: BuiltCodec;
  before: readonly LevelReport[];
  after: readonly LevelReport[];
  numSteps: number;
  /** Pictures that training saw, each as often as it did. */
  numImages: number;
  numSkipped: number;
  /** Of this run. */
  imagesPerSecond: number;
  /** Operations of the encoder for one frame; 0 where pictures are sent. */
  encoderFlops: number;
  /** Whether weights are stored in half precision, since that changed nothing on pictures held out. */
  isHalf: boolean;
}

const mostEvaluated = 32;
const reportedLevels = [0, 0.25, 0.5, 0.75, 1];

/**
 * Trains a codec for a cut of a bundle from pictures without labels, exports it, and has the coder's tables fitted and its
 * levels measured on pictures that it was not trained on.
 *
 * @throws IsthmusError `usage/invalid`, `train/no-gradient` for a model with operators behind the cut that have no
 * gradient, `train/not-finite`, `train/state-invalid`, those of `importCodec`; the signal's reason if aborted, after a
 * checkpoint was written
 */
export async function trainCodec(options: TrainCodecOptions): Promise<TrainedCodec> {
  const { bundle, runtime, choice, readFrame, onProgress } = options;
  checkChoice(bundle.manifest, choice);
  const { at, later, last } = comparedCuts(bundle.manifest, choice);
  onProgress?.({ stage: 'prepare' });
  const cuts = [...new Set([choice.from, at, ...later, last])];
  const samples = await openSamples({ bundle, runtime, readFrame, cuts });
  try {
    const opened = await prepareTraining({ ...options, samples });
    const { setup, graph } = opened;
    const heldOut = await readSome(samples, setup.pictures.heldOut, mostEvaluated, options.signal);
    const evaluator = await createEvaluator(graph, bundle.manifest, runtime);
    try {
      const before = await reportLevels(evaluator, opened, heldOut, startWeights(graph));
      const run = await runTraining(options, opened, samples, evaluator, heldOut);
      const after = await reportLevels(evaluator, opened, heldOut, run.weights);
      onProgress?.({ stage: 'import' });
      const given = { evaluator, heldOut, weights: run.weights };
      const imported = await importTrained(options, opened, given);
      const { numSteps, numImages, imagesPerSecond } = run;
      const counts = { numSteps, numImages, imagesPerSecond, numSkipped: samples.skipped.size };
      return { ...imported, ...counts, before, after };
    } finally {
      await evaluator.release();
    }
  } finally {
    await samples.release();
  }
}

type Weights = ReadonlyMap<string, Tensor>;

async function reportLevels(
  evaluator: Evaluator,
  { target }: OpenTraining,
  samples: readonly Sample[],
  weights: Weights,
): Promise<LevelReport[]> {
  const pointAt = createPoints(target);
  const reports: LevelReport[] = [];
  for (const level of reportedLevels) {
    reports.push({
      level,
      ...(await evaluator.evaluate(samples, pointAt(level, { rateFactor: 1 }), weights)),
    });
  }
  return reports;
}
