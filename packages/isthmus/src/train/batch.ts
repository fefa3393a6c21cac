import { createTensor, type NamedTensors } from '@isthmus/core';
import { float32Tensor } from '@isthmus/graph';
import { type TrainingTerm, trainingInputs, trainingTerms } from '@isthmus/train';
import type { Sample } from './samples.js';

/** What one frame of a batch is trained at. */
export interface FramePoint {
  step: number;
  /** 0…1, from the finest to the roughest step. */
  level: number;
  /** What each term of the loss counts. */
  weights: Readonly<Record<TrainingTerm, number>>;
}

export interface BatchOptions {
  /** The tensor that the encoder takes. */
  input: string;
  /** Of one frame. */
  latentSize: number;
  latentShape: readonly number[];
  samples: readonly Sample[];
  points: readonly FramePoint[];
  hardness: number;
  /** In [0, 1), for the noise; without it there is none. */
  random?: () => number;
}

/** Everything that a training draft takes, for one batch. */
export function batchFeeds(options: BatchOptions): NamedTensors {
  const { input, latentSize, latentShape, samples, points, hardness, random } = options;
  const size = samples.length;
  const noise = new Float32Array(size * latentSize);
  if (random !== undefined) for (let i = 0; i < noise.length; i++) noise[i] = random() - 0.5;
  const perFrame = (of: (point: FramePoint) => number): NamedTensors[string] =>
    float32Tensor(points.map(of), [size, 1, 1, 1]);
  const weights = points.flatMap((point) => trainingTerms.map((term) => point.weights[term]));
  const feeds: Record<string, NamedTensors[string]> = {
    [trainingInputs.step]: perFrame(({ step }) => step),
    [trainingInputs.level]: perFrame(({ level }) => level),
    [trainingInputs.noise]: createTensor('float32', [size, ...latentShape.slice(1)], noise),
    [trainingInputs.hardness]: float32Tensor([hardness], [1]),
    [trainingInputs.weights]: float32Tensor(weights, [size, trainingTerms.length]),
  };
  for (const [name, { shape }] of Object.entries(samples[0]?.tensors ?? {})) {
    const batched = [size * (shape[0] ?? 1), ...shape.slice(1)];
    const stacked = createTensor('float32', batched, stack(samples, name));
    if (name === input) feeds[trainingInputs.features] = stacked;
    feeds[trainingInputs.target(name)] = stacked;
  }
  return feeds;
}

function stack(samples: readonly Sample[], name: string): Float32Array<ArrayBuffer> {
  const parts = samples.map(({ tensors }) => tensors[name]?.data as Float32Array);
  const result = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const part of parts) {
    result.set(part, offset);
    offset += part.length;
  }
  return result;
}
