import { elementCount } from '@isthmus/core';
import type { Draft } from './draft.js';
import { Ops } from './ops.js';

/** The mean of the squared differences of two tensors of the same shape. */
export function meanSquaredError(draft: Draft, a: string, b: string): string {
  const ops = new Ops(draft);
  const numElements = elementCount(draft.shapeOf(a));
  return ops.scale(draft.node('ReduceSumSquare', [ops.sub(a, b)], { keepdims: 0 }), 1 / numElements);
}

/**
 * The cross-entropy of the softmax of logits [batch, classes] with target distributions of the same shape (one-hot
 * for labels), averaged over the batch, in nats.
 */
export function softmaxCrossEntropy(draft: Draft, logits: string, targets: string): string {
  const ops = new Ops(draft);
  const [batch = 1] = draft.shapeOf(logits);
  const weighted = ops.mul(draft.node('LogSoftmax', [logits], { axis: -1 }), targets);
  return ops.scale(draft.node('ReduceSum', [weighted], { keepdims: 0 }), -1 / batch);
}
