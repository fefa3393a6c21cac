import { float32Tensor } from '@isthmus/graph';
import { describe, expect, it } from 'vitest';
import { Draft } from './draft.js';
import { conv2d } from './layers.js';
import { meanSquaredError, softmaxCrossEntropy } from './losses.js';
import type { OptimizerOptions } from './optimizer.js';
import { cosineRate } from './schedule.js';
import { createTrainingState, loadTrainingState, saveTrainingState, stateTensors } from './state.js';
import { buildTrainingStep } from './step.js';
import { seededRandom, uniformValues } from './testing/random.js';
import { loadModel } from './testing/run.js';
import { createTrainer } from './trainer.js';

/** y = x w + b, of which w decays; the gradient of the mean squared error is known in closed form. */
function linearDraft(): { draft: Draft; loss: string } {
  const draft = new Draft();
  const x = draft.input('x', 'float32', [4, 2]);
  const target = draft.input('target', 'float32', [4, 1]);
  const b = draft.parameter('b', float32Tensor([0.1]));
  const w = draft.parameter('w', float32Tensor([0.5, -0.3], [2, 1]));
  const y = draft.node('Add', [draft.node('MatMul', [x, w]), b], {}, { output: 'y' });
  return { draft, loss: meanSquaredError(draft, y, target) };
}

const batch = (seed: number) => ({
  x: float32Tensor(uniformValues(8, seededRandom(seed)), [4, 2]),
  target: float32Tensor(uniformValues(4, seededRandom(seed + 1)), [4, 1]),
});

interface Reference {
  weights: number[];
  average: number[];
  norms: number[];
}

// AdamW over [w0, w1, b] in float64, by its definition.
function reference(batches: ReturnType<typeof batch>[], options: OptimizerOptions, rate: number): Reference {
  const { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0, clipNorm, averageDecay = 0 } = options;
  let weights = [0.5, -0.3, 0.1].map(Math.fround);
  let average = [...weights];
  const first = [0, 0, 0];
  const second = [0, 0, 0];
  const norms: number[] = [];
  batches.forEach(({ x, target }, index) => {
    const gradient = [0, 0, 0];
    for (let row = 0; row < 4; row++) {
      const inputs = [x.data[row * 2] ?? 0, x.data[row * 2 + 1] ?? 0, 1];
      const y = inputs.reduce((sum, value, i) => sum + value * (weights[i] ?? 0), 0);
      inputs.forEach((value, i) => {
        gradient[i] = (gradient[i] ?? 0) + (2 / 4) * (y - (target.data[row] ?? 0)) * value;
      });
    }
    const norm = Math.hypot(...gradient);
    norms.push(norm);
    const scale = clipNorm === undefined ? 1 : Math.min(1, clipNorm / norm);
    weights = weights.map((weight, i) => {
      const g = (gradient[i] ?? 0) * scale;
      const m = beta1 * (first[i] ?? 0) + (1 - beta1) * g;
      const v = beta2 * (second[i] ?? 0) + (1 - beta2) * g * g;
      first[i] = m;
      second[i] = v;
      const step = m / (1 - beta1 ** (index + 1)) / (Math.sqrt(v / (1 - beta2 ** (index + 1))) + epsilon);
      return weight - rate * (step + (i < 2 ? weightDecay * weight : 0));
    });
    average = average.map((value, i) => averageDecay * value + (1 - averageDecay) * (weights[i] ?? 0));
  });
  return { weights, average, norms };
}

const optimizers: OptimizerOptions[] = [
  {},
  { weightDecay: 0.1 },
  { clipNorm: 0.2, averageDecay: 0.9, beta1: 0.8, beta2: 0.99, epsilon: 1e-6 },
];

