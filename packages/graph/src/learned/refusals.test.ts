import type { Runtime } from '@isthmus/core';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createGraphBuilder } from '../build.js';
import type { ModelProto } from '../onnx_pb.js';
import { readModel } from '../read.js';
import { float32Tensor } from '../tensors.js';
import { externalize } from '../testing/external.js';
import { type LearnedFixture, learnedCut, makeLearnedFixture } from '../testing/learned.js';
import { weights } from '../testing/models.js';
import { writeModel } from '../write.js';
import type { ImportCodecOptions } from './import-codec.js';

const cut = learnedCut;
let runtime: Runtime;
let fixture: LearnedFixture;

beforeAll(async () => {
  runtime = createNodeRuntime({ threads: 1 });
  fixture = await makeLearnedFixture(runtime);
}, 60_000);
afterAll(() => runtime.close());

describe('importing refuses', () => {
  const make = (
    ins: [string, number[]][],
    outs: [string, number[]][],
    type: 'float32' | 'float16' = 'float32',
  ): ModelProto => {
    const graph = createGraphBuilder({ name: 'wrong', opset: 17 });
    for (const [name, shape] of ins) graph.input(name, type, shape);
    for (const [name, shape] of outs) {
      const value =
        type === 'float32'
          ? weights(shape, 1)
          : { type, shape, data: new Uint16Array(shape.reduce((a, b) => a * b)) };
      graph.node('Identity', [graph.constant(`${name}.value`, value)], {}, { output: name });
      graph.output(name, type, shape);
    }
    return graph.build();
  };
  const at: [string, number[]] = ['block1', [1, 16, 16, 16]];
  const latent: [string, number[]] = ['latent', [1, 4, 8, 8]];

  it.each<[string, () => Partial<ImportCodecOptions> | Promise<Partial<ImportCodecOptions>>, string, RegExp]>(
    [
      [
        'an encoder without the input',
        () => ({ encoder: make([], [latent]) }),
        'model/invalid',
        /no input block1: float32\[1,16,16,16\]; its inputs are: none/,
      ],
      [
        'an encoder of something else',
        () => ({ encoder: make([at, ['noise', [1]]], [latent]) }),
        'model/invalid',
        /encoder has an input noise/,
      ],
      [
        'an encoder of another shape',
        () => ({ encoder: make([['block1', [1, 8, 16, 16]]], [latent]) }),
        'tensor/shape-mismatch',
        /block1 of the encoder is \[1,8,16,16\]; it must be block1: float32\[1,16,16,16\]/,
      ],
      [
        'an encoder of another type',
        () => ({ encoder: make([at], [latent], 'float16') }),
        'tensor/type-mismatch',
        /block1 of the encoder is FLOAT16/,
      ],
      [
        'an encoder without a latent',
        () => ({ encoder: make([at], [['y', [1, 4, 8, 8]]]) }),
        'model/invalid',
        /no output latent: float32\[1,\?,\?,\?\]; its outputs are: y/,
      ],
      [
        'a latent of another rank',
        () => ({ encoder: make([at], [['latent', [1, 4, 8]]]) }),
        'tensor/shape-mismatch',
        /latent of the encoder is \[1,4,8\]/,
      ],
      [
        'a decoder without all tensors',
        () => ({ decoder: make([latent], []) }),
        'model/invalid',
        /no output block1/,
      ],
      [
        'a decoder of another cut',
        () => ({ to: cut + 1 }),
        'model/invalid',
        /no output features: float32\[1,64\]; its outputs are: block1/,
      ],
      [
        'a decoder that does not take the latent',
        () => ({ decoder: make([['latent', [1, 3, 2, 2]]], [at]) }),
        'runtime/run-failed',
        /The decoder cannot be used/,
      ],
      [
        'an encoder that is no ONNX',
        () => ({ encoder: Uint8Array.of(1, 2, 3) }),
        'model/not-onnx',
        /encoder/,
      ],
      [
        'an operator set from the future',
        () => ({
          encoder: {
            ...fixture.encoder,
            opsetImport: fixture.encoder.opsetImport.map((one) => ({ ...one, version: 99n })),
          },
        }),
        'runtime/load-failed',
        /encoder/,
      ],
      [
        'an IR version from the future',
        () => ({ decoder: { ...fixture.decoder, irVersion: 99n } }),
        'runtime/load-failed',
        /decoder/,
      ],
      [
        'an operator set too old',
        () => ({
          encoder: writeModel({
            ...fixture.encoder,
            opsetImport: fixture.encoder.opsetImport.map((one) => ({ ...one, version: 7n })),
          }),
        }),
        'model/unsupported',
        /encoder.* operator set 7/,
      ],
      ['weights in another file', () => externalEncoder(), 'model/external-data', /encoder/],
      [
        'a latent that is always zero',
        () => ({ encoder: zeroEncoder() }),
        'model/unsupported',
        /root mean square is 0/,
      ],
      [
        'a latent that is not finite',
        () => ({ encoder: zeroEncoder(Number.NaN) }),
        'tensor/not-finite',
        /latent/,
      ],
      ['steps that fall', () => ({ steps: [1, 0.5] }), 'usage/invalid', /larger than the one before/],
      ['steps that are none', () => ({ steps: [] }), 'usage/invalid', /1 to 64 steps/],
      [
        'steps and tables',
        () => ({ steps: [1], tables: fixture.tables }),
        'usage/invalid',
        /one or the other/,
      ],
      ['a way back', () => ({ from: 2, to: 1 }), 'usage/invalid', /2 to 1/],
      ['the last cut', () => ({ from: 3, to: 3 }), 'usage/invalid', /before the last/],
      ['a cut that is not there', () => ({ to: 9 }), 'bundle/no-such-cut', /9/],
      ['a name that is taken', () => ({ id: fixture.codecId }), 'usage/invalid', /already/],
      ['a name that cannot be', () => ({ id: '../x' }), 'usage/invalid', /name/],
      ['too few frames', () => ({ frames: fixture.frames.slice(0, 3) }), 'usage/invalid', /at least 4/],
      [
        'tables of another latent',
        () => ({ tables: fixture.tables }),
        'tensor/shape-mismatch',
        /block1 \[1,/,
      ],
    ],
  )('%s', async (_, options, code, message) => {
    await expect(fixture.importOne(await options())).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
  });

  const externalEncoder = async (): Promise<Partial<ImportCodecOptions>> => {
    const copy = await readModel(writeModel(fixture.encoder));
    externalize(copy, 'weights.bin');
    return { encoder: writeModel(copy) };
  };
  const zeroEncoder = (value = 0): ModelProto => {
    const { scales, height, width } = fixture.tables.tensors[0]!;
    const shape = [1, scales.length, height, width];
    const graph = createGraphBuilder({ name: 'zero', opset: 17 });
    graph.input(at[0], 'float32', at[1]);
    const data = new Float32Array(scales.length * height * width).fill(value);
    graph.node('Identity', [graph.constant('zero', float32Tensor(data, shape))], {}, { output: 'latent' });
    graph.output('latent', 'float32', shape);
    return graph.build();
  };
});
