import { IsthmusError, type NamedTensors, type TensorData, toIsthmusError } from '@isthmus/core';
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { gradientNormOutput, optimizerInputs, type StateVector } from './optimizer.js';
import type { TrainingState } from './state.js';
import {
  gradientLength,
  gradientScaleInput,
  gradientSumNames,
  stateNames,
  type TrainingPlan,
} from './step.js';

export interface TrainerOptions {
  state: TrainingState;
  /** @default ONNX Runtime's choice: one per physical core */
  threads?: number;
  /**
   * Whether threads that wait for work keep their cores busy. That helps on a machine that does nothing else; on one
   * that does, it costs a third of the speed. @default false
   */
  spins?: boolean;
}

export interface BatchResult {
  loss: number;
  /** As the plan calls them. */
  metrics: Readonly<Record<string, Float32Array>>;
}

export interface StepResult extends BatchResult {
  /** The length of the gradient of all parameters together, before it was cut down. */
  gradientNorm: number;
}

/** Runs the steps of a plan, one at a time. */
export interface Trainer {
  /** What training has come to. Steps make new arrays: one that was read stays as it is. */
  readonly state: TrainingState;
  /** One step of a plan that does not accumulate. */
  step(feeds: NamedTensors, options: { learningRate: number }): Promise<StepResult>;
  /** Adds the gradient of a batch, in a plan that accumulates. The weights stay. */
  accumulate(feeds: NamedTensors): Promise<BatchResult>;
  /** Changes the weights by the mean gradient of the batches since the last time. */
  apply(options: { learningRate: number }): Promise<{ gradientNorm: number }>;
  release(): Promise<void>;
}

/**
 * Loads the models of a plan into onnxruntime-node. What a step gives is fed to the next as it is: onnxruntime-node reads
 * inputs where they lie, and copies outputs once (also into arrays that it is given, so none are). It runs in the
 * caller's thread, which it keeps busy: it takes no shared memory, and a state that moved to a worker for a step could not be
 * read meanwhile, and would be lost with the worker. Whoever must not wait creates the trainer in a worker.
 *
 * @throws IsthmusError `runtime/load-failed`; from its methods `runtime/run-failed`, `train/not-finite` if the loss or
 * the gradient is no number any more (the state is then that of the step before), and `usage/invalid` for
 * `accumulate` and `apply` where the plan does not, or `step` where it does, and a call before the last has ended.
 *
 * @example
 * ```ts
 * const trainer = await createTrainer(plan, { state: createTrainingState(plan, draft), threads: 2 });
 * for (const batch of batches) {
 *   const { loss } = await trainer.step(batch, { learningRate: cosineRate(schedule, trainer.state.step) });
 * }
 * await writeFile('state.safetensors', saveTrainingState(trainer.state));
 * ```
 */
export async function createTrainer(plan: TrainingPlan, options: TrainerOptions): Promise<Trainer> {
  const { models } = plan;
  const { numElements } = plan.layout;
  const [first, second] =
    models.kind === 'whole'
      ? [await load(models.step, options), undefined]
      : [await load(models.accumulate, options), await load(models.apply, options)];
  const vectors = new Map<StateVector, OrtTensor>(
    plan.vectors.map((vector) => {
      const given = options.state.vectors[vector];
      if (given?.length !== numElements) {
        throw new IsthmusError(
          'usage/invalid',
          `The training state has no ${vector} of ${numElements} elements.`,
        );
      }
      return [vector, vectorTensor(given)];
    }),
  );
  const noGradient = vectorTensor(
    new Float32Array(models.kind === 'accumulated' ? gradientLength(plan.layout) : 0),
  );
  let gradientSum = noGradient;
  let { step } = options.state;
  let numBatches = 0;
  let isRunning = false;

  // Two steps at a time would begin at the same state, and one of them be lost.
  const alone = async <Result>(work: () => Promise<Result>): Promise<Result> => {
    if (isRunning) throw new IsthmusError('usage/invalid', 'Wait for the step in progress before the next.');
    isRunning = true;
    try {
      return await work();
    } finally {
      isRunning = false;
    }
  };
  const readBatch = (outputs: InferenceSession.ReturnType): BatchResult => {
    const loss = floatsOf(outputs, plan.loss)[0] ?? Number.NaN;
    checkFinite('loss', loss, step);
    const metrics = Object.entries(plan.metrics).map(([label, name]) => [label, floatsOf(outputs, name)]);
    return { loss, metrics: Object.fromEntries(metrics) };
  };
  // Runs a model that changes the state, and takes the new one only if all is well.
  const update = async <Result>(
    session: InferenceSession,
    feeds: Record<string, OrtTensor>,
    learningRate: number,
    read: (outputs: InferenceSession.ReturnType) => Result,
  ): Promise<Result & { gradientNorm: number }> => {
    const inputs = { ...feeds, ...optimizerFeeds(plan, step + 1, learningRate), ...stateFeeds(vectors) };
    const outputs = await run(session, inputs);
    const result = read(outputs);
    const gradientNorm = floatsOf(outputs, gradientNormOutput)[0] ?? Number.NaN;
    checkFinite('gradient', gradientNorm, step);
    for (const vector of plan.vectors) {
      vectors.set(vector, vectorTensor(floatsOf(outputs, stateNames(vector).after)));
    }
    step += 1;
    return { ...result, gradientNorm };
  };

  return {
    get state() {
      const arrays = [...vectors].map(([vector, tensor]) => [vector, tensor.data as Float32Array]);
      return { layout: plan.layout, step, vectors: Object.fromEntries(arrays) };
    },
    async step(feeds, { learningRate }) {
      if (models.kind !== 'whole') throw wrongKind('accumulates: call accumulate() and apply()');
      return alone(() => update(first, toOrtFeeds(feeds), learningRate, readBatch));
    },
    async accumulate(feeds) {
      if (second === undefined) throw wrongKind('does not accumulate: call step()');
      const inputs = { ...toOrtFeeds(feeds), ...stateFeeds(vectors) };
      const outputs = await alone(() => run(first, { ...inputs, [gradientSumNames.before]: gradientSum }));
      const result = readBatch(outputs);
      gradientSum = vectorTensor(floatsOf(outputs, gradientSumNames.after));
      numBatches += 1;
      return result;
    },
    async apply({ learningRate }) {
      if (second === undefined) throw wrongKind('does not accumulate: call step()');
      if (numBatches === 0) {
        throw new IsthmusError('usage/invalid', 'Nothing was accumulated that could be applied.');
      }
      const feeds = {
        [gradientSumNames.before]: gradientSum,
        [gradientScaleInput]: scalar(1 / numBatches),
      };
      const result = await alone(() => update(second, feeds, learningRate, () => ({})));
      gradientSum = noGradient;
      numBatches = 0;
      return result;
    },
    async release() {
      await first.release();
      await second?.release();
    },
  };
}