describe('a training step', () => {
  it.each(optimizers)('is AdamW: %o', async (optimizer) => {
    const { draft, loss } = linearDraft();
    const plan = buildTrainingStep(draft, { loss, optimizer });
    expect(plan.layout.entries.map(({ name, offset }) => [name, offset])).toEqual([
      ['w', 0],
      ['b', 2],
    ]);
    const trainer = await createTrainer(plan, { state: createTrainingState(plan, draft), threads: 1 });
    const batches = [1, 5, 9, 13].map(batch);
    const expected = reference(batches, optimizer, 0.05);
    for (const [index, feeds] of batches.entries()) {
      const { gradientNorm } = await trainer.step(feeds, { learningRate: 0.05 });
      expect(gradientNorm).toBeCloseTo(expected.norms[index] ?? 0, 5);
    }
    expect(trainer.state.step).toBe(4);
    const { weights, average } = trainer.state.vectors;
    expected.weights.forEach((value, index) => {
      expect(weights?.[index]).toBeCloseTo(value, 5);
    });
    if (optimizer.averageDecay === undefined) expect(average).toBeUndefined();
    else
      expected.average.forEach((value, index) => {
        expect(average?.[index]).toBeCloseTo(value, 5);
      });
    await trainer.release();
  });

  it('of two batches accumulated is that of their mean gradient', async () => {
    const { draft, loss } = linearDraft();
    const optimizer = { weightDecay: 0.1, clipNorm: 0.5, averageDecay: 0.5 };
    const whole = buildTrainingStep(draft, { loss, optimizer });
    const parts = buildTrainingStep(draft, { loss, optimizer, accumulates: true });
    const one = await createTrainer(whole, { state: createTrainingState(whole, draft), threads: 1 });
    const many = await createTrainer(parts, { state: createTrainingState(parts, draft), threads: 1 });
    // The same batch twice has the mean gradient of one; the sum must be empty again the second time.
    for (const seed of [1, 5]) {
      const { loss: expected } = await one.step(batch(seed), { learningRate: 0.05 });
      for (const feeds of [batch(seed), batch(seed)]) {
        expect((await many.accumulate(feeds)).loss).toBeCloseTo(expected, 6);
      }
      await many.apply({ learningRate: 0.05 });
    }
    expect(many.state.step).toBe(2);
    for (const [name, values] of Object.entries(one.state.vectors)) {
      const others = many.state.vectors[name as 'weights'];
      values.forEach((value, index) => {
        expect(others?.[index]).toBeCloseTo(value, 5);
      });
    }
    await expect(many.apply({ learningRate: 0.05 })).rejects.toMatchObject({ code: 'usage/invalid' });
    await expect(many.step(batch(1), { learningRate: 0.05 })).rejects.toMatchObject({
      code: 'usage/invalid',
    });
    await expect(one.accumulate(batch(1))).rejects.toMatchObject({ code: 'usage/invalid' });
    await Promise.all([one.release(), many.release()]);
  });

  it('hands out metrics, and leaves the draft as it was', async () => {
    const { draft, loss } = linearDraft();
    const numSteps = draft.steps.length;
    const plan = buildTrainingStep(draft, { loss, metrics: { prediction: 'y' } });
    expect(draft.steps.length).toBe(numSteps);
    const trainer = await createTrainer(plan, { state: createTrainingState(plan, draft), threads: 1 });
    const { metrics } = await trainer.step(batch(1), { learningRate: 0 });
    const run = await loadModel(draft.build(['y'], stateTensors(trainer.state)));
    expect(metrics.prediction).toEqual((await run(batch(1))).y);
    await trainer.release();
  });

  it('does not take a state that is no number any more', async () => {
    const { draft, loss } = linearDraft();
    const plan = buildTrainingStep(draft, { loss });
    const trainer = await createTrainer(plan, { state: createTrainingState(plan, draft), threads: 1 });
    const feeds = batch(1);
    feeds.target.data[0] = Number.POSITIVE_INFINITY;
    await expect(trainer.step(feeds, { learningRate: 0.1 })).rejects.toMatchObject({
      code: 'train/not-finite',
    });
    expect(trainer.state).toEqual(createTrainingState(plan, draft));
    await trainer.release();
  });

  it('is not taken while another one is', async () => {
    const { draft, loss } = linearDraft();
    const plan = buildTrainingStep(draft, { loss });
    const trainer = await createTrainer(plan, { state: createTrainingState(plan, draft), threads: 1 });
    const first = trainer.step(batch(1), { learningRate: 0.1 });
    await expect(trainer.step(batch(2), { learningRate: 0.1 })).rejects.toMatchObject({
      code: 'usage/invalid',
    });
    await first;
    await trainer.step(batch(2), { learningRate: 0.1 });
    expect(trainer.state.step).toBe(2);
    await trainer.release();
  });

  it('leaves a state that was read as it is', async () => {
    const { draft, loss } = linearDraft();
    const plan = buildTrainingStep(draft, { loss });
    const start = createTrainingState(plan, draft);
    const trainer = await createTrainer(plan, { state: start, threads: 1, spins: true });
    const copies = [structuredClone(start)];
    const states = [start];
    for (const seed of [1, 2, 3]) {
      await trainer.step(batch(seed), { learningRate: 0.1 });
      states.push(trainer.state);
      copies.push(structuredClone(trainer.state));
    }
    expect(states).toEqual(copies);
    expect(states[3]?.vectors.weights).not.toEqual(states[2]?.vectors.weights);
    await trainer.release();
  });

  it('refuses options out of range', () => {
    const { draft, loss } = linearDraft();
    for (const optimizer of [{ beta1: 1 }, { clipNorm: 0 }, { weightDecay: -1 }, { averageDecay: 1 }]) {
      expect(() => buildTrainingStep(draft, { loss, optimizer })).toThrow(
        expect.objectContaining({ code: 'usage/invalid' }),
      );
    }
    expect(() => buildTrainingStep(new Draft(), { loss })).toThrow();
  });
});

