import type { NamedTensors, Tensor } from '@isthmus/core';
import { float32Tensor } from '@isthmus/graph';
import { describe, expect, it } from 'vitest';
import { batchNorm, frozenBatchNorm } from './batch-norm.js';
import { Draft } from './draft.js';
import { addGradients } from './gradients.js';
import type { OptimizerOptions } from './optimizer.js';
import { createTrainingState, loadTrainingState, saveTrainingState, stateTensors } from './state.js';
import { buildTrainingStep, type TrainingPlan } from './step.js';
import { expectGradients } from './testing/differences.js';
import { seededRandom, uniformValues } from './testing/random.js';
import { loadModel } from './testing/run.js';
import { createTrainer } from './trainer.js';

const random = seededRandom(3);

describe('batchNorm', () => {
  it('has the gradient of its definition, of scale and bias too', async () => {
    await expectGradients(
      { x: { shape: [3, 2, 2, 3] } },
      (draft) => batchNorm(draft, 'x', { name: 'bn' }).output,
    );
    const draft = new Draft();
    const x = draft.input('x', 'float32', [3, 2, 2, 3]);
    const { output } = batchNorm(draft, x, { name: 'bn' });
    const loss = draft.node('ReduceSum', [draft.node('Mul', [output, output])], { keepdims: 0 });
    const gradients = addGradients(draft, { loss, of: ['bn.scale', 'bn.bias'] });
    const names = [gradients.get('bn.scale') ?? '', gradients.get('bn.bias') ?? ''];
    const run = await loadModel(draft.build([...names, output]));
    const feeds = {
      x: float32Tensor(uniformValues(36, random), [3, 2, 2, 3]),
      'bn.scale': float32Tensor([2, 0.5]),
      'bn.bias': float32Tensor([0.3, -1]),
    };
    const found = await run(feeds);
    // Standardized values have mean 0 and mean square 1: of Σ (s z + b)², these are 2 s n and 2 b n.
    const [scale, bias] = names.map((name) => found[name]);
    [2 * 2 * 18, 2 * 0.5 * 18].forEach((value, index) => {
      expect(scale?.[index]).toBeCloseTo(value, 1);
    });
    [2 * 0.3 * 18, -2 * 18].forEach((value, index) => {
      expect(bias?.[index]).toBeCloseTo(value, 3);
    });
  });

  it('gives the mean and the variance of the batch', async () => {
    const draft = new Draft();
    const x = draft.input('x', 'float32', [2, 1, 1, 2]);
    const { mean, variance } = batchNorm(draft, x, { name: 'bn' });
    const run = await loadModel(draft.build([mean, variance]));
    const found = await run({ x: float32Tensor([1, 3, 5, 7], [2, 1, 1, 2]) });
    expect(found[mean]).toEqual(Float32Array.of(4));
    expect(found[variance]).toEqual(Float32Array.of(5));
  });
});

const shape = [2, 1, 1, 2];

/** A batch of four numbers of one channel, normalized; the loss pulls towards a target. */
function normalizing(normalize: (draft: Draft, x: string) => string): { draft: Draft; loss: string } {
  const draft = new Draft();
  const x = draft.input('x', 'float32', shape);
  const target = draft.input('target', 'float32', shape);
  const y = normalize(draft, x);
  const loss = draft.node('ReduceSumSquare', [draft.node('Sub', [y, target])], { keepdims: 0 });
  return { draft, loss };
}

const trained = (): ReturnType<typeof normalizing> =>
  normalizing((draft, x) => batchNorm(draft, x, { name: 'bn' }).output);

const feeds = (...values: number[]): NamedTensors => ({
  x: float32Tensor(values, shape),
  target: float32Tensor([0.5, -1, 2, 0.25], shape),
});

function planOf(optimizer: OptimizerOptions, accumulates = false): { plan: TrainingPlan; draft: Draft } {
  const { draft, loss } = trained();
  return { plan: buildTrainingStep(draft, { loss, optimizer, accumulates }), draft };
}

function statisticsOf(tensors: ReadonlyMap<string, Tensor<'float32'>>): (number | undefined)[] {
  return ['bn.mean', 'bn.variance'].map((name) => tensors.get(name)?.data[0]);
}

