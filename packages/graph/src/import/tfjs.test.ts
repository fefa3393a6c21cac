import { isIsthmusError } from '@isthmus/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { importTfjsLayers, listTfjsFiles } from '../index.js';
import {
  conv2d,
  depthwise2d,
  type Image,
  makeImage,
  mapImage,
  noise,
  noiseImage,
  padImage,
  pixelAt,
  pool2d,
  toNchw,
} from './testing/nhwc.js';
import { countOperators, runModel } from './testing/run.js';

type Weights = Record<string, { shape: number[]; data: Float32Array }>;
interface Layer {
  class_name: string;
  name: string;
  config?: Record<string, unknown>;
  /** Names of layers it follows. @default the one before */
  after?: string[];
}

/** A functional model in the form of TensorFlow.js, with all its weights in one file. */
function functional(size: readonly number[], layers: readonly Layer[], weights: Weights = {}) {
  const input = { class_name: 'InputLayer', name: 'in', config: { batch_input_shape: [null, ...size] } };
  const all = [input, ...layers].map((layer: Layer, index, list) => ({
    class_name: layer.class_name,
    name: layer.name,
    config: { name: layer.name, ...layer.config },
    inbound_nodes:
      index === 0 ? [] : [(layer.after ?? [list[index - 1]!.name]).map((name) => [name, 0, 0, {}])],
  }));
  return {
    modelJson: {
      format: 'layers-model',
      modelTopology: {
        model_config: {
          class_name: 'Functional',
          config: {
            name: 'test',
            layers: all,
            input_layers: [['in', 0, 0]],
            output_layers: [[all.at(-1)!.name, 0, 0]],
          },
        },
      },
      weightsManifest: [
        {
          paths: ['weights.bin'],
          weights: Object.entries(weights).map(([name, { shape }]) => ({ name, shape, dtype: 'float32' })),
        },
      ],
    },
    weights: concatFloats(Object.values(weights).map(({ data }) => data)),
  };
}

function concatFloats(parts: readonly Float32Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...new Uint8Array(part.slice().buffer)]));
}

async function run(
  source: Parameters<typeof importTfjsLayers>[0],
  x: Image,
  output: string,
): Promise<number[]> {
  return (await runModel(importTfjsLayers(source), toNchw(x)))[output]!.data;
}

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  expect(actual.length).toBe(expected.length);
  const worst = Array.from(expected, (value, index) => Math.abs(value - actual[index]!));
  expect(Math.max(...worst)).toBeLessThan(1e-5);
}

const x = noiseImage([1, 6, 7, 3]);
const size = [6, 7, 3];

function convWeights(name: string, kernelSize: readonly [number, number], inputs: number, outputs: number) {
  const kernel = noise(kernelSize[0] * kernelSize[1] * inputs * outputs, 2);
  const bias = noise(outputs, 3);
  const weight = (o: number, row: number, column: number, i: number) =>
    kernel[((row * kernelSize[1] + column) * inputs + i) * outputs + o]!;
  const weights: Weights = {
    [`${name}/kernel`]: { shape: [...kernelSize, inputs, outputs], data: kernel },
    [`${name}/bias`]: { shape: [outputs], data: bias },
  };
  return { weights, weight, bias };
}

function normalizationWeights(name: string, channels: number) {
  const [gamma, beta, mean] = [noise(channels, 4), noise(channels, 5), noise(channels, 6)];
  const variance = noise(channels, 7).map((value) => value + 1.5);
  const weights: Weights = {
    [`${name}/gamma`]: { shape: [channels], data: gamma },
    [`${name}/beta`]: { shape: [channels], data: beta },
    [`${name}/moving_mean`]: { shape: [channels], data: mean },
    [`${name}/moving_variance`]: { shape: [channels], data: variance },
  };
  const apply = (image: Image) =>
    mapImage(
      image,
      (value, c) => ((value - mean[c]!) / Math.sqrt(variance[c]! + 1e-3)) * gamma[c]! + beta[c]!,
    );
  return { weights, apply };
}

