import { float32Tensor, type ModelProto, readTensor } from '@isthmus/graph';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { frozenBatchNorm } from './batch-norm.js';
import { Draft } from './draft.js';
import { foldBatchNorms } from './fold-batch-norm.js';
import { conv2d } from './layers.js';
import { seededRandom, uniformValues } from './testing/random.js';
import { loadModel } from './testing/run.js';

const operators = (model: ModelProto): string[] => model.graph?.node.map(({ opType }) => opType) ?? [];

/** Weights for everything a draft carries; scales of both signs, variances above 0.05. */
function drawn(draft: Draft, random: () => number): Map<string, ReturnType<typeof float32Tensor>> {
  return new Map(
    [...draft.parameters, ...draft.statistics].map(({ name, tensor }) => {
      const [low, high] = name.endsWith('.variance') ? [0.05, 3] : [-1.5, 1.5];
      return [name, float32Tensor(uniformValues(tensor.data.length, random, low, high), tensor.shape)];
    }),
  );
}

describe('foldBatchNorms', () => {
  it('gives a model without them that answers the same', async () => {
    const options = fc.record({
      seed: fc.nat(),
      channels: fc.integer({ min: 1, max: 6 }),
      kernel: fc.constantFrom(1, 3),
      stride: fc.constantFrom(1, 2),
      bias: fc.boolean(),
      isDepthwise: fc.boolean(),
      epsilon: fc.constantFrom(1e-5, 1e-3, 0.1),
    });
    await fc.assert(
      fc.asyncProperty(options, async ({ seed, isDepthwise, epsilon, ...rest }) => {
        const random = seededRandom(seed % 1000);
        const draft = new Draft();
        const x = draft.input('x', 'float32', [2, 4, 5, 6]);
        const shared = { name: 'c', random, ...rest };
        const conv = conv2d(draft, x, isDepthwise ? { ...shared, group: 4, channels: 4 } : shared);
        const first = draft.node('Relu', [frozenBatchNorm(draft, conv, { name: 'bn', epsilon })]);
        const second = conv2d(draft, first, { name: 'd', channels: 3, kernel: 1, random });
        const y = draft.node('Tanh', [frozenBatchNorm(draft, second, { name: 'dn' })]);
        const model = draft.build([y], drawn(draft, random));
        const before = operators(model);
        const folded = foldBatchNorms(model);
        expect(operators(folded)).toEqual(['Conv', 'Relu', 'Conv', 'Tanh']);
        expect(operators(model)).toEqual(before);
        const feeds = { x: float32Tensor(uniformValues(240, random), [2, 4, 5, 6]) };
        const expected = (await (await loadModel(model))(feeds))[y] ?? new Float32Array();
        const found = (await (await loadModel(folded))(feeds))[y] ?? new Float32Array();
        expect(found.length).toBe(expected.length);
        found.forEach((value, index) => {
          expect(Math.abs(value - (expected[index] ?? Number.NaN))).toBeLessThan(2e-5);
        });
      }),
      { numRuns: 25 },
    );
  });

  it('has the weights and biases that one computes by hand', () => {
    const draft = new Draft();
    const x = draft.input('x', 'float32', [1, 1, 1, 1]);
    const conv = conv2d(draft, x, { name: 'c', channels: 2, kernel: 1, random: () => 0.5 });
    const y = frozenBatchNorm(draft, conv, { name: 'bn', epsilon: 0 });
    const weights = new Map([
      ['c.weight', float32Tensor([3, -2], [2, 1, 1, 1])],
      ['c.bias', float32Tensor([1, 0.5])],
      ['bn.scale', float32Tensor([4, 1])],
      ['bn.bias', float32Tensor([0.25, -1])],
      ['bn.mean', float32Tensor([2, -1])],
      ['bn.variance', float32Tensor([4, 0.25])],
    ]);
    const { graph } = foldBatchNorms(draft.build([y], weights));
    const [weight, bias] = graph?.node[0]?.input.slice(1) ?? [];
    const valuesOf = (name: string | undefined): number[] => {
      const proto = graph?.initializer.find((candidate) => candidate.name === name);
      return proto === undefined ? [] : [...(readTensor(proto).data as Float32Array)];
    };
    // Slopes 4/2 and 1/½: 2·3, 2·(1 − 2) + ¼; 2·(−2), 2·(½ + 1) − 1.
    expect(valuesOf(weight)).toEqual([6, -4]);
    expect(valuesOf(bias)).toEqual([-1.75, 2]);
  });

  it('leaves alone what something else reads too, and what no convolution makes', () => {
    const draft = new Draft();
    const random = seededRandom(1);
    const x = draft.input('x', 'float32', [1, 2, 4, 4]);
    const conv = conv2d(draft, x, { name: 'c', channels: 2, kernel: 1, random });
    const read = draft.node('Add', [frozenBatchNorm(draft, conv, { name: 'a' }), conv]);
    const pooled = draft.node('MaxPool', [read], { kernel_shape: [2, 2], strides: [2, 2] });
    const y = frozenBatchNorm(draft, pooled, { name: 'b' });
    const model = draft.build([y], drawn(draft, random));
    expect(operators(foldBatchNorms(model))).toEqual(operators(model));
    // Not a constant, where the weights are fed.
    const open = draft.build([draft.node('Relu', [frozenBatchNorm(draft, pooled, { name: 'e' })])]);
    expect(operators(foldBatchNorms(open))).toEqual(operators(open));
  });
});
