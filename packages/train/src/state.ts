import { IsthmusError, type Tensor } from '@isthmus/core';
import type { Draft } from './draft.js';
import type { ParameterLayout } from './layout.js';
import type { StateVector } from './optimizer.js';
import { readSafetensors, writeSafetensors } from './safetensors.js';
import type { TrainingPlan } from './step.js';

/** Everything that training carries from step to step. */
export interface TrainingState {
  readonly layout: ParameterLayout;
  /** Steps taken. */
  readonly step: number;
  /** Each as long as all parameters and statistics together. */
  readonly vectors: Readonly<Partial<Record<StateVector, Float32Array>>>;
}

const format = 'isthmus-training-state-1';

/** The state before the first step: the draft's weights and statistics, also as their average, and no moments. */
export function createTrainingState(plan: TrainingPlan, draft: Draft): TrainingState {
  const carried = [...draft.parameters, ...draft.statistics];
  const initial = new Map(carried.map(({ name, tensor }) => [name, tensor]));
  const weights = new Float32Array(plan.layout.numElements);
  for (const { name, offset } of plan.layout.entries) weights.set(initial.get(name)?.data ?? [], offset);
  const vectors = plan.vectors.map((vector): [StateVector, Float32Array] => [
    vector,
    vector === 'weights' || vector === 'average' ? weights.slice() : new Float32Array(weights.length),
  ]);
  return { layout: plan.layout, step: 0, vectors: Object.fromEntries(vectors) };
}

/**
 * The tensors of a vector by parameter and statistic, as views: for `draft.build`, which makes constants of them.
 *
 * @param vector `average` for what is usually the better model. @default 'weights'
 *
 * @throws IsthmusError `usage/invalid` if the state has no such vector.
 */
export function stateTensors(
  { layout, vectors }: TrainingState,
  vector: StateVector = 'weights',
): ReadonlyMap<string, Tensor<'float32'>> {
  const data = vectors[vector];
  if (data === undefined) throw new IsthmusError('usage/invalid', `The training state has no ${vector}.`);
  return new Map(
    layout.entries.map(({ name, shape, offset, numElements }) => [
      name,
      { type: 'float32', shape, data: data.subarray(offset, offset + numElements) },
    ]),
  );
}

/** The state as a safetensors file, bit for bit; tensors are called `weights/NAME`, `firstMoment/NAME` and so on. */
export function saveTrainingState(state: TrainingState): Uint8Array {
  const tensors = new Map<string, Tensor<'float32'>>();
  for (const vector of Object.keys(state.vectors) as StateVector[]) {
    for (const [name, tensor] of stateTensors(state, vector)) tensors.set(`${vector}/${name}`, tensor);
  }
  const metadata = new Map([
    ['format', format],
    ['step', String(state.step)],
  ]);
  return writeSafetensors({ tensors, metadata });
}

/**
 * A saved state, to go on from.
 *
 * @throws IsthmusError `train/state-invalid` if the file is damaged, or of a training with other parameters or
 * another optimizer than the plan's.
 */
export function loadTrainingState(plan: TrainingPlan, bytes: Uint8Array): TrainingState {
  const { tensors, metadata } = readSafetensors(bytes);
  const step = metadata.get('step') ?? '';
  if (metadata.get('format') !== format || !/^\d{1,15}$/.test(step)) {
    throw mismatch('it is no training state of this version');
  }
  const { layout } = plan;
  if (tensors.size !== plan.vectors.length * layout.entries.length) {
    throw mismatch(
      `it has ${tensors.size} tensors, and ${plan.vectors.length * layout.entries.length} belong there`,
    );
  }
  const vectors = plan.vectors.map((vector): [StateVector, Float32Array] => {
    const whole = new Float32Array(layout.numElements);
    for (const { name, shape, offset } of layout.entries) {
      const tensor = tensors.get(`${vector}/${name}`);
      if (tensor === undefined) throw mismatch(`it lacks ${vector}/${name}`);
      if (tensor.shape.join() !== shape.join()) {
        throw mismatch(`its ${vector}/${name} is [${tensor.shape}], not [${shape}]`);
      }
      whole.set(tensor.data, offset);
    }
    return [vector, whole];
  });
  return { layout, step: Number(step), vectors: Object.fromEntries(vectors) };
}

function mismatch(reason: string): IsthmusError {
  return new IsthmusError(
    'train/state-invalid',
    `The file does not fit this training: ${reason}. Give the one that belongs to it.`,
  );
}
