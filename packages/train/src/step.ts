import { IsthmusError } from '@isthmus/core';
import { writeModel } from '@isthmus/graph';
import { Draft } from './draft.js';
import { addGradients } from './gradients.js';
import { layOutParameters, type ParameterLayout } from './layout.js';
import { Ops } from './ops.js';
import {
  addOptimizer,
  checkOptimizer,
  gradientNormOutput,
  type OptimizerOptions,
  type StateVector,
  vectorsOf,
} from './optimizer.js';

export interface TrainingStepOptions {
  /** A tensor of one element, to be made small. */
  loss: string;
  /** Further float32 tensors to hand out after each step, by what they are called there. */
  metrics?: Readonly<Record<string, string>>;
  optimizer?: OptimizerOptions;
  /**
   * Whether gradients of several batches are added up before the weights change: for batches that do not fit into
   * memory at once. The gradient is then the mean of theirs. @default false
   */
  accumulates?: boolean;
}

/** Models of a training step, ready to be loaded, and what they mean. */
export interface TrainingPlan {
  readonly layout: ParameterLayout;
  readonly vectors: readonly StateVector[];
  readonly optimizer: OptimizerOptions;
  readonly loss: string;
  readonly metrics: Readonly<Record<string, string>>;
  readonly models:
    | { readonly kind: 'whole'; readonly step: Uint8Array }
    | { readonly kind: 'accumulated'; readonly accumulate: Uint8Array; readonly apply: Uint8Array };
}

/** The names of a state vector as input and as output of a step's models. */
export function stateNames(vector: StateVector): { before: string; after: string } {
  return { before: `state/${vector}`, after: `next/${vector}` };
}

/** The sum of gradients, as input and as output. */
export const gradientSumNames = { before: 'state/gradientSum', after: 'next/gradientSum' } as const;
/** How long that sum is: what statistics follow is summed with the gradient. */
export function gradientLength({ numTrained, numFollowing }: ParameterLayout): number {
  return numTrained + numFollowing;
}

/** Input: 1 / number of batches of which the gradient is the sum. */
export const gradientScaleInput = 'optimizer/gradient-scale';

/**
 * The models of a whole training step: forward, backward, and AdamW over all parameters of the draft as one vector;
 * statistics move towards what they follow. They use operators of stock ONNX Runtime only. The draft is not changed.
 *
 * @throws IsthmusError as {@link addGradients}; `usage/invalid` for options out of range and a draft without
 * parameters.
 *
 * @example
 * ```ts
 * const plan = buildTrainingStep(draft, { loss, optimizer: { clipNorm: 1, averageDecay: 0.999 } });
 * const trainer = await createTrainer(plan, { state: createTrainingState(plan, draft) });
 * ```
 */
export function buildTrainingStep(draft: Draft, options: TrainingStepOptions): TrainingPlan {
  const { loss, metrics = {}, optimizer = {}, accumulates = false } = options;
  checkOptimizer(optimizer);
  for (const name of Object.values(metrics)) {
    if (draft.typeOf(name) === 'float32') continue;
    throw new IsthmusError('usage/invalid', `The metric ${name} is not float32.`);
  }
  const layout = layOutParameters(draft);
  const vectors = vectorsOf(optimizer);
  const reported = [loss, ...Object.values(metrics)];
  const forward = draft.clone();
  const gradient = addFlatGradient(forward, layout, loss);
  const about = { layout, vectors, optimizer, loss, metrics };
  if (!accumulates) {
    const after = addUpdate(forward, layout, gradient, optimizer);
    const step = writeModel(forward.build(unique([...reported, gradientNormOutput, ...after])));
    return { ...about, models: { kind: 'whole', step } };
  }
  const sum = forward.input(gradientSumNames.before, 'float32', [gradientLength(layout)]);
  forward.node('Add', [sum, gradient], {}, { output: gradientSumNames.after });
  const accumulate = writeModel(forward.build(unique([...reported, gradientSumNames.after])));
  return {
    ...about,
    models: { kind: 'accumulated', accumulate, apply: buildApply(draft, layout, optimizer) },
  };
}

// The gradient of all parameters, and what statistics follow, as one vector; parameters and statistics become parts of
// the vector of weights.
function addFlatGradient(draft: Draft, layout: ParameterLayout, loss: string): string {
  const ops = new Ops(draft);
  const trained = draft.parameters.map(({ name }) => name);
  const sources = new Map(addGradients(draft, { loss, of: trained }));
  for (const { name, follows } of draft.statistics) if (follows !== undefined) sources.set(name, follows);
  const parts = layout.entries.flatMap(({ name, numElements }) => {
    const source = sources.get(name);
    return source === undefined ? [] : [ops.reshape(source, [numElements])];
  });
  const weights = draft.input(stateNames('weights').before, 'float32', [layout.numElements]);
  for (const { name, shape, offset, numElements } of layout.entries) {
    const part = ops.slice(weights, { starts: [offset], ends: [offset + numElements], axes: [0] });
    draft.node('Reshape', [part, draft.integers(shape)], {}, { output: name });
  }
  return ops.concat(parts, 0);
}

function addUpdate(
  draft: Draft,
  layout: ParameterLayout,
  gradient: string,
  optimizer: OptimizerOptions,
): string[] {
  const vectors = vectorsOf(optimizer);
  const names = { weights: '', firstMoment: '', secondMoment: '', average: '' };
  for (const vector of vectors) {
    const { before } = stateNames(vector);
    names[vector] = draft.has(before) ? before : draft.input(before, 'float32', [layout.numElements]);
  }
  const after = addOptimizer(draft, layout, names, gradient, optimizer);
  return vectors.map((vector) =>
    draft.node('Identity', [after.get(vector) ?? ''], {}, { output: stateNames(vector).after }),
  );
}

function buildApply(draft: Draft, layout: ParameterLayout, optimizer: OptimizerOptions): Uint8Array {
  const { opset } = draft;
  const apply = new Draft({ opset });
  const sum = apply.input(gradientSumNames.before, 'float32', [gradientLength(layout)]);
  const scale = apply.input(gradientScaleInput, 'float32', []);
  const after = addUpdate(apply, layout, apply.node('Mul', [sum, scale]), optimizer);
  return writeModel(apply.build([gradientNormOutput, ...after]));
}

function unique(names: readonly string[]): string[] {
  return [...new Set(names)];
}
