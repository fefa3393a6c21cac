import { createTensor } from '@isthmus/core';
import { type CutTransform, createGraphBuilder, float32Tensor } from '@isthmus/graph';
import { describe, expect, it } from 'vitest';
import { Draft } from '../draft.js';
import { addGradients } from '../gradients.js';
import { seededRandom } from '../testing/random.js';
import { loadModel } from '../testing/run.js';
import { bottleneck } from './bottleneck.js';
import { addDivergence } from './distortion.js';
import { latentFront } from './fronts.js';
import { exportCodec } from './networks.js';
import { learningRateAt, type Phase, phaseAt } from './phases.js';
import { addQuantizer } from './quantizer.js';
import { addRate } from './rate.js';
import { draftCodecTraining } from './training-draft.js';
import { trainingInputs } from './training-inputs.js';
import { countComponents } from './transform-kernels.js';

const normal = (random: () => number): number =>
  Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

/** A rotation of blocks of 2 × 2 positions of 3 channels: its inverse is its transpose. */
function rotation(): CutTransform {
  const size = 12;
  const random = seededRandom(3);
  const rows: Float64Array[] = [];
  for (let k = 0; k < size; k++) {
    const row = Float64Array.from({ length: size }, () => normal(random));
    for (const other of rows) {
      const along = row.reduce((sum, value, i) => sum + value * (other[i] ?? 0), 0);
      row.forEach((value, i) => {
        row[i] = value - along * (other[i] ?? 0);
      });
    }
    const length = Math.hypot(...row);
    rows.push(row.map((value) => value / length));
  }
  const forward = Float64Array.from(rows.flatMap((row) => [...row]));
  const backward = forward.map((_, at) => rows[at % size]?.[Math.floor(at / size)] ?? 0);
  const variances = Float64Array.from({ length: size }, (_, k) => 4 / (k + 1) ** 2);
  return {
    tensor: { name: 'maps', type: 'float32', shape: [1, 3, 6, 4], batched: true, asInput: '', asOutput: '' },
    layout: { channels: 3, height: 6, width: 4, channelsLast: false, block: 2 },
    transform: { numComponents: size, isDiagonal: false, forward, backward, variances },
    means: Float64Array.of(0.5, -1, 2),
    low: undefined,
    high: undefined,
  };
}

const maps = (seed: number): Float32Array => {
  const random = seededRandom(seed);
  return Float32Array.from({ length: 72 }, () => normal(random));
};

describe('a bottleneck', () => {
  it('gives back what it takes before it is trained, from every draft', async () => {
    const architecture = bottleneck({ start: rotation(), numComponents: 12, random: seededRandom(1) });
    expect(architecture.latentShape).toEqual([1, 12, 3, 2]);
    const { encoder, decoder } = exportCodec(architecture, new Map());
    const [encode, decode] = [await loadModel(encoder), await loadModel(decoder)];
    const x = maps(5);
    const { latent = new Float32Array() } = await encode({ maps: createTensor('float32', [1, 3, 6, 4], x) });
    const deviation = Math.sqrt(latent.reduce((sum, value) => sum + value * value, 0) / latent.length);
    expect(deviation).toBeGreaterThan(0.5);
    const feeds = { latent: float32Tensor(latent, [1, 12, 3, 2]), level: float32Tensor([0.3]) };
    const { maps: out = [] } = await decode(feeds);
    x.forEach((value, index) => {
      expect(out[index]).toBeCloseTo(value, 4);
    });
  });

  it('may be of a tensor with a name such as drafts give', async () => {
    const start = rotation();
    const names = (name: string): readonly string[] => {
      const named = { ...start, tensor: { ...start.tensor, name } };
      const architecture = bottleneck({ start: named, numComponents: 12, random: seededRandom(1) });
      return exportCodec(architecture, new Map()).decoder.graph?.node.flatMap(({ output }) => output) ?? [];
    };
    const given = names('maps').filter((name) => /_\d+$/.test(name));
    expect(given.length).toBeGreaterThan(5);
    for (const name of given) expect(names(name).filter((other) => other === name)).toHaveLength(1);
  });

  it('keeps the components that are large enough, and at least one', () => {
    // Standard deviations of 2 / (k + 1), of which all together have a root mean square of 0.72.
    expect(countComponents(rotation(), 1)).toBe(2);
    expect(countComponents(rotation(), 0.01)).toBe(12);
    expect(countComponents(rotation(), 100)).toBe(1);
  });
});

