import {
  adaptedFiles,
  type CodecPath,
  createAdaptedCodec,
  createPixelsCodec,
  createTensor,
  type FileRef,
  formatManifest,
  type NamedTensors,
  type Preprocess,
  parseManifest,
  type Runtime,
  systemClock,
  type Tensor,
} from '@isthmus/core';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { createSharpCoder } from '@isthmus/runtime/pictures';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createGraphBuilder } from '../build.js';
import type { BuiltCodec } from '../build-codec.js';
import { type Bundle, bundleSpan } from '../bundle.js';
import type { ModelProto } from '../onnx_pb.js';
import { readModel } from '../read.js';
import { splitModel } from '../split.js';
import { float32Tensor, readTensor } from '../tensors.js';
import { chainModel } from '../testing/models.js';
import { writeModel } from '../write.js';
import { addCodec, removeCodec } from './add-codec.js';
import { type ImportAdaptedOptions, importAdapted } from './import-adapted.js';
import { withSegments } from './measure-codec.js';

const side = 32;
const preprocess: Preprocess = {
  width: side,
  height: side,
  colorOrder: 'rgb',
  fit: 'cover',
  mean: [127, 127, 127],
  std: [128, 128, 128],
};
const pictures = createSharpCoder();
const qualities = [95, 60, 30, 5];
const frames = Array.from({ length: 6 }, (_, seed): NamedTensors => {
  const data = Float32Array.from({ length: 3 * side * side }, (_, i) => {
    const [channel, y, x] = [Math.floor(i / side ** 2), Math.floor(i / side) % side, i % side];
    return Math.sin((seed + 2) * 0.09 * x + channel) * Math.cos((seed + 1) * 0.15 * y);
  });
  return { image: createTensor('float32', [1, 3, side, side], data) };
});
let runtime: Runtime;
let bundle: Bundle;
let weights: ReadonlyMap<string, Tensor<'float32'>>;

beforeAll(async () => {
  runtime = createNodeRuntime({ threads: 1 });
  bundle = await splitModel(writeModel(chainModel('N')), {
    runtime,
    name: 'test',
    provenance: { source: 'a test', licence: 'none' },
    profileRuns: 0,
    cutAt: [['block1'], ['features']],
    preprocess,
  });
  const { graph } = await readModel(bundleSpan(bundle, 0, 2));
  const stored = graph!.initializer.find(({ name }) => name === 'block1.weight')!;
  const { shape, data } = readTensor(stored) as Tensor<'float32'>;
  weights = new Map([
    [
      'block1.weight',
      float32Tensor(
        data.map((value, i) => value * (1 + (i % 3) / 5)),
        shape,
      ),
    ],
  ]);
}, 60_000);
afterAll(() => runtime.close());

const make = (options: Partial<ImportAdaptedOptions>): Promise<BuiltCodec> =>
  importAdapted({
    ...{ bundle, runtime, clock: systemClock, pictures, id: 'mended', format: 'webp', qualities },
    ...{ to: 1, frames, ...options },
  });

/** From an image, and how much it is told, to an image. */
function adapterModel(output: string, isTold: boolean): ModelProto {
  const graph = createGraphBuilder({ name: 'adapter', opset: 17 });
  const image = graph.input('image', 'float32', [1, 3, side, side]);
  const level = isTold ? graph.input('level', 'float32', [1]) : graph.constant('some', float32Tensor([0.25]));
  graph.node('Add', [image, level], {}, { output });
  graph.output(output, 'float32', [1, 3, side, side]);
  return graph.build();
}

/** What the cloud makes of a frame, and what it would make of the picture alone. */
async function carry(codec: BuiltCodec, level: number) {
  const { manifest } = bundle;
  const { entry, files } = withSegments(bundle, codec);
  const readFile = async ({ path }: FileRef): Promise<Uint8Array> => files.get(path)!;
  const context = { manifest, entry, runtime, readFile };
  const kind = createAdaptedCodec(pictures);
  const pixels = createPixelsCodec(pictures);
  const plain = { ...context, entry: { ...entry, kind: 'pixels', paths: [{ from: 0, to: 0 }] } };
  const path: CodecPath = { ...entry.paths[0]!, level };
  const encoder = await kind.createEncoder(context);
  const decoder = await kind.createDecoder(context);
  const payload = await encoder.encode(frames[1]!, path);
  const picture = { from: 0, to: 0, level };
  expect(payload).toEqual(await (await pixels.createEncoder(plain)).encode(frames[1]!, picture));
  const result = await decoder.decode(payload, path);
  await decoder.release?.();
  return { result, picture: await (await pixels.createDecoder(plain)).decode(payload, picture) };
}

async function run(model: Uint8Array, feeds: NamedTensors): Promise<NamedTensors> {
  const session = await runtime.load(model);
  const { outputs } = await session.run(feeds);
  await session.release();
  return outputs;
}

function expectClose(actual: NamedTensors, expected: NamedTensors, tolerance: number): void {
  for (const [name, { shape, data }] of Object.entries(expected)) {
    expect(actual[name]!.shape).toEqual(shape);
    const values = actual[name]!.data as Float32Array;
    const error = Math.hypot(...(data as Float32Array).map((value, i) => value - values[i]!));
    expect(error).toBeLessThanOrEqual(tolerance * Math.hypot(...(data as Float32Array)));
  }
}

