import {
  type Detection,
  elementCount,
  type FrameGeometry,
  IsthmusError,
  interpret,
  isIsthmusError,
  type Manifest,
  type NamedTensors,
  type Task,
} from '@isthmus/core';
import { averagePrecision50 } from './average-precision.js';
import type { BoxLists, Labels } from './ground-truth.js';
import type { RdPoint, RdResult } from './result.js';

/** How good answers are. */
type Score = Pick<RdPoint, 'top1' | 'agreement' | 'ap50'>;

/** What is kept of a model's outputs for one picture. */
export type Answer = { kind: 'class'; index: number } | { kind: 'boxes'; boxes: readonly Detection[] };

/** Reads outputs, and compares them with the truth and with the uncompressed model's. */
export interface Scorer {
  metric: RdResult['metric'];
  read(outputs: NamedTensors, geometry: FrameGeometry): Answer;
  /** @param reference The uncompressed model's answers, of the same pictures in the same order. */
  score(answers: readonly Answer[], reference: readonly Answer[], names: readonly string[]): Score;
}

/** Scores of every single answer. */
export function scoreEach(
  scorer: Scorer,
  answers: readonly Answer[],
  reference: readonly Answer[],
  names: readonly string[],
): Score[] {
  return answers.map((answer, i) => scorer.score([answer], reference.slice(i, i + 1), names.slice(i, i + 1)));
}

/** Classes a label may name: an output with 1001 holds a background class before the 1000 of ImageNet. */
export function labelClasses(manifest: Manifest): { numClasses: number; offset: number } {
  const { task } = manifest;
  const name = task.kind === 'tensor' ? '' : task.output;
  const output = manifest.cuts.at(-1)!.tensors.find((tensor) => tensor.name === name);
  const numOutputs = elementCount(output?.shape ?? []);
  return numOutputs === 1001 ? { numClasses: 1000, offset: 1 } : { numClasses: numOutputs, offset: 0 };
}

export function createClassScorer(task: Task, labels: Labels | undefined, offset: number): Scorer {
  const share = (answers: readonly Answer[], isRight: (index: number, i: number) => boolean): number =>
    answers.filter((answer, i) => answer.kind === 'class' && isRight(answer.index, i)).length /
    answers.length;
  return {
    metric: labels === undefined ? 'agreement' : 'top1',
    read: (outputs) => ({ kind: 'class', index: bestClass(task, outputs) }),
    score(answers, reference, names) {
      const expected = reference.map((answer) => (answer.kind === 'class' ? answer.index : -1));
      const agreement = share(answers, (index, i) => index === expected[i]);
      if (labels === undefined) return { top1: agreement, agreement };
      return { agreement, top1: share(answers, (index, i) => index === offset + labels.get(names[i]!)!) };
    },
  };
}

// What a codec made of a frame may send a model astray, as far as infinity: an answer, and a wrong one.
function bestClass(task: Task, outputs: NamedTensors): number {
  try {
    const reading = interpret(task, outputs, { topK: 1 });
    return reading.kind === 'classification' ? (reading.classes[0]?.index ?? -1) : -1;
  } catch (error) {
    if (isIsthmusError(error, 'tensor/not-finite')) return -1;
    throw error;
  }
}

// Average precision is about all detections, not only those that are shown.
const lowScore = 0.01;

export function createDetectionScorer(
  task: Extract<Task, { kind: 'detection' }>,
  boxes: BoxLists | undefined,
): Scorer {
  const everything = { ...task, scoreThreshold: Math.min(lowScore, task.scoreThreshold) };
  const boxesOf = (answers: readonly Answer[]): (readonly Detection[])[] =>
    answers.map((answer) => (answer.kind === 'boxes' ? answer.boxes : []));
  return {
    metric: 'ap50',
    read(outputs, geometry) {
      const reading = interpret(everything, outputs, { geometry });
      return { kind: 'boxes', boxes: reading.kind === 'detection' ? reading.boxes : [] };
    },
    score(answers, reference, names) {
      const own = boxesOf(reference).map((found) =>
        found.filter(({ score }) => score >= task.scoreThreshold),
      );
      const agreement = averagePrecision50(own, boxesOf(answers));
      if (boxes === undefined) return { top1: null, agreement, ap50: agreement };
      const truth = names.map((name) => boxes.get(name) ?? []);
      return { top1: null, agreement, ap50: averagePrecision50(truth, boxesOf(answers)) };
    },
  };
}

/** @throws IsthmusError `usage/invalid` for models that neither classify nor detect */
export function refuseTask(model: string): never {
  throw new IsthmusError(
    'usage/invalid',
    `${model} neither classifies nor detects, so that there is no accuracy to measure. Split it with --labels.`,
  );
}
