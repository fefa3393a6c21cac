import type { Manifest } from '@isthmus/core';
import { type Bundle, bundleSpan, readModel } from '@isthmus/graph';
import {
  bottleneck,
  buildTrainingStep,
  type CodecArchitecture,
  type CodecTraining,
  draftCodecTraining,
  type OutputKind,
  type Target,
  type TrainingPlan,
} from '@isthmus/train';
import type { TrainingSetup } from './setup.js';
import { randomFor } from './shuffle.js';

/** Frames that a step of the optimizer sees, in one batch where the model takes several. */
export const framesPerStep = 8;

export interface TrainingGraph {
  architecture: CodecArchitecture;
  training: CodecTraining;
  /** Steps of the optimizer, of which there will be so many; made only where training is to go on. */
  buildPlan(numSteps: number): TrainingPlan;
}

/** The cuts whose tensors training compares: where the codec is, one half-way to the end, and the end. */
export function comparedCuts({ cuts }: Manifest, cut: number): { at: number; later: number[]; last: number } {
  const last = cuts.length - 1;
  const middle = Math.ceil((cut + last) / 2);
  return { at: cut, later: middle > cut && middle < last ? [middle] : [], last };
}

/** @param powers Variances of the compared tensors, by name. */
export async function buildGraph(
  bundle: Bundle,
  setup: TrainingSetup,
  powers: Readonly<Record<string, number>>,
): Promise<TrainingGraph> {
  const { manifest } = bundle;
  const { start, numComponents, seed } = setup;
  const architecture = bottleneck({ start, numComponents, random: randomFor(seed, 'weights') });
  const { at, later, last } = comparedCuts(manifest, setup.cut);
  const targetsAt = (cut: number): Target[] =>
    (manifest.cuts[cut]?.tensors ?? [])
      .filter(({ type }) => type === 'float32')
      .map(({ name, shape }) => ({ name, shape, power: powers[name] ?? 1 }));
  const batchSize = manifest.dynamicBatch ? framesPerStep : 1;
  const training = draftCodecTraining({
    architecture,
    batchSize,
    tail: await readModel(bundleSpan(bundle, at, last)),
    decoded: { name: start.tensor.name, shape: start.tensor.shape, power: powers[start.tensor.name] ?? 1 },
    later: later.flatMap(targetsAt),
    outputs: targetsAt(last).map((target) => ({ ...target, kind: kindOf(manifest, target.name) })),
  });
  return {
    architecture,
    training,
    buildPlan: (numSteps) =>
      buildTrainingStep(training.draft, {
        loss: training.loss,
        metrics: training.terms,
        optimizer: { clipNorm: 1, averageDecay: averageDecayFor(numSteps) },
        accumulates: batchSize < framesPerStep,
      }),
  };
}

// The average reaches back over a twentieth of the training.
function averageDecayFor(numSteps: number): number {
  return Math.min(0.9995, Math.max(0.5, 1 - 20 / numSteps));
}

function kindOf({ task }: Manifest, name: string): OutputKind {
  if (task.kind !== 'classification' || task.output !== name) return 'values';
  return task.activation === 'softmax' ? 'logits' : 'probabilities';
}
