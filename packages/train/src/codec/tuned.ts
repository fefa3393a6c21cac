import type { Tensor } from '@isthmus/core';
import { float32Tensor, type ModelProto } from '@isthmus/graph';
import type { Draft } from '../draft.js';
import { graft } from '../graft.js';

/**
 * How far a step moves a tuned weight at the learning rate 1e-3: by 1.5e-4 of its size, where new
 * weights move by 1e-3 each. Its own size, since the channels of one tensor may differ by orders of magnitude where
 * normalization was folded into them.
 */
const tuningPace = 0.15;
/** What a weight of no size is taken for: a share of its tensor's root mean square. */
const leastSize = 0.1;

const prefix = 'tuned/';

/**
 * Adds a span whose weights are trained, as changes to what they are.
 *
 * @returns The span's outputs, and what its tensors are called in the draft.
 */
export function addTuned(
  draft: Draft,
  span: ModelProto,
  inputs: Readonly<Record<string, string>>,
): { outputs: ReadonlyMap<string, string>; nameOf: (tensor: string) => string } {
  const outputs = graft(draft, span, { inputs, prefix, trains: () => true, pace: tuningPaceOf });
  return { outputs, nameOf: (tensor) => `${prefix}${tensor}` };
}

/**
 * The trained weights of tuned spans, by their names in the model.
 *
 * @param weights Of all parameters of a training draft.
 * @param initial Of the span's initializers.
 */
export function tunedWeights(
  weights: ReadonlyMap<string, Tensor>,
  initial: ReadonlyMap<string, Tensor>,
): ReadonlyMap<string, Tensor<'float32'>> {
  const tuned = new Map<string, Tensor<'float32'>>();
  for (const [name, tensor] of initial) {
    const change = weights.get(`${prefix}${name}/change`);
    if (change === undefined || tensor.type !== 'float32') continue;
    const pace = tuningPaceOf(tensor as Tensor<'float32'>);
    const changes = change.data as Float32Array;
    const values = (tensor.data as Float32Array).map(
      (value, index) => value + (pace[index] ?? 0) * (changes[index] ?? 0),
    );
    tuned.set(name, float32Tensor(values, tensor.shape));
  }
  return tuned;
}

function tuningPaceOf({ data }: Tensor<'float32'>): Float32Array<ArrayBuffer> {
  const power = data.reduce((sum, value) => sum + value * value, 0) / Math.max(1, data.length);
  const least = leastSize * Math.sqrt(power);
  return Float32Array.from(data, (value) => tuningPace * (Math.abs(value) + least));
}
