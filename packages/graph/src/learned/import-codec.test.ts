import {
  calibratedFiles,
  createTensor,
  formatCalibratedTables,
  formatManifest,
  learnedFiles,
  type NamedTensors,
  parseCalibratedTables,
  parseManifest,
  type Runtime,
  systemClock,
} from '@isthmus/core';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createGraphBuilder } from '../build.js';
import { type Bundle, bundleSpan } from '../bundle.js';
import { calibrateBundle } from '../calibrate/calibrate.js';
import type { ModelProto } from '../onnx_pb.js';
import { readModel } from '../read.js';
import { splitModel } from '../split.js';
import { float32Tensor } from '../tensors.js';
import { externalize } from '../testing/external.js';
import { chainModel, weights } from '../testing/models.js';
import { chainModels, renameTensors } from '../testing/networks.js';
import { writeModel } from '../write.js';
import { addCodec, removeCodec } from './add-codec.js';
import { type ImportCodecOptions, importCodec } from './import-codec.js';

// Slopes and waves, another for each seed.
function makeFrame(seed: number): NamedTensors {
  const data = Float32Array.from({ length: 3 * 32 * 32 }, (_, i) => {
    const [channel, y, x] = [Math.floor(i / 1024), Math.floor(i / 32) % 32, i % 32];
    const edge = x + y > 10 + ((seed * 7) % 40) ? 0.7 : -0.3;
    return edge + Math.sin((seed + 2) * 0.09 * x + channel) * Math.cos((seed % 7) * 0.15 * y);
  });
  return { image: createTensor('float32', [1, 3, 32, 32], data) };
}

const frames = Array.from({ length: 24 }, (_, i) => makeFrame(i + 1));
const tuning = { numProbes: 32, numProbeFrames: 2, maxValues: 20_000, maxBlockSize: 128 };
/** The cut that the codecs leave from; the next one is further on. */
const cut = 1;

let runtime: Runtime;
let bundle: Bundle;
/** The networks of `calibrated` at the cut, called as those of a learned codec. */
let encoder: ModelProto;
let decoder: ModelProto;
/** The same decoder, with the segment behind the cut. */
let deepDecoder: ModelProto;
let codecId: string;

beforeAll(async () => {
  runtime = createNodeRuntime({ threads: 1 });
  const plain = await splitModel(writeModel(chainModel('N')), {
    runtime,
    name: 'test',
    provenance: { source: 'a test', licence: 'none' },
    profileRuns: 0,
    cutAt: [['block1'], ['features']],
  });
  bundle = await calibrateBundle(plain, { runtime, frames, tuning, cuts: [cut] });
  const { id } = bundle.manifest.codecs.find(({ kind }) => kind === 'calibrated')!;
  codecId = id;
  const read = async (path: string): Promise<ModelProto> => readModel(bundle.files.get(path)!);
  encoder = renameTensors(await read(calibratedFiles.encoder(id, 0)), { x: 'block1', y: 'latent' }, 'e/');
  decoder = renameTensors(await read(calibratedFiles.decoder(id, 0)), { x: 'block1', y: 'latent' }, 'd/');
  deepDecoder = chainModels(decoder, await readModel(bundleSpan(bundle, cut, cut + 1)));
}, 60_000);
afterAll(() => runtime.close());

const importOne = (options: Partial<ImportCodecOptions> = {}) =>
  importCodec({
    bundle,
    runtime,
    clock: systemClock,
    id: 'learned-test',
    from: cut,
    to: cut,
    encoder,
    decoder,
    frames,
    tuning,
    ...options,
  });

/** Bytes and divergence of a codec's levels, as they were measured on the frames held out. */
const curveOf = (levels: readonly { params: Record<string, unknown> }[]): [number, number][] =>
  levels.map(({ params }) => [params.numBytes as number, params.divergence as number]);

/** log(divergence) at so many bytes, between two points of a curve. */
function divergenceAt(curve: readonly [number, number][], numBytes: number): number | undefined {
  const after = curve.findIndex(([bytes]) => bytes <= numBytes);
  if (after <= 0) return undefined;
  const [[b0, d0], [b1, d1]] = [curve[after - 1]!, curve[after]!];
  const share = (numBytes - b0) / (b1 - b0);
  return Math.log(d0 + 1e-6) + share * (Math.log(d1 + 1e-6) - Math.log(d0 + 1e-6));
}