describe('the estimated rate', () => {
  // Bits of Gaussian numbers of that deviation, rounded to a step.
  async function bitsAt(step: number, deviation: number): Promise<number> {
    const shape = [1, 1, 64, 64];
    const draft = new Draft();
    const latent = draft.input('latent', 'float32', shape);
    const inputs = {
      step: draft.input('step', 'float32', [1, 1, 1, 1]),
      noise: draft.input('noise', 'float32', shape),
      hardness: draft.input('hardness', 'float32', [1]),
    };
    const quantized = addQuantizer(draft, latent, inputs);
    const rate = addRate(draft, quantized, 'step', [deviation]);
    const zeros = draft.parameters.map(({ name, tensor }): [string, typeof tensor] => [name, tensor]);
    const run = await loadModel(draft.build([rate], new Map(zeros)));
    const random = seededRandom(9);
    const values = Float32Array.from({ length: 4096 }, () => deviation * normal(random));
    const { [rate]: bits } = await run({
      latent: createTensor('float32', shape, values),
      step: float32Tensor([step], [1, 1, 1, 1]),
      noise: createTensor(
        'float32',
        shape,
        values.map(() => random() - 0.5),
      ),
      hardness: float32Tensor([1]),
    });
    return (bits?.[0] ?? 0) / values.length;
  }

  it('is near the entropy of a Gaussian source, and falls by a bit with every doubling of a fine step', async () => {
    const [fine, coarse] = [await bitsAt(0.05, 1), await bitsAt(0.1, 1)];
    expect(fine - coarse).toBeCloseTo(1, 1);
    // ½·log2(2πe) − log2(step), and what an untrained logistic distribution misses.
    const entropy = 0.5 * Math.log2(2 * Math.PI * Math.E) - Math.log2(0.05);
    expect(fine).toBeGreaterThan(entropy - 0.05);
    expect(fine).toBeLessThan(entropy + 0.4);
    expect(await bitsAt(40, 1)).toBeLessThan(0.1);
  });
});

describe('the quantizer in training', () => {
  it('rounds towards zero below 0.6 steps, or adds noise, and lets gradients through', async () => {
    const draft = new Draft();
    const shape = [1, 5, 1, 1];
    const latent = draft.input('latent', 'float32', shape);
    const { decoded, integers } = addQuantizer(draft, latent, {
      step: draft.input('step', 'float32', [1, 1, 1, 1]),
      noise: draft.input('noise', 'float32', shape),
      hardness: draft.input('hardness', 'float32', [1]),
    });
    const loss = draft.node('ReduceSumSquare', [decoded], { keepdims: 0 });
    const slope = addGradients(draft, { loss, of: [latent] }).get(latent) ?? '';
    const run = await loadModel(draft.build([decoded, integers, slope]));
    const feeds = {
      latent: float32Tensor([0, 1.1, -1.3, 2.3, -9], shape),
      step: float32Tensor([2], [1, 1, 1, 1]),
      noise: float32Tensor([0.1, 0.2, 0.3, -0.4, -0.5], shape),
    };
    const hard = await run({ ...feeds, hardness: float32Tensor([1]) });
    expect([...(hard[integers] ?? [])].map((value) => value + 0)).toEqual([0, 0, -1, 1, -4]);
    expect([...(hard[decoded] ?? [])].map((value) => value + 0)).toEqual([0, 0, -2, 2, -8]);
    expect([...(hard[slope] ?? [])].map((value) => value + 0)).toEqual([0, 0, -4, 4, -16]);
    const soft = await run({ ...feeds, hardness: float32Tensor([0]) });
    [0.2, 1.5, -0.7, 1.5, -10].forEach((value, index) => {
      expect(soft[decoded]?.[index]).toBeCloseTo(value, 5);
    });
  });
});

describe('the divergence', () => {
  it('is the same of logits and of their probabilities, and zero of what is the same', async () => {
    const [teacher, student] = [
      [1, 2, 0.5, -1, 0, 3],
      [0, 2, 1, 2, 0.5, -1],
    ];
    const softmax = (x: readonly number[]): number[] => {
      const powers = x.map(Math.exp);
      const sum = powers.reduce((a, b) => a + b, 0);
      return powers.map((value) => value / sum);
    };
    const byFrame = (x: readonly number[]): number[] => [...softmax(x.slice(0, 3)), ...softmax(x.slice(3))];
    const divergence = async (kind: 'logits' | 'probabilities', a: number[], b: number[]) => {
      const draft = new Draft();
      const [x, y] = [draft.input('x', 'float32', [2, 3]), draft.input('y', 'float32', [2, 3])];
      const output = addDivergence(draft, kind, x, y);
      const run = await loadModel(draft.build([output]));
      return (await run({ x: float32Tensor(a, [2, 3]), y: float32Tensor(b, [2, 3]) }))[output] ?? [];
    };
    const [p, q] = [byFrame(teacher ?? []), byFrame(student ?? [])];
    const exact = [0, 1].map((frame) =>
      p.slice(3 * frame, 3 * frame + 3).reduce((sum, value, i) => {
        return sum + value * Math.log(value / (q[3 * frame + i] ?? 0));
      }, 0),
    );
    const ofLogits = await divergence('logits', teacher ?? [], student ?? []);
    const ofProbabilities = await divergence('probabilities', p, q);
    exact.forEach((value, frame) => {
      expect(ofLogits[frame]).toBeCloseTo(value, 4);
      expect(ofProbabilities[frame]).toBeCloseTo(value, 4);
    });
    // Of what are no probabilities at all, at least a number.
    expect((await divergence('probabilities', teacher ?? [], student ?? [])).every(Number.isFinite)).toBe(
      true,
    );
    for (const value of await divergence('logits', teacher ?? [], teacher ?? [])) {
      expect(value).toBeCloseTo(0, 6);
    }
  });
});

