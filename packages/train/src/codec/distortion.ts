import type { Draft } from '../draft.js';
import { lowerBound } from '../gdn.js';
import { Ops } from '../ops.js';

/** How outputs are compared: class probabilities, logits of classes, or numbers. */
export type OutputKind = 'probabilities' | 'logits' | 'values';

// Below this a probability is as good as none.
const leastProbability = 1e-8;

/** The mean squared error of each frame, [batch], in units of `power`. */
export function addSquaredError(draft: Draft, a: string, b: string, power: number): string {
  const ops = new Ops(draft);
  const axes = draft.shapeOf(a).flatMap((_, axis) => (axis === 0 ? [] : [axis]));
  const means = ops.reduceMean(ops.square(ops.sub(a, b)), axes);
  return ops.scale(ops.reshape(means, [draft.shapeOf(a)[0] ?? 1]), 1 / (power || 1));
}

/**
 * The Kullback–Leibler divergence of each frame, [batch], in nats: what the codec costs the task, as in Hinton, Vinyals
 * and Dean, Distilling the Knowledge in a Neural Network, 2015.
 *
 * @param expected The uncompressed model's probabilities or logits: [batch, classes].
 */
export function addDivergence(draft: Draft, kind: OutputKind, expected: string, actual: string): string {
  const ops = new Ops(draft);
  const logarithms = (x: string): string =>
    kind === 'logits'
      ? draft.node('LogSoftmax', [x], { axis: -1 })
      : ops.unary('Log', lowerBound(draft, x, leastProbability));
  const teacher = logarithms(expected);
  // What a model wrongly calls probabilities may be negative.
  const p = kind === 'logits' ? ops.unary('Exp', teacher) : ops.unary('Relu', expected);
  const axes = draft.shapeOf(actual).flatMap((_, axis) => (axis === 0 ? [] : [axis]));
  return ops.reduceSum(ops.mul(p, ops.sub(teacher, logarithms(actual))), axes, false);
}