describe('importTfjsLayers: layers', () => {
  it.each(['same', 'valid'] as const)('Conv2D, %s, with an activation in its name', async (padding) => {
    const { weights, weight, bias } = convWeights('conv', [3, 2], 3, 4);
    const config = { padding, strides: [2, 1], activation: 'relu' };
    const source = functional(size, [{ class_name: 'Conv2D', name: 'conv', config }], weights);
    const linear = conv2d(x, 4, weight, { kernel: [3, 2], strides: [2, 1], padding }, bias);
    expectClose(await run(source, x, 'conv_relu'), toNchw(mapImage(linear, (value) => Math.max(value, 0))));
  });

  it('DepthwiseConv2D and SeparableConv2D', async () => {
    const depthwise = noise(3 * 3 * 3 * 2, 8);
    const window = { kernel: [3, 3], padding: 'same' } as const;
    const spread = depthwise2d(x, 2, depthwise, window);
    const kernel = { shape: [3, 3, 3, 2], data: depthwise };
    const layer = { class_name: 'DepthwiseConv2D', name: 'dw', config: { padding: 'same' } };
    const alone = functional(size, [layer], { 'dw/depthwise_kernel': kernel });
    expectClose(await run(alone, x, 'dw'), toNchw(spread));

    const pointwise = noise(6 * 5, 9);
    const separable = functional(
      size,
      [{ class_name: 'SeparableConv2D', name: 'sep', config: { padding: 'same', strides: 1 } }],
      { 'sep/depthwise_kernel': kernel, 'sep/pointwise_kernel': { shape: [1, 1, 6, 5], data: pointwise } },
    );
    const mixed = conv2d(spread, 5, (o, _row, _column, i) => pointwise[i * 5 + o]!, {
      kernel: [1, 1],
      padding: 'valid',
    });
    expectClose(await run(separable, x, 'sep'), toNchw(mixed));
  });

  it('folds a batch normalization into the convolution before it', async () => {
    const { weights, weight, bias } = convWeights('conv', [3, 3], 3, 4);
    const normalization = normalizationWeights('bn', 4);
    const source = functional(
      size,
      [
        {
          class_name: 'ZeroPadding2D',
          name: 'pad',
          config: {
            padding: [
              [1, 0],
              [2, 1],
            ],
          },
        },
        { class_name: 'Conv2D', name: 'conv' },
        { class_name: 'BatchNormalization', name: 'bn', config: { axis: [3], epsilon: 1e-3 } },
      ],
      { ...weights, ...normalization.weights },
    );
    const padded = padImage(x, 1, 2, 0, 1);
    const linear = conv2d(padded, 4, weight, { kernel: [3, 3], padding: 'valid' }, bias);
    expectClose(await run(source, x, 'bn'), toNchw(normalization.apply(linear)));
    expect(countOperators(importTfjsLayers(source))).toEqual({ Conv: 1 });
  });

  it('keeps a batch normalization whose convolution is needed elsewhere', async () => {
    const { weights, weight, bias } = convWeights('conv', [1, 1], 3, 4);
    const normalization = normalizationWeights('bn', 4);
    const source = functional(
      size,
      [
        { class_name: 'Conv2D', name: 'conv' },
        { class_name: 'BatchNormalization', name: 'bn', config: { axis: 3, epsilon: 1e-3 } },
        { class_name: 'Add', name: 'sum', after: ['bn', 'conv'] },
      ],
      { ...weights, ...normalization.weights },
    );
    const linear = conv2d(x, 4, weight, { kernel: [1, 1], padding: 'valid' }, bias);
    const normalized = normalization.apply(linear);
    const expected = { ...linear, data: linear.data.map((value, index) => value + normalized.data[index]!) };
    expectClose(await run(source, x, 'sum'), toNchw(expected));
    expect(countOperators(importTfjsLayers(source))).toEqual({ Conv: 1, BatchNormalization: 1, Add: 1 });
  });

  it.each([
    { class_name: 'MaxPooling2D', kind: 'max' },
    { class_name: 'AveragePooling2D', kind: 'mean' },
  ] as const)('$class_name', async ({ class_name, kind }) => {
    const config = { pool_size: [3, 2], strides: [2, 2], padding: 'same' };
    const expected = pool2d(x, kind, { kernel: [3, 2], strides: [2, 2], padding: 'same' });
    expectClose(
      await run(functional(size, [{ class_name, name: 'pool', config }]), x, 'pool'),
      toNchw(expected),
    );
  });

  it('GlobalAveragePooling2D and GlobalMaxPooling2D', async () => {
    const channel = (c: number) => [...x.data].filter((_, index) => index % 3 === c);
    const mean = await run(functional(size, [{ class_name: 'GlobalAveragePooling2D', name: 'g' }]), x, 'g');
    expectClose(
      mean,
      [0, 1, 2].map((c) => channel(c).reduce((sum, value) => sum + value / 42, 0)),
    );
    const max = await run(functional(size, [{ class_name: 'GlobalMaxPooling2D', name: 'g' }]), x, 'g');
    expectClose(
      max,
      [0, 1, 2].map((c) => Math.max(...channel(c))),
    );
  });

  it('Flatten keeps the order of NHWC; a Dense behind it permutes its weights instead', async () => {
    expectClose(await run(functional(size, [{ class_name: 'Flatten', name: 'f' }]), x, 'f'), x.data);
    const [kernel, bias] = [noise(126 * 4, 10), noise(4, 11)];
    const source = functional(
      size,
      [
        { class_name: 'Flatten', name: 'f' },
        { class_name: 'Dropout', name: 'drop', config: { rate: 0.5 } },
        { class_name: 'Dense', name: 'dense', config: { activation: 'softmax' } },
      ],
      { 'dense/kernel': { shape: [126, 4], data: kernel }, 'dense/bias': { shape: [4], data: bias } },
    );
    const logits = [...bias].map((b, o) =>
      x.data.reduce((sum, value, i) => sum + value * kernel[i * 4 + o]!, b),
    );
    const total = logits.reduce((sum, value) => sum + Math.exp(value), 0);
    expectClose(
      await run(source, x, 'dense_softmax'),
      logits.map((value) => Math.exp(value) / total),
    );
    expect(countOperators(importTfjsLayers(source))).toEqual({ Flatten: 1, Gemm: 1, Softmax: 1 });
  });

  it('Dense acts on the last axis of an image, Reshape and Permute on NHWC', async () => {
    const kernel = noise(3 * 2, 12);
    const dense = functional(size, [{ class_name: 'Dense', name: 'd', config: { use_bias: false } }], {
      'd/kernel': { shape: [3, 2], data: kernel },
    });
    const expected = makeImage([1, 6, 7, 2], (n, y, column, o) => {
      return [0, 1, 2].reduce((sum, i) => sum + pixelAt(x, n, y, column, i)! * kernel[i * 2 + o]!, 0);
    });
    expectClose(await run(dense, x, 'd'), toNchw(expected));
    const reshaped = functional(size, [
      { class_name: 'Reshape', name: 'r', config: { target_shape: [-1, 3] } },
    ]);
    expectClose(await run(reshaped, x, 'r'), x.data);
    const permuted = functional(size, [{ class_name: 'Permute', name: 'p', config: { dims: [3, 1, 2] } }]);
    const turned = makeImage([1, 3, 6, 7], (n, c, y, column) => pixelAt(x, n, y, column, c)!);
    expectClose(await run(permuted, x, 'p'), toNchw(turned));
  });

  it.each([
    { class_name: 'ReLU', config: { max_value: 0.5 }, of: (v: number) => Math.min(Math.max(v, 0), 0.5) },
    { class_name: 'ReLU', config: { negative_slope: 0.2 }, of: (v: number) => (v > 0 ? v : 0.2 * v) },
    { class_name: 'LeakyReLU', config: { alpha: 0.1 }, of: (v: number) => (v > 0 ? v : 0.1 * v) },
    { class_name: 'ELU', config: { alpha: 1 }, of: (v: number) => (v > 0 ? v : Math.expm1(v)) },
    { class_name: 'Activation', config: { activation: 'tanh' }, of: Math.tanh },
    { class_name: 'Activation', config: { activation: 'swish' }, of: (v: number) => v / (1 + Math.exp(-v)) },
    { class_name: 'Activation', config: { activation: 'linear' }, of: (v: number) => v },
  ])('$class_name $config', async ({ class_name, config, of }) => {
    const source = functional(size, [{ class_name, name: 'a', config }]);
    expectClose(await run(source, x, 'a'), toNchw(mapImage(x, of)));
  });

  it('branches: Add of three, Multiply, Concatenate, UpSampling2D, Cropping2D', async () => {
    const source = functional(size, [
      { class_name: 'Activation', name: 'a', config: { activation: 'tanh' }, after: ['in'] },
      { class_name: 'Add', name: 'sum', after: ['in', 'a', 'in'] },
      { class_name: 'Multiply', name: 'product', after: ['sum', 'in'] },
      { class_name: 'Concatenate', name: 'cat', config: { axis: -1 }, after: ['product', 'in'] },
      { class_name: 'UpSampling2D', name: 'up', config: { size: [2, 2] } },
      {
        class_name: 'Cropping2D',
        name: 'crop',
        config: {
          cropping: [
            [1, 2],
            [0, 3],
          ],
        },
      },
    ]);
    const expected = makeImage([1, 9, 11, 6], (n, y, column, c) => {
      const value = pixelAt(x, n, Math.floor((y + 1) / 2), Math.floor(column / 2), c % 3)!;
      return c < 3 ? (2 * value + Math.tanh(value)) * value : value;
    });
    expectClose(await run(source, x, 'crop'), toNchw(expected));
  });

  it('reads sequential models without an input layer, and layers in any order', async () => {
    const { weights, weight, bias } = convWeights('conv', [3, 3], 3, 4);
    const source = functional(size, [{ class_name: 'Conv2D', name: 'conv' }], weights);
    const layer = { class_name: 'Conv2D', config: { name: 'conv', batch_input_shape: [null, ...size] } };
    const sequential = {
      ...source,
      modelJson: {
        ...source.modelJson,
        modelTopology: { model_config: { class_name: 'Sequential', config: { name: 's', layers: [layer] } } },
      },
    };
    const expected = toNchw(conv2d(x, 4, weight, { kernel: [3, 3], padding: 'valid' }, bias));
    expectClose(await run(sequential, x, 'conv'), expected);
    source.modelJson.modelTopology.model_config.config.layers.reverse();
    expectClose(await run(source, x, 'conv'), expected);
  });
});