async function load(
  model: Uint8Array,
  { threads, spins = false }: TrainerOptions,
): Promise<InferenceSession> {
  try {
    return await InferenceSession.create(model, {
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      logSeverityLevel: 4,
      ...(spins ? {} : { extra: { session: { intra_op: { allow_spinning: '0' } } } }),
      ...(threads === undefined ? {} : { intraOpNumThreads: threads }),
    });
  } catch (error) {
    throw toIsthmusError(error, 'runtime/load-failed', 'onnxruntime-node cannot load the training step');
  }
}

async function run(
  session: InferenceSession,
  feeds: Record<string, OrtTensor>,
): Promise<InferenceSession.ReturnType> {
  // A model declares only the inputs that it needs, and takes no others.
  const needed = Object.entries(feeds).filter(([name]) => session.inputNames.includes(name));
  try {
    return await session.run(Object.fromEntries(needed));
  } catch (error) {
    throw toIsthmusError(error, 'runtime/run-failed', 'onnxruntime-node cannot run the training step');
  }
}

function vectorTensor(data: Float32Array): OrtTensor {
  return new OrtTensor('float32', data, [data.length]);
}

function stateFeeds(vectors: ReadonlyMap<StateVector, OrtTensor>): Record<string, OrtTensor> {
  return Object.fromEntries([...vectors].map(([vector, tensor]) => [stateNames(vector).before, tensor]));
}

function scalar(value: number): OrtTensor {
  return new OrtTensor('float32', Float32Array.of(value), []);
}

function optimizerFeeds(plan: TrainingPlan, step: number, learningRate: number): Record<string, OrtTensor> {
  const { beta1 = 0.9, beta2 = 0.999 } = plan.optimizer;
  return {
    [optimizerInputs.learningRate]: scalar(learningRate),
    [optimizerInputs.firstCorrection]: scalar(1 / (1 - beta1 ** step)),
    [optimizerInputs.secondCorrection]: scalar(1 / (1 - beta2 ** step)),
  };
}

function toOrtFeeds(feeds: NamedTensors): Record<string, OrtTensor> {
  const values = Object.entries(feeds).map(([name, { type, data, shape }]): [string, OrtTensor] => [
    name,
    new OrtTensor(type, data as Exclude<TensorData, Uint16Array>, shape),
  ]);
  return Object.fromEntries(values);
}

function floatsOf(outputs: InferenceSession.ReturnType, name: string): Float32Array {
  return outputs[name]?.data as Float32Array;
}

function checkFinite(what: string, value: number, step: number): void {
  if (Number.isFinite(value)) return;
  throw new IsthmusError(
    'train/not-finite',
    `The ${what} of step ${step} is ${value}. Take a lower learning rate, a warm-up, or a clipNorm.`,
    { details: { step } },
  );
}

function wrongKind(reason: string): IsthmusError {
  return new IsthmusError('usage/invalid', `The plan ${reason}.`);
}