describe('a saved state', () => {
  it('goes on where it was, bit for bit', async () => {
    const { draft, loss } = linearDraft();
    const plan = buildTrainingStep(draft, { loss, optimizer: { averageDecay: 0.9 } });
    const start = createTrainingState(plan, draft);
    const straight = await createTrainer(plan, { state: start, threads: 1 });
    const broken = await createTrainer(plan, { state: start, threads: 1 });
    for (const seed of [1, 2, 3]) {
      await straight.step(batch(seed), { learningRate: 0.1 });
      await broken.step(batch(seed), { learningRate: 0.1 });
    }
    const loaded = loadTrainingState(plan, saveTrainingState(broken.state));
    expect(loaded).toEqual(broken.state);
    const resumed = await createTrainer(plan, { state: loaded, threads: 1 });
    for (const seed of [4, 5, 6]) {
      await straight.step(batch(seed), { learningRate: 0.1 });
      await resumed.step(batch(seed), { learningRate: 0.1 });
    }
    expect(resumed.state).toEqual(straight.state);
    await Promise.all([straight.release(), broken.release(), resumed.release()]);
  });

  it('is refused by another training', () => {
    const { draft, loss } = linearDraft();
    const plan = buildTrainingStep(draft, { loss });
    const saved = saveTrainingState(createTrainingState(plan, draft));
    const averaging = buildTrainingStep(draft, { loss, optimizer: { averageDecay: 0.9 } });
    expect(() => loadTrainingState(averaging, saved)).toThrow(
      expect.objectContaining({ code: 'train/state-invalid' }),
    );
    const other = new Draft();
    const p = other.parameter('w', float32Tensor([1, 2, 3]));
    const q = other.parameter('b', float32Tensor([1]));
    const sum = other.node('ReduceSumSquare', [other.node('Mul', [p, q])], { keepdims: 0 });
    expect(() => loadTrainingState(buildTrainingStep(other, { loss: sum }), saved)).toThrow(/\[2,1\]/);
    expect(() => loadTrainingState(plan, saved.subarray(0, 40))).toThrow(
      expect.objectContaining({ code: 'train/state-invalid' }),
    );
  });
});

describe('training', () => {
  it('learns eight pictures by heart', async () => {
    const random = seededRandom(11);
    const draft = new Draft();
    const x = draft.input('x', 'float32', [8, 3, 8, 8]);
    const labels = draft.input('labels', 'float32', [8, 4]);
    const hidden = draft.node('Relu', [
      conv2d(draft, x, { name: 'a', channels: 8, kernel: 3, stride: 2, random }),
    ]);
    const deeper = draft.node('Relu', [
      conv2d(draft, hidden, { name: 'b', channels: 16, kernel: 3, stride: 2, random }),
    ]);
    const logits = conv2d(draft, draft.node('GlobalAveragePool', [deeper]), {
      ...{ name: 'c', channels: 4, kernel: 1 },
      random,
    });
    const flat = draft.node('Flatten', [logits]);
    const loss = softmaxCrossEntropy(draft, flat, labels);
    const plan = buildTrainingStep(draft, { loss, optimizer: { clipNorm: 5 } });
    const trainer = await createTrainer(plan, { state: createTrainingState(plan, draft), threads: 1 });
    const feeds = {
      x: float32Tensor(uniformValues(8 * 3 * 64, random), [8, 3, 8, 8]),
      labels: float32Tensor(
        Array.from({ length: 32 }, (_, index) => ((index >> 2) % 4 === index % 4 ? 1 : 0)),
        [8, 4],
      ),
    };
    const schedule = { peakRate: 0.02, numSteps: 150, numWarmupSteps: 5 };
    const losses: number[] = [];
    for (let step = 0; step < schedule.numSteps; step++) {
      const { loss: value } = await trainer.step(feeds, { learningRate: cosineRate(schedule, step) });
      losses.push(value);
    }
    expect(losses[0]).toBeGreaterThan(1);
    expect(losses.at(-1)).toBeLessThan(0.05);
    await trainer.release();
  });
});