describe('importTfjsLayers: weights', () => {
  const { weights, weight, bias } = convWeights('conv', [3, 3], 3, 4);
  const layers = [{ class_name: 'Conv2D', name: 'conv' }];
  const expected = toNchw(conv2d(x, 4, weight, { kernel: [3, 3], padding: 'valid' }, bias));

  it('come from several files, as text or parsed', async () => {
    const source = functional(size, layers, weights);
    source.modelJson.weightsManifest[0]!.paths = ['a.bin', 'b.bin'];
    const files = new Map([
      ['b.bin', source.weights.slice(101)],
      ['a.bin', source.weights.slice(0, 101)],
    ]);
    expect(listTfjsFiles(source.modelJson)).toEqual(['a.bin', 'b.bin']);
    expectClose(await run({ modelJson: source.modelJson, weights: files }, x, 'conv'), expected);
    expectClose(
      await run({ modelJson: JSON.stringify(source.modelJson), weights: files }, x, 'conv'),
      expected,
    );
  });

  it('may be quantized to bytes', async () => {
    const { modelJson } = functional(size, layers, weights);
    const [kernelSpec, biasSpec] = modelJson.weightsManifest[0]!.weights;
    const quantization = { dtype: 'uint8', scale: 2 / 255, min: -1 };
    Object.assign(kernelSpec!, { quantization });
    Object.assign(biasSpec!, { quantization });
    const all = [...Object.values(weights)].flatMap(({ data }) => [...data]);
    const bytes = Uint8Array.from(all, (value) => Math.round((value + 1) / (2 / 255)));
    const actual = await run({ modelJson, weights: bytes }, x, 'conv');
    const worst = Math.max(...actual.map((value, index) => Math.abs(value - expected[index]!)));
    expect(worst).toBeGreaterThan(0);
    expect(worst).toBeLessThan(28 * (1 / 255));
  });
});

