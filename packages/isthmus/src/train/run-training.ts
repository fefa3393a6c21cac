import type { Clock, Tensor } from '@isthmus/core';
import type { Bundle } from '@isthmus/graph';
import { createTrainingState, stateTensors, type TrainingState, trainingTerms } from '@isthmus/train';
import { readState, writeState } from './checkpoint.js';
import type { Evaluator } from './evaluate.js';
import { framesPerStep } from './graph.js';
import type { OpenTraining } from './open-training.js';
import type { Sample, SampleSource } from './samples.js';
import { createPoints } from './target.js';
import { createLoop, type StepReport } from './train-loop.js';

/** How far a training is. */
export type TrainingProgress =
  | { stage: 'prepare' | 'import' }
  | {
      stage: 'train';
      step: number;
      numSteps: number;
      /** Whether only features are compared yet. */
      isFeatureStage: boolean;
      /** Averaged over the last steps; 1 is where training began, or what `calibrated` does at the cut it leaves. */
      loss: number;
      /** Estimated, averaged over all levels. */
      bitsPerPixel: number;
      /** The loss on pictures held out, at three levels, as last measured. */
      heldOutLoss: number;
      /** With the uncompressed model, on pictures held out, as last measured. */
      agreement: number;
      imagesPerSecond: number;
      leftMs: number;
      numSkipped: number;
    };

export interface RunOptions {
  bundle: Bundle;
  clock: Clock;
  /** Where the checkpoint is. */
  folder: string;
  isResumed: boolean;
  /** Of ONNX Runtime while training. */
  threads?: number;
  /** Aborting it saves a checkpoint. */
  signal: AbortSignal;
  onProgress?: (progress: TrainingProgress) => void;
}

const checkpointIntervalMs = 60_000;
const numEvaluations = 8;
const smoothing = 0.95;
const evaluatedLevels = [0.2, 0.5, 0.8];

/** What a run of steps came to. */
export interface FinishedRun {
  /** Averaged over the last steps, by parameter. */
  weights: ReadonlyMap<string, Tensor<'float32'>>;
  numSteps: number;
  numImages: number;
  imagesPerSecond: number;
}

/** Takes the steps of a training that are left, and saves how far it is every minute and when it is interrupted. */
export async function runTraining(
  { bundle, clock, folder, isResumed, signal, threads, onProgress }: RunOptions,
  opened: OpenTraining,
  samples: SampleSource,
  evaluator: Evaluator,
  heldOut: readonly Sample[],
): Promise<FinishedRun> {
  const { graph, target } = opened;
  // Both stages have the same parameters.
  const plan = graph.buildPlan(target.numSteps, 'outputs');
  const saved = isResumed ? await readState(folder, plan) : undefined;
  const state = saved ?? createTrainingState(plan, graph.training.draft);
  const loop = await createLoop(opened, state, { samples, ...(threads !== undefined && { threads }) });
  const { width = 1, height = 1 } = bundle.manifest.preprocess ?? {};
  const startMs = clock.now();
  let savedAtMs = startMs;
  let stage: StepReport['stage'] | undefined;
  let loss = 0;
  let rate = 0;
  const evaluationInterval = Math.max(1, Math.ceil(target.numSteps / numEvaluations));
  const look = (): Promise<HeldOutReport> =>
    evaluateLevels(evaluator, target, heldOut, averageOf(loop.state), evaluatedLevels);
  try {
    let seen = await look();
    while (loop.state.step < target.numSteps) {
      if (signal.aborted) {
        await writeState(folder, loop.state);
        signal.throwIfAborted();
      }
      const report = await loop.next();
      const kept = stage === report.stage ? smoothing : 0;
      stage = report.stage;
      loss = kept * loss + (1 - kept) * report.loss;
      rate = kept * rate + (1 - kept) * report.rate;
      if (report.step % evaluationInterval === 0) seen = await look();
      const now = clock.now();
      if (now - savedAtMs >= checkpointIntervalMs) {
        await writeState(folder, loop.state);
        savedAtMs = now;
      }
      const numDone = report.step - state.step;
      const stepMs = (now - startMs) / numDone;
      onProgress?.({
        ...{ stage: 'train', step: report.step, numSteps: target.numSteps, loss, ...seen },
        isFeatureStage: stage === 'features',
        bitsPerPixel: rate / (width * height),
        imagesPerSecond: imagesPerSecondOf(numDone, now - startMs),
        leftMs: stepMs * (target.numSteps - report.step),
        numSkipped: samples.skipped.size,
      });
    }
    await writeState(folder, loop.state);
    const { step } = loop.state;
    return {
      weights: new Map([...averageOf(loop.state)].map(([name, tensor]) => [name, copyOf(tensor)])),
      numSteps: step,
      numImages: step * framesPerStep,
      imagesPerSecond: imagesPerSecondOf(step - state.step, clock.now() - startMs),
    };
  } finally {
    await loop.release();
  }
}

interface HeldOutReport {
  heldOutLoss: number;
  agreement: number;
}

/** The loss and the agreement on average over levels. */
export async function evaluateLevels(
  evaluator: Evaluator,
  target: OpenTraining['target'],
  samples: readonly Sample[],
  weights: ReadonlyMap<string, Tensor>,
  levels: readonly number[],
): Promise<HeldOutReport> {
  const pointAt = createPoints(target);
  const means = { heldOutLoss: 0, agreement: 0 };
  for (const level of levels) {
    const point = pointAt(level, { rateFactor: 1 });
    const { terms, agreement } = await evaluator.evaluate(samples, point, weights);
    for (const term of trainingTerms) {
      means.heldOutLoss += (point.weights[term] * terms[term]) / levels.length;
    }
    means.agreement += agreement / levels.length;
  }
  return means;
}

function averageOf(state: TrainingState): ReadonlyMap<string, Tensor<'float32'>> {
  return stateTensors(state, 'average');
}

function copyOf({ type, shape, data }: Tensor<'float32'>): Tensor<'float32'> {
  return { type, shape, data: data.slice() };
}

function imagesPerSecondOf(numSteps: number, durationMs: number): number {
  return (1000 * framesPerStep * numSteps) / Math.max(1, durationMs);
}