describe('an adapted codec', () => {
  it('sends pictures, and goes on through tuned segments', async () => {
    const codec = await make({ tuned: { via: 0, weights } });
    const { entry, files } = codec;
    expect([...files.keys()]).toEqual([adaptedFiles.tuned('mended')]);
    expect(entry).toMatchObject({
      kind: 'adapted',
      version: 1,
      paths: [{ from: 0, to: 1 }],
      tablesSha256: null,
    });
    expect(entry.levels.length).toBeGreaterThan(1);
    expect(entry.measured?.[0]).toHaveLength(entry.levels.length);
    const sizes = entry.measured![0]!.map(({ numBytes }) => numBytes);
    expect(sizes).toEqual([...sizes].sort((a, b) => b - a));
    const { manifest } = addCodec(bundle, codec);
    expect(parseManifest(formatManifest(manifest))).toEqual(manifest);
    expect(removeCodec(addCodec(bundle, codec), 'mended')).toEqual(bundle);

    const { result, picture } = await carry(codec, 1);
    const span = await readModel(bundleSpan(bundle, 0, 1));
    for (const proto of span.graph!.initializer) {
      const tuned = weights.get(proto.name);
      if (tuned !== undefined) proto.rawData = new Uint8Array(tuned.data.buffer.slice(0));
    }
    expectClose(result, await run(writeModel(span), picture), 0.005);
  });

  it('takes an adapter to any cut, by whatever name it gives the picture back', async () => {
    const toCut = await make({ adapter: bundleSpan(bundle, 0, 1) });
    const { result, picture } = await carry(toCut, 0);
    expectClose(result, await run(bundleSpan(bundle, 0, 1), picture), 1e-6);

    const back = await make({ adapter: adapterModel('anything', false), to: 0 });
    const mended = await carry(back, 0);
    const expected = (mended.picture.image!.data as Float32Array).map((value) => value + 0.25);
    expectClose(mended.result, { image: { ...mended.picture.image!, data: expected } as Tensor }, 1e-6);
  });

  it('tells the adapter the quality it was trained with, whichever are left', async () => {
    const codec = await make({
      adapter: adapterModel('adapted', true),
      qualities: [95, 94, 93, 5],
      tuned: { via: 0, weights },
      to: 3,
    });
    expect([...codec.files.keys()]).toEqual([adaptedFiles.adapter('mended'), adaptedFiles.tuned('mended')]);
    for (const { name, params } of codec.entry.levels) {
      expect(params.level).toBeCloseTo(['q95', 'q94', 'q93', 'q5'].indexOf(name) / 3);
    }
    const only = { ...codec.entry, paths: [{ from: 0, to: 0 }] };
    const last = codec.entry.levels.length - 1;
    const files = new Map([...codec.files].filter(([path]) => path === adaptedFiles.adapter('mended')));
    const refs = only.files.filter(({ path }) => files.has(path));
    const { result, picture } = await carry({ entry: { ...only, files: refs }, files }, last);
    const told = codec.entry.levels[last]!.params.level as number;
    const expected = (picture.image!.data as Float32Array).map((value) => value + told);
    expectClose(result, { image: { ...picture.image!, data: expected } as Tensor }, 1e-6);
  });

  it.each<[string, () => Partial<ImportAdaptedOptions>, string, RegExp]>([
    ['neither adapter nor tuned segments', () => ({}), 'usage/invalid', /with neither, take a picture codec/],
    [
      'tuned segments without a way there',
      () => ({ to: 2, tuned: { via: 1, weights } }),
      'usage/invalid',
      /cut 0/,
    ],
    [
      'nothing to tune',
      () => ({ to: 0, tuned: { via: 0, weights } }),
      'usage/invalid',
      /0 is not within 0 to 0/,
    ],
    [
      'qualities that rise',
      () => ({ adapter: bundleSpan(bundle, 0, 1), qualities: [5, 50] }),
      'usage/invalid',
      /less/,
    ],
    ['no quality', () => ({ adapter: bundleSpan(bundle, 0, 1), qualities: [] }), 'usage/invalid', /1 to 64/],
    ['no frames', () => ({ adapter: bundleSpan(bundle, 0, 1), frames: [] }), 'usage/invalid', /frames/],
    [
      'an adapter to another cut',
      () => ({ adapter: bundleSpan(bundle, 0, 2) }),
      'model/invalid',
      /no output block1/,
    ],
    [
      'an adapter of something else',
      () => ({ adapter: bundleSpan(bundle, 1, 2), to: 2 }),
      'model/invalid',
      /no input image/,
    ],
    [
      'an adapter that gives another size',
      () => ({ adapter: bundleSpan(bundle, 0, 1), to: 0 }),
      'tensor/shape-mismatch',
      /block1 of the adapter/,
    ],
    [
      'a model that takes no pictures',
      () => ({
        bundle: { ...bundle, manifest: { ...bundle.manifest, preprocess: null } },
        tuned: { via: 0, weights },
      }),
      'usage/invalid',
      /does not take pictures/,
    ],
    ['a name that is taken', () => ({ id: 'webp', tuned: { via: 0, weights } }), 'usage/invalid', /already/],
  ])('is refused with %s', async (_, options, code, message) => {
    await expect(make(options())).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });
});