describe('importTfjsLayers: what it refuses', () => {
  const refusal = (source: Parameters<typeof importTfjsLayers>[0]) => {
    try {
      importTfjsLayers(source);
    } catch (error) {
      if (isIsthmusError(error)) return error;
      throw error;
    }
    throw new Error('It was accepted.');
  };
  const { weights } = convWeights('conv', [3, 3], 3, 4);
  const intact = functional(size, [{ class_name: 'Conv2D', name: 'conv' }], weights);

  it('names an unsupported layer and its class', () => {
    const error = refusal(functional(size, [{ class_name: 'LSTM', name: 'memory' }]));
    expect(error.code).toBe('model/unsupported-operator');
    expect(error.message).toContain('Layer memory (LSTM)');
  });

  it('names an unsupported activation and its layer', () => {
    const layer = { class_name: 'Activation', name: 'odd', config: { activation: 'mish' } };
    const error = refusal(functional(size, [layer]));
    expect(error.code).toBe('model/unsupported-operator');
    expect(error.message).toMatch(/odd.*mish/);
  });

  it('says when weights are missing, short or left over', () => {
    const { modelJson } = intact;
    expect(refusal({ modelJson, weights: intact.weights.slice(4) }).code).toBe('model/truncated');
    expect(refusal({ modelJson, weights: new Map() }).message).toContain('weights.bin');
    const longer = new Uint8Array(intact.weights.length + 4);
    expect(refusal({ modelJson, weights: longer }).code).toBe('model/invalid');
    const without = functional(size, [{ class_name: 'Conv2D', name: 'other' }], weights);
    expect(refusal(without).message).toContain('Layer other (Conv2D): its weight kernel is missing');
  });

  it('does not allocate what a file only claims to hold', () => {
    const modelJson = structuredClone(intact.modelJson);
    modelJson.weightsManifest[0]!.weights[0]!.shape = [2 ** 20, 2 ** 20, 4, 4];
    expect(refusal({ modelJson, weights: intact.weights }).code).toBe('model/truncated');
  });

  it('explains graph models, open sizes and what is not JSON', () => {
    const graph = { ...intact, modelJson: { format: 'graph-model' } };
    expect(refusal(graph).message).toContain('graph model');
    const open = functional(
      [6, null as unknown as number, 3],
      [{ class_name: 'Conv2D', name: 'conv' }],
      weights,
    );
    expect(refusal(open).code).toBe('model/unsupported');
    expect(refusal({ ...intact, modelJson: '{' }).code).toBe('model/invalid');
  });

  it('answers any change of model.json with a model or a typed error', () => {
    const text = JSON.stringify(intact.modelJson);
    const junk = fc.oneof(
      fc.constantFrom('null', '[]', '{}', '-1', '1e9', '"x"'),
      fc.string({ maxLength: 3 }),
    );
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.nat(8), junk, (at, length, replacement) => {
        const modelJson = text.slice(0, at) + replacement + text.slice(at + length);
        try {
          importTfjsLayers({ modelJson, weights: intact.weights });
        } catch (error) {
          expect(isIsthmusError(error), String(error)).toBe(true);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
