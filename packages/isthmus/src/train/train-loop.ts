import type { Clock, NamedTensors } from '@isthmus/core';
import {
  createTrainer,
  createTrainingState,
  learningRateAt,
  phaseAt,
  type Trainer,
  type TrainingState,
} from '@isthmus/train';
import type { FramePoint } from './batch.js';
import { framesPerStep, type TrainingStage } from './graph.js';
import type { OpenTraining } from './open-training.js';
import type { Sample, SampleSource } from './samples.js';
import { createOrder, randomFor } from './shuffle.js';
import { createPoints } from './target.js';

/** What a step of the optimizer came to. */
export interface StepReport {
  /** Steps taken. */
  step: number;
  stage: TrainingStage;
  loss: number;
  /** Mean bits of a frame. */
  rate: number;
}

export interface LoopOptions {
  samples: SampleSource;
  threads?: number;
}

/** Takes steps one after the other; everything follows from the seed and the step's number. */
export interface TrainingLoop {
  readonly state: TrainingState;
  next(): Promise<StepReport>;
  release(): Promise<void>;
}

const peakRate = 1e-3;

export async function createLoop(
  opened: OpenTraining,
  start: TrainingState,
  options: LoopOptions,
): Promise<TrainingLoop> {
  const { setup, target, graph } = opened;
  const { seed, pictures } = setup;
  const { threads } = options;
  const order = createOrder(pictures.training, seed);
  const pointAt = createPoints(target);
  const open = async (stage: TrainingStage, state: TrainingState): Promise<StagedTrainer> => {
    const plan = graph.buildPlan(target.numSteps, stage);
    const trainer = await createTrainer(plan, { state, ...(threads !== undefined && { threads }) });
    return { stage, trainer };
  };
  let current = await open(stageAt(target, start.step), start);
  return {
    get state() {
      return current.trainer.state;
    },
    async next() {
      const { step } = current.trainer.state;
      const stage = stageAt(target, step);
      if (stage !== current.stage) {
        const { state } = current.trainer;
        await current.trainer.release();
        current = await open(stage, state);
      }
      const { hardness, rateFactor } = phaseAt(graph.phases, step, target.numSteps);
      const random = randomFor(seed, 'step', step);
      const samples = await readBatch(order, step, options.samples, pictures.training.length);
      // Spread over all levels, so that every step sees all of them.
      const points = samples.map((_, at) => pointAt((at + random()) / framesPerStep, { rateFactor, stage }));
      const learningRate = learningRateAt(peakRate, step, target.numSteps);
      const given = { graph, hardness, random, samples, points, learningRate };
      const { loss, rate } = await takeStep(current.trainer, given);
      return { step: step + 1, stage, loss, rate };
    },
    release: () => current.trainer.release(),
  };
}

interface StagedTrainer {
  stage: TrainingStage;
  trainer: Trainer;
}

function stageAt({ numFeatureSteps }: OpenTraining['target'], step: number): TrainingStage {
  return step < numFeatureSteps ? 'features' : 'outputs';
}

// In place of a picture that cannot be read, the next that can be.
async function readBatch(
  order: (at: number) => string,
  step: number,
  source: SampleSource,
  numPictures: number,
): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (let at = 0; at < framesPerStep; at++) {
    for (let more = 0; more < numPictures && samples.length <= at; more++) {
      const sample = await source.get(order(step * framesPerStep + at + more));
      if (sample !== undefined) samples.push(sample);
    }
  }
  return samples;
}

interface StepOptions {
  graph: OpenTraining['graph'];
  hardness: number;
  random: () => number;
  samples: readonly Sample[];
  points: readonly FramePoint[];
  learningRate: number;
}

// In one batch, or frame by frame where the model takes only one.
async function takeStep(
  trainer: Trainer,
  { graph, hardness, random, samples, points, learningRate }: StepOptions,
): Promise<{ loss: number; rate: number }> {
  const { batchSize } = graph.training;
  const feedsOf = (from: number): Promise<NamedTensors> => {
    const [batch, at] = [samples.slice(from, from + batchSize), points.slice(from, from + batchSize)];
    return graph.makeBatch({ samples: batch, points: at, hardness, random });
  };
  if (batchSize === samples.length) {
    const { loss, metrics } = await trainer.step(await feedsOf(0), { learningRate });
    return { loss, rate: meanOf(metrics.rate) };
  }
  let [loss, rate] = [0, 0];
  for (let at = 0; at < samples.length; at += batchSize) {
    const result = await trainer.accumulate(await feedsOf(at));
    loss += (result.loss * batchSize) / samples.length;
    rate += (meanOf(result.metrics.rate) * batchSize) / samples.length;
  }
  await trainer.apply({ learningRate });
  return { loss, rate };
}

function meanOf(values: Float32Array = new Float32Array()): number {
  return values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
}

const numTimed = 4;

/** How long a step takes, by taking a few and forgetting them. */
export async function timeSteps(
  opened: OpenTraining,
  stage: TrainingStage,
  options: LoopOptions & { clock: Clock; signal: AbortSignal },
): Promise<number> {
  const { clock, signal } = options;
  const { graph, target } = opened;
  const numSteps = numTimed + 1;
  const state = createTrainingState(graph.buildPlan(numSteps, stage), graph.training.draft);
  const numFeatureSteps = stage === 'features' ? numSteps : 0;
  const loop = await createLoop(
    { ...opened, target: { ...target, numSteps, numFeatureSteps } },
    state,
    options,
  );
  try {
    await loop.next();
    const startMs = clock.now();
    for (let i = 0; i < numTimed; i++) {
      signal.throwIfAborted();
      await loop.next();
    }
    return Math.max(1, clock.now() - startMs) / numTimed;
  } finally {
    await loop.release();
  }
}
