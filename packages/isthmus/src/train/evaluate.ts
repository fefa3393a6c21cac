import type { Manifest, NamedTensors, Runtime, Tensor } from '@isthmus/core';
import { writeModel } from '@isthmus/graph';
import { type TrainingTerm, trainingTerms } from '@isthmus/train';
import type { FramePoint } from './batch.js';
import type { TrainingGraph } from './graph.js';
import type { Sample } from './samples.js';

/** Means over frames. */
export interface Evaluation {
  terms: Readonly<Record<TrainingTerm, number>>;
  /** Share of frames with the same first class; of other tasks: 1 − relative error of the outputs, at least 0. */
  agreement: number;
}

/** Runs a training's graph forwards, with rounding and without noise. */
export interface Evaluator {
  evaluate(
    samples: readonly Sample[],
    point: Pick<FramePoint, 'step' | 'level'>,
    weights: ReadonlyMap<string, Tensor>,
  ): Promise<Evaluation>;
  release(): Promise<void>;
}

const unweighted = { rate: 0, features: 0, later: 0, outputs: 0 };

export async function createEvaluator(
  { training, makeBatch }: Pick<TrainingGraph, 'training' | 'makeBatch'>,
  manifest: Manifest,
  runtime: Runtime,
): Promise<Evaluator> {
  const { draft, terms, outputs, batchSize } = training;
  const { task } = manifest;
  const classes = task.kind === 'classification' ? task.output : undefined;
  const scores = classes === undefined ? undefined : outputs.get(classes);
  const wanted = [...trainingTerms.map((term) => terms[term]), ...(scores === undefined ? [] : [scores])];
  const session = await runtime.load(writeModel(draft.build([...new Set(wanted)])));
  return {
    async evaluate(samples, { step, level }, weights) {
      const sums = { ...unweighted };
      let numFrames = 0;
      let numSame = 0;
      for (let at = 0; at < samples.length; at += batchSize) {
        const real = samples.slice(at, at + batchSize);
        // The last batch is filled up with frames that are not counted.
        const batch = Array.from({ length: batchSize }, (_, index) => real[index % real.length] as Sample);
        const points = batch.map(() => ({ step, level, weights: unweighted }));
        const given: NamedTensors = {
          ...(await makeBatch({ samples: batch, points, hardness: 1 })),
          ...Object.fromEntries(weights),
        };
        const feeds = Object.fromEntries(
          session.inputNames.flatMap((name) => (given[name] === undefined ? [] : [[name, given[name]]])),
        ) as NamedTensors;
        const { outputs: results } = await session.run(feeds);
        for (const term of trainingTerms) {
          for (const value of numbersOf(results[terms[term]]).subarray(0, real.length)) sums[term] += value;
        }
        if (scores !== undefined && classes !== undefined) {
          numSame += countSame(
            numbersOf(results[scores]),
            real.map((sample) => numbersOf(sample.tensors[classes])),
          );
        }
        numFrames += real.length;
      }
      const means = { ...unweighted };
      for (const term of trainingTerms) means[term] = sums[term] / Math.max(1, numFrames);
      const agreement =
        scores === undefined ? Math.max(0, 1 - means.outputs) : numSame / Math.max(1, numFrames);
      return { terms: means, agreement };
    },
    release: () => session.release(),
  };
}

function countSame(actual: Float32Array, expected: readonly Float32Array[]): number {
  const size = expected[0]?.length ?? 0;
  return expected.filter(
    (values, frame) => argmax(actual.subarray(frame * size, (frame + 1) * size)) === argmax(values),
  ).length;
}

function argmax(values: Float32Array): number {
  return values.reduce((best, value, index) => (value > (values[best] ?? value) ? index : best), 0);
}

function numbersOf(tensor: Tensor | undefined): Float32Array {
  return (tensor?.data ?? new Float32Array()) as Float32Array;
}
