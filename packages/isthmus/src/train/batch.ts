import { createTensor, type NamedTensors } from '@isthmus/core';
import { float32Tensor } from '@isthmus/graph';
import { type TrainingTerm, trainingInputs, trainingTerms } from '@isthmus/train';
import type { CodedPictures } from './coded-pictures.js';
import type { Sample } from './samples.js';

/** What one frame of a batch is trained at. */
export interface FramePoint {
  /** Of the quantizer. */
  step: number;
  /** 0…1, from the finest to the roughest step or quality. */
  level: number;
  /** What each term of the loss counts. */
  weights: Readonly<Record<TrainingTerm, number>>;
}

interface BatchRequest {
  samples: readonly Sample[];
  /** Of each sample. */
  points: readonly FramePoint[];
  hardness: number;
  /** In [0, 1), for the noise; without it there is none. */
  random?: () => number;
}

/** Makes everything that a training draft takes, for one batch. */
export type BatchMaker = (request: BatchRequest) => Promise<NamedTensors>;

/**
 * Batches of codecs with a latent.
 *
 * @param input The tensor that the encoder takes.
 * @param latentShape Of a batch.
 */
export function latentBatches(input: string, latentShape: readonly number[]): BatchMaker {
  const latentSize = latentShape.slice(1).reduce((product, axis) => product * axis, 1);
  return async ({ samples, points, hardness, random }) => {
    const size = samples.length;
    const noise = new Float32Array(size * latentSize);
    if (random !== undefined) for (let i = 0; i < noise.length; i++) noise[i] = random() - 0.5;
    return {
      ...commonFeeds(samples, points),
      [trainingInputs.features]: stack(samples.map(({ tensors }) => tensors[input])),
      [trainingInputs.step]: float32Tensor(
        points.map(({ step }) => step),
        [size, 1, 1, 1],
      ),
      [trainingInputs.noise]: createTensor('float32', [size, ...latentShape.slice(1)], noise),
      [trainingInputs.hardness]: float32Tensor([hardness], [1]),
    };
  };
}

/** Batches of frames that a picture codec has coded. */
export function pictureBatches(coded: CodedPictures): BatchMaker {
  return async ({ samples, points }) => {
    const pictures = [];
    for (const [index, { name, tensors }] of samples.entries()) {
      const level = Math.round((points[index]?.level ?? 0) * (coded.numLevels - 1));
      pictures.push(await coded.get(name, tensors, level));
    }
    return {
      ...commonFeeds(samples, points),
      [trainingInputs.features]: stack(pictures.map(({ picture }) => picture)),
      [trainingInputs.bits]: float32Tensor(pictures.map(({ numBytes }) => 8 * numBytes)),
    };
  };
}

function commonFeeds(samples: readonly Sample[], points: readonly FramePoint[]): NamedTensors {
  const weights = points.flatMap((point) => trainingTerms.map((term) => point.weights[term]));
  const feeds: Record<string, NamedTensors[string]> = {
    [trainingInputs.level]: float32Tensor(
      points.map(({ level }) => level),
      [points.length, 1, 1, 1],
    ),
    [trainingInputs.weights]: float32Tensor(weights, [points.length, trainingTerms.length]),
  };
  for (const name of Object.keys(samples[0]?.tensors ?? {})) {
    feeds[trainingInputs.target(name)] = stack(samples.map(({ tensors }) => tensors[name]));
  }
  return feeds;
}

function stack(tensors: readonly (NamedTensors[string] | undefined)[]): NamedTensors[string] {
  const parts = tensors.map((tensor) => tensor?.data as Float32Array);
  const result = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const part of parts) {
    result.set(part, offset);
    offset += part.length;
  }
  const [first = 1, ...rest] = tensors[0]?.shape ?? [];
  return createTensor('float32', [tensors.length * first, ...rest], result);
}