describe('running statistics', () => {
  it('are the exponential averages of what the batches had', async () => {
    const { plan, draft } = planOf({ averageDecay: 0.5 });
    const trainer = await createTrainer(plan, { state: createTrainingState(plan, draft), threads: 1 });
    expect(statisticsOf(stateTensors(trainer.state))).toEqual([0, 1]);
    // Means 4 and 10, variances 5 and 9; by default a tenth of the way each time.
    await trainer.step(feeds(1, 3, 5, 7), { learningRate: 0.1 });
    const [mean, variance] = statisticsOf(stateTensors(trainer.state));
    expect(mean).toBeCloseTo(0.4, 6);
    expect(variance).toBeCloseTo(1.4, 6);
    await trainer.step(feeds(13, 7, 13, 7), { learningRate: 0.1 });
    const [later, laterVariance] = statisticsOf(stateTensors(trainer.state));
    expect(later).toBeCloseTo(1.36, 6);
    expect(laterVariance).toBeCloseTo(2.16, 6);
    // The average of the weights has their average: a quarter of 0, a quarter of 0.4, half of 1.36.
    expect(statisticsOf(stateTensors(trainer.state, 'average'))[0]).toBeCloseTo(0.78, 6);
    await trainer.release();
  });

  it('go as far as they are told to, and the optimizer does not touch them', async () => {
    const { plan, draft } = planOf({ statisticsDecay: 0.25, weightDecay: 0.5, clipNorm: 0.01 });
    const trainer = await createTrainer(plan, { state: createTrainingState(plan, draft), threads: 1 });
    const { gradientNorm } = await trainer.step(feeds(1, 3, 5, 7), { learningRate: 0.1 });
    const [mean, variance] = statisticsOf(stateTensors(trainer.state));
    expect(mean).toBeCloseTo(3, 6);
    expect(variance).toBeCloseTo(4, 6);
    expect(statisticsOf(stateTensors(trainer.state, 'firstMoment'))).toEqual([0, 0]);
    expect(statisticsOf(stateTensors(trainer.state, 'secondMoment'))).toEqual([0, 0]);
    // Of the loss by scale and bias alone: Σ 2 (z − t) z and Σ 2 (z − t), where z = (−3, −1, 1, 3) / √5.
    const z = [-3, -1, 1, 3].map((value) => value / Math.sqrt(5));
    const errors = z.map((value, index) => 2 * (value - ([0.5, -1, 2, 0.25][index] ?? 0)));
    const ofScale = errors.reduce((sum, error, index) => sum + error * (z[index] ?? 0), 0);
    const ofBias = errors.reduce((sum, error) => sum + error, 0);
    expect(gradientNorm).toBeCloseTo(Math.hypot(ofScale, ofBias), 3);
    await trainer.release();
  });

  it('follow the mean of the batches where gradients are accumulated', async () => {
    const { plan, draft } = planOf({}, true);
    const trainer = await createTrainer(plan, { state: createTrainingState(plan, draft), threads: 1 });
    await trainer.accumulate(feeds(1, 3, 5, 7));
    await trainer.accumulate(feeds(13, 7, 13, 7));
    expect(statisticsOf(stateTensors(trainer.state))).toEqual([0, 1]);
    await trainer.apply({ learningRate: 0.1 });
    const [mean, variance] = statisticsOf(stateTensors(trainer.state));
    expect(mean).toBeCloseTo(0.7, 6);
    expect(variance).toBeCloseTo(1.6, 6);
    await trainer.release();
  });

  it('are saved with the weights, bit for bit', async () => {
    const { plan, draft } = planOf({ averageDecay: 0.9 });
    const trainer = await createTrainer(plan, { state: createTrainingState(plan, draft), threads: 1 });
    await trainer.step(feeds(0.1, 0.7, -0.3, 0.9), { learningRate: 0.1 });
    expect(loadTrainingState(plan, saveTrainingState(trainer.state))).toEqual(trainer.state);
    await trainer.release();
  });

  it('refuses to follow what has another shape', () => {
    const draft = new Draft();
    const x = draft.input('x', 'float32', [2]);
    expect(() => draft.statistic('s', float32Tensor([1, 2, 3]), x)).toThrow(
      expect.objectContaining({ code: 'usage/invalid' }),
    );
  });
});

describe('frozenBatchNorm', () => {
  it('answers by the statistics that training came to', async () => {
    const { plan, draft } = planOf({ statisticsDecay: 0 });
    const trainer = await createTrainer(plan, { state: createTrainingState(plan, draft), threads: 1 });
    const values = [1, 3, 5, 7];
    await trainer.step(feeds(...values), { learningRate: 0 });
    const inference = new Draft();
    const y = frozenBatchNorm(inference, inference.input('x', 'float32', shape), { name: 'bn' });
    const run = await loadModel(inference.build([y], stateTensors(trainer.state)));
    // The statistics are those of this very batch: the answer is that of the training form.
    const training = await loadModel(trained().draft.build([batchOutput()]));
    const expected = await training({
      ...feeds(...values),
      'bn.scale': float32Tensor([1]),
      'bn.bias': float32Tensor([0]),
    });
    const found = await run({ x: float32Tensor(values, shape) });
    expected[batchOutput()]?.forEach((value, index) => {
      expect(found[y]?.[index]).toBeCloseTo(value, 5);
    });
    // By hand: (7 − 4) / √5.
    expect(found[y]?.[3]).toBeCloseTo(3 / Math.sqrt(5), 5);
    await trainer.release();
  });

  it('keeps its statistics to the bit when trained on', async () => {
    const { draft, loss } = normalizing((draft, x) => frozenBatchNorm(draft, x, { name: 'bn' }));
    for (const accumulates of [false, true]) {
      const plan = buildTrainingStep(draft, { loss, accumulates });
      const start = createTrainingState(plan, draft);
      const { offset = 0 } = plan.layout.entries.find(({ name }) => name === 'bn.mean') ?? {};
      start.vectors.weights?.set([0.1, 0.7], offset);
      const trainer = await createTrainer(plan, { state: start, threads: 1 });
      for (let step = 0; step < 3; step++) {
        if (!accumulates) await trainer.step(feeds(1, 3, 5, 7), { learningRate: 0.1 });
        else {
          for (let batch = 0; batch < 3; batch++) await trainer.accumulate(feeds(1, 3, 5, 7));
          await trainer.apply({ learningRate: 0.1 });
        }
      }
      const tensors = stateTensors(trainer.state);
      expect(statisticsOf(tensors)).toEqual([0.1, 0.7].map(Math.fround));
      expect(tensors.get('bn.scale')?.data[0]).not.toBe(1);
      await trainer.release();
    }
  });
});

// The name of the output of the training form, which is the same in every draft built alike.
function batchOutput(): string {
  const draft = new Draft();
  draft.input('x', 'float32', shape);
  draft.input('target', 'float32', shape);
  return batchNorm(draft, 'x', { name: 'bn' }).output;
}