describe('an imported codec', () => {
  it('codes with the tables of calibrated exactly as calibrated does', async () => {
    const entry = bundle.manifest.codecs.find(({ id }) => id === codecId)!;
    const text = new TextDecoder().decode(bundle.files.get(calibratedFiles.tables(codecId)));
    const own = parseCalibratedTables(text);
    const tables = { ...own, tensors: own.tensors.map((tensor) => ({ ...tensor, name: 'latent' })) };
    // The frames that calibrating held out, too.
    const heldOut = frames.filter((_, at) => at % 4 === 3);
    for (const [to, network] of [
      [cut, decoder],
      [cut + 1, deepDecoder],
    ] as const) {
      const codec = await importOne({ to, decoder: network, tables, frames: heldOut });
      expect(codec.entry.paths).toEqual([{ from: cut, to }]);
      expect(codec.files.get(learnedFiles.tables('learned-test'))).toEqual(
        new TextEncoder().encode(formatCalibratedTables(tables)),
      );
      const [learned, calibrated] = [curveOf(codec.entry.levels), curveOf(entry.levels)];
      expect(learned.map(([numBytes]) => numBytes)).toEqual(calibrated.map(([numBytes]) => numBytes));
      learned.forEach(([, divergence], level) => {
        expect(divergence).toBeCloseTo(calibrated[level]![1], 5);
      });
    }
  });

  it('is fitted as calibrated is: the same rate at the same divergence', async () => {
    const { entry } = await importOne();
    const [learned, calibrated] = [
      curveOf(entry.levels),
      curveOf(bundle.manifest.codecs.find(({ id }) => id === codecId)!.levels),
    ];
    const differences = learned.flatMap(([numBytes, divergence]) => {
      const expected = divergenceAt(calibrated, numBytes);
      return expected === undefined ? [] : [Math.log(divergence + 1e-6) - expected];
    });
    expect(differences.length).toBeGreaterThan(2);
    const mean = differences.reduce((sum, value) => sum + value, 0) / differences.length;
    expect(Math.abs(mean)).toBeLessThan(0.25);
  });

  it('has levels from near-lossless to rough, each measured', async () => {
    const codec = await importOne();
    const { levels, measured } = codec.entry;
    expect(levels.length).toBeGreaterThan(4);
    const curve = curveOf(levels);
    for (let level = 1; level < curve.length; level++) {
      expect(curve[level]![0]).toBeLessThan(curve[level - 1]![0]);
      expect(curve[level]![1]).toBeGreaterThan(curve[level - 1]![1]);
    }
    expect(measured).toHaveLength(1);
    expect(measured![0]).toHaveLength(levels.length);
    const qualities = measured![0]!.map(({ quality }) => quality);
    expect(qualities[0]).toBeGreaterThan(0.95);
    expect(qualities.at(-1)).toBeLessThan(qualities[0]!);
    // And it is what a bundle may hold.
    const { manifest, files } = addCodec(bundle, codec);
    expect(parseManifest(formatManifest(manifest))).toEqual(manifest);
    expect(codec.entry.files.every(({ path }) => files.has(path))).toBe(true);
    expect(removeCodec({ manifest, files }, 'learned-test')).toEqual(bundle);
  });

  it('is fitted on the scale of its latents, whatever that is', async () => {
    const scaled = (model: ModelProto, tensor: 'latent', factor: number, end: 'encoder' | 'decoder') => {
      const other = `unscaled.${tensor}`;
      const inner = renameTensors(model, { block1: 'block1', [tensor]: other }, '');
      const graph = createGraphBuilder({ name: 'scale', opset: 17 });
      const [from, to] = end === 'encoder' ? [other, tensor] : [tensor, other];
      const x = graph.input(from, 'float32', ['N', 'C', 'H', 'W']);
      graph.node('Mul', [x, graph.constant('by', float32Tensor([factor], []))], {}, { output: to });
      graph.output(to, 'float32', ['N', 'C', 'H', 'W']);
      return end === 'encoder' ? chainModels(inner, graph.build()) : chainModels(graph.build(), inner);
    };
    const plain = await importOne();
    const large = await importOne({
      encoder: scaled(encoder, 'latent', 64, 'encoder'),
      decoder: scaled(decoder, 'latent', 1 / 64, 'decoder'),
    });
    // By a power of two, everything is the same, to the bit.
    expect(curveOf(large.entry.levels)).toEqual(curveOf(plain.entry.levels));
    await expect(
      importOne({
        encoder: scaled(encoder, 'latent', 2 ** 20, 'encoder'),
        decoder: scaled(decoder, 'latent', 2 ** -20, 'decoder'),
      }),
    ).rejects.toMatchObject({ code: 'model/unsupported', message: /root mean square/ });
  });

  it('needs no frames where tables are given, and stays unmeasured then', async () => {
    const { entry, files } = await importOne();
    const tables = parseCalibratedTables(
      new TextDecoder().decode(files.get(learnedFiles.tables('learned-test'))),
    );
    const again = await importOne({ tables, frames: [] });
    expect(again.entry.measured).toBeUndefined();
    expect(again.entry.tablesSha256).toBe(entry.tablesSha256);
    expect(again.entry.files).toEqual(entry.files);
  });
});

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
          encoder: { ...encoder, opsetImport: encoder.opsetImport.map((one) => ({ ...one, version: 99n })) },
        }),
        'runtime/load-failed',
        /encoder/,
      ],
      [
        'an IR version from the future',
        () => ({ decoder: { ...decoder, irVersion: 99n } }),
        'runtime/load-failed',
        /decoder/,
      ],
      [
        'an operator set too old',
        () => ({
          encoder: writeModel({
            ...encoder,
            opsetImport: encoder.opsetImport.map((one) => ({ ...one, version: 7n })),
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
      ['a way back', () => ({ from: 2, to: 1 }), 'usage/invalid', /2 to 1/],
      ['the last cut', () => ({ from: 3, to: 3 }), 'usage/invalid', /before the last/],
      ['a cut that is not there', () => ({ to: 9 }), 'bundle/no-such-cut', /9/],
      ['a name that is taken', () => ({ id: codecId }), 'usage/invalid', /already/],
      ['a name that cannot be', () => ({ id: '../x' }), 'usage/invalid', /name/],
      ['too few frames', () => ({ frames: frames.slice(0, 3) }), 'usage/invalid', /at least 4/],
      [
        'tables of another latent',
        () => ({ tables: calibratedTables() }),
        'tensor/shape-mismatch',
        /block1 \[1,/,
      ],
    ],
  )('%s', async (_, options, code, message) => {
    await expect(importOne(await options())).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
  });

  const externalEncoder = async (): Promise<Partial<ImportCodecOptions>> => {
    const copy = await readModel(writeModel(encoder));
    externalize(copy, 'weights.bin');
    return { encoder: writeModel(copy) };
  };
  const zeroEncoder = (value = 0): ModelProto => {
    const { scales, height, width } = calibratedTables().tensors[0]!;
    const shape = [1, scales.length, height, width];
    const graph = createGraphBuilder({ name: 'zero', opset: 17 });
    graph.input(at[0], 'float32', at[1]);
    const data = new Float32Array(scales.length * height * width).fill(value);
    graph.node('Identity', [graph.constant('zero', float32Tensor(data, shape))], {}, { output: 'latent' });
    graph.output('latent', 'float32', shape);
    return graph.build();
  };
  const calibratedTables = () =>
    parseCalibratedTables(new TextDecoder().decode(bundle.files.get(calibratedFiles.tables(codecId))));
});

describe('removing', () => {
  it('leaves the codecs that every bundle has', () => {
    expect(() => removeCodec(bundle, 'raw')).toThrow(expect.objectContaining({ code: 'usage/invalid' }));
    expect(() => removeCodec(bundle, 'learned-x')).toThrow(/it has: calibrated-1/);
  });
});
