import { float32Tensor } from '@isthmus/graph';
import { describe, expect, it } from 'vitest';
import { Draft } from './draft.js';
import { gdn, lowerBound } from './gdn.js';
import { addGradients } from './gradients.js';
import {
  addNoise,
  conv2d,
  convTranspose2d,
  pixelShuffle,
  residualBlock,
  roundStraightThrough,
} from './layers.js';
import { meanSquaredError, softmaxCrossEntropy } from './losses.js';
import { expectGradients } from './testing/differences.js';
import { seededRandom, uniformValues } from './testing/random.js';
import { loadModel } from './testing/run.js';

const random = seededRandom(3);

describe('layers', () => {
  it.each([
    { kernel: 5, stride: 2, size: [9, 12], result: [5, 6] },
    { kernel: 3, stride: 1, size: [4, 6], result: [4, 6] },
    { kernel: 1, stride: 1, size: [4, 6], result: [4, 6] },
  ])('a convolution divides the size by the stride, rounded up: $kernel / $stride', (options) => {
    const draft = new Draft();
    const x = draft.input('x', 'float32', [1, 3, ...options.size]);
    const y = conv2d(draft, x, { name: 'c', channels: 4, random, ...options });
    expect(draft.shapeOf(y)).toEqual([1, 4, ...options.result]);
    expect(draft.parameters.map(({ name }) => name)).toEqual(['c.weight', 'c.bias']);
  });

  it.each([
    { kernel: 5, stride: 2 },
    { kernel: 4, stride: 2 },
    { kernel: 3, stride: 1 },
  ])('a transposed convolution multiplies the size by the stride: %o', (options) => {
    const draft = new Draft();
    const x = draft.input('x', 'float32', [1, 3, 5, 6]);
    const y = convTranspose2d(draft, x, { name: 'c', channels: 4, random, ...options });
    expect(draft.shapeOf(y)).toEqual([1, 4, 5 * options.stride, 6 * options.stride]);
  });

  it('the others keep or exchange sizes as they say', () => {
    const draft = new Draft();
    const x = draft.input('x', 'float32', [1, 8, 4, 6]);
    expect(draft.shapeOf(residualBlock(draft, x, { name: 'r', random }))).toEqual([1, 8, 4, 6]);
    expect(draft.shapeOf(pixelShuffle(draft, x, 2))).toEqual([1, 2, 8, 12]);
    expect(draft.shapeOf(addNoise(draft, roundStraightThrough(draft, x), 'noise'))).toEqual([1, 8, 4, 6]);
    expect(draft.inputs).toEqual(['x', 'noise']);
  });
});

describe('gdn', () => {
  const gammas = [0.3, 0.1, 0.05, 0.2].map(Math.sqrt);
  const betas = [1, 0.5].map(Math.sqrt);
  const data = { shape: [2, 2, 2, 2], values: uniformValues(16, random, -2, 2) };

  // What it is by definition, in float64.
  function expected(inverse: boolean): number[] {
    return Array.from({ length: 16 }, (_, index) => {
      const [batch, channel, place] = [index >> 3, (index >> 2) & 1, index & 3];
      const at = (j: number): number => data.values[batch * 8 + j * 4 + place] ?? 0;
      const energy = [0, 1].reduce(
        (sum, j) => sum + ((gammas[channel * 2 + j] ?? 0) * at(j)) ** 2,
        (betas[channel] ?? 0) ** 2,
      );
      return inverse ? at(channel) * Math.sqrt(energy) : at(channel) / Math.sqrt(energy);
    });
  }

  it.each([false, true])('is what it is by definition (inverse: %s)', async (inverse) => {
    const draft = new Draft();
    const y = gdn(draft, draft.input('x', 'float32', data.shape), { name: 'g', inverse });
    const run = await loadModel(draft.build([y]));
    const found = await run({
      x: float32Tensor(data.values, data.shape),
      'g.gamma': float32Tensor(gammas, [2, 2, 1, 1]),
      'g.beta': float32Tensor(betas),
    });
    expected(inverse).forEach((value, index) => {
      expect(found[y]?.[index]).toBeCloseTo(value, 4);
    });
  });

  it.each([false, true])('has its gradient (inverse: %s)', async (inverse) => {
    await expectGradients({ x: data }, (draft) => gdn(draft, 'x', { name: 'g', inverse }), {
      parameters: { 'g.gamma': gammas, 'g.beta': betas },
    });
  });

  it('stays finite where its parameters have fallen below their bounds', async () => {
    const draft = new Draft();
    const x = draft.input('x', 'float32', [1, 2, 1, 1]);
    const y = gdn(draft, x, { name: 'g' });
    const loss = draft.node('ReduceSumSquare', [y], { keepdims: 0 });
    const gradients = addGradients(draft, { loss, of: [x, 'g.beta', 'g.gamma'] });
    const run = await loadModel(draft.build([y, ...gradients.values()]));
    const found = await run({
      x: float32Tensor([0, 1e-3], [1, 2, 1, 1]),
      'g.gamma': float32Tensor([-1, -1, -1, -1], [2, 2, 1, 1]),
      'g.beta': float32Tensor([-1, -1]),
    });
    for (const values of Object.values(found)) expect(values.every(Number.isFinite)).toBe(true);
    // The loss falls as beta rises: the gradient leads back, and passes.
    expect(found[gradients.get('g.beta') ?? '']?.[1]).toBeLessThan(0);
  });

  it('lowerBound holds back what would lead further down', async () => {
    const draft = new Draft();
    const x = draft.input('x', 'float32', [3]);
    const slopes = draft.input('slopes', 'float32', [3]);
    const loss = draft.node('ReduceSum', [draft.node('Mul', [lowerBound(draft, x, 1), slopes])], {
      keepdims: 0,
    });
    const gradient = addGradients(draft, { loss, of: [x] }).get(x) ?? '';
    const run = await loadModel(draft.build([gradient]));
    const found = await run({ x: float32Tensor([0, 0, 2]), slopes: float32Tensor([3, -3, 3]) });
    expect(found[gradient]).toEqual(Float32Array.of(0, -3, 3));
  });
});

describe('losses', () => {
  it('have their gradients', async () => {
    await expectGradients({ a: { shape: [2, 3] }, b: { shape: [2, 3] } }, (draft) =>
      meanSquaredError(draft, 'a', 'b'),
    );
    await expectGradients({ logits: { shape: [2, 3] } }, (draft) => {
      const targets = draft.constant(float32Tensor([0, 1, 0, 0.5, 0, 0.5], [2, 3]));
      return softmaxCrossEntropy(draft, 'logits', targets);
    });
  });

  it('are the means that they say', async () => {
    const draft = new Draft();
    draft.input('a', 'float32', [2, 2]);
    draft.input('b', 'float32', [2, 2]);
    const names = [meanSquaredError(draft, 'a', 'b'), softmaxCrossEntropy(draft, 'a', 'b')];
    const run = await loadModel(draft.build(names));
    const found = await run({
      a: float32Tensor([0, 0, 4, 4], [2, 2]),
      b: float32Tensor([1, 0, 0, 1], [2, 2]),
    });
    expect(found[names[0] ?? '']?.[0]).toBeCloseTo((1 + 0 + 16 + 9) / 4);
    expect(found[names[1] ?? '']?.[0]).toBeCloseTo(Math.LN2);
  });
});