describe('the training graph', () => {
  it('has gradients for every parameter that agree with differences of the loss', async () => {
    const architecture = bottleneck({
      start: rotation(),
      numComponents: 6,
      random: seededRandom(1),
      width: 4,
    });
    const builder = createGraphBuilder({ name: 'tail', opset: 17 });
    const x = builder.input('maps', 'float32', ['batch', 3, 6, 4]);
    const weights = Float32Array.from({ length: 15 }, (_, index) => Math.sin(index));
    const pooled = builder.node('GlobalAveragePool', [builder.node('Tanh', [x])]);
    const flat = builder.node('Flatten', [pooled]);
    builder.node(
      'MatMul',
      [flat, builder.constant('w', float32Tensor(weights, [3, 5]))],
      {},
      { output: 'scores' },
    );
    builder.output('scores', 'float32', ['batch', 5]);
    const target = { name: 'scores', shape: [1, 5], power: 1 };
    const { draft, loss } = draftCodecTraining({
      front: latentFront(architecture),
      batchSize: 2,
      tail: builder.build(),
      decoded: { name: 'maps', shape: [1, 3, 6, 4], power: 1.5 },
      later: [],
      outputs: [{ ...target, kind: 'logits' }],
    });
    const names = draft.parameters.map(({ name }) => name);
    const gradients = addGradients(draft, { loss, of: names });
    const run = await loadModel(draft.build([loss, ...gradients.values()]));
    const random = seededRandom(4);
    const start = new Map(
      draft.parameters.map(({ name, tensor }) => [
        name,
        float32Tensor(
          tensor.data.map((value) => value + 0.05 * normal(random)),
          tensor.shape,
        ),
      ]),
    );
    const feeds = {
      [trainingInputs.features]: float32Tensor([...maps(1), ...maps(2)], [2, 3, 6, 4]),
      [trainingInputs.step]: float32Tensor([0.2, 0.5], [2, 1, 1, 1]),
      [trainingInputs.level]: float32Tensor([0, 1], [2, 1, 1, 1]),
      // Noise in place of rounding: differences need what is differentiable.
      [trainingInputs.noise]: float32Tensor(
        Array.from({ length: 72 }, () => random() - 0.5),
        [2, 6, 3, 2],
      ),
      [trainingInputs.hardness]: float32Tensor([0]),
      [trainingInputs.weights]: float32Tensor([0, 1, 0, 3, 0, 2, 0, 1], [2, 4]),
      [trainingInputs.target('scores')]: float32Tensor(
        Array.from({ length: 10 }, () => normal(random)),
        [2, 5],
      ),
    };
    const at = async (scale: number) => {
      const moved = [...start].map(([name, { data, shape }]) => [
        name,
        float32Tensor(
          data.map((value, i) => value + scale * Math.sin(i + name.length)),
          shape,
        ),
      ]);
      return run({ ...feeds, ...Object.fromEntries(moved) });
    };
    const here = await at(0);
    const slope = [...gradients].reduce((sum, [name, gradient]) => {
      const part = here[gradient] ?? new Float32Array();
      return sum + part.reduce((total, value, i) => total + value * Math.sin(i + name.length), 0);
    }, 0);
    const size = 1e-3;
    const [before, after] = [await at(-size), await at(size)];
    const difference = ((after[loss]?.[0] ?? 0) - (before[loss]?.[0] ?? 0)) / (2 * size);
    expect(Math.abs(slope)).toBeGreaterThan(1e-3);
    expect(difference / slope).toBeCloseTo(1, 1);
  });
});

describe('phases', () => {
  it('follow each other, and learning fades', () => {
    const phases: Phase[] = [
      { until: 0.2, hardness: 0, rateFactor: 0.5 },
      { until: 1, hardness: 1, rateFactor: 1 },
    ];
    const seen = Array.from({ length: 10 }, (_, step) => phaseAt(phases, step, 10).hardness);
    expect(seen).toEqual([0, 0, 1, 1, 1, 1, 1, 1, 1, 1]);
    const rates = Array.from({ length: 200 }, (_, step) => learningRateAt(1, step, 200));
    expect(Math.max(...rates)).toBe(rates[10]);
    expect(rates.at(-1)).toBeCloseTo(0.02, 5);
    expect(learningRateAt(1, 0, 1)).toBeGreaterThan(0);
  });
});
