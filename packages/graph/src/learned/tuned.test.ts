import { fromBinary } from '@bufbuild/protobuf';
import {
  builtinCodecs,
  type FileRef,
  findCodecKind,
  formatManifest,
  learnedFiles,
  type NamedTensors,
  parseCalibratedTables,
  parseManifest,
  parseTunedSegments,
  type Runtime,
  type Tensor,
} from '@isthmus/core';
import { createNodeRuntime } from '@isthmus/runtime/node';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BuiltCodec } from '../build-codec.js';
import { type Bundle, bundleSpan } from '../bundle.js';
import { ModelProtoSchema } from '../onnx_pb.js';
import { readModel } from '../read.js';
import { float32Tensor, readTensor, tensorProto } from '../tensors.js';
import { type LearnedFixture, learnedCut, makeLearnedFixture } from '../testing/learned.js';
import { chainModels } from '../testing/networks.js';
import { writeModel } from '../write.js';
import { addCodec, removeCodec } from './add-codec.js';
import { writeTunedSegments } from './write-tuned.js';

const cut = learnedCut;
// Two levels are enough here, and soon measured.
const steps = [0.1, 0.4];
let runtime: Runtime;
let fixture: LearnedFixture;
/** Of the segments behind the cut, as they are in the bundle. */
let before: Map<string, Tensor<'float32'>>;
/** One of them that is not float32. */
let integers: string;

beforeAll(async () => {
  runtime = createNodeRuntime({ threads: 1 });
  fixture = await makeLearnedFixture(runtime);
  const { graph } = await readModel(bundleSpan(fixture.bundle, cut, 3));
  integers = graph!.initializer.find((proto) => readTensor(proto).type === 'int64')!.name;
  const floats = graph!.initializer
    .map(readTensor)
    .map((tensor, at) => [graph!.initializer[at]!.name, tensor]);
  before = new Map(
    floats.filter((pair): pair is [string, Tensor<'float32'>] => (pair[1] as Tensor).type === 'float32'),
  );
}, 60_000);
afterAll(() => runtime.close());

/** Weights that have moved by a share of their size. */
function trained(names: readonly string[], share = 0.1): Map<string, Tensor<'float32'>> {
  return new Map(
    names.map((name) => {
      const { shape, data } = before.get(name)!;
      return [
        name,
        float32Tensor(
          data.map((value, i) => value * (1 + share * Math.sin(7 * i))),
          shape,
        ),
      ];
    }),
  );
}

/** The decoder, and behind it segments with these weights, as one model. */
async function tunedModel(to: number, weights: ReadonlyMap<string, Tensor>): Promise<Uint8Array> {
  const span = await readModel(bundleSpan(fixture.bundle, cut, to));
  const graph = span.graph!;
  const initializer = graph.initializer.map((proto) =>
    weights.has(proto.name) ? tensorProto(proto.name, weights.get(proto.name)!) : proto,
  );
  return writeModel(chainModels(fixture.decoder, { ...span, graph: { ...graph, initializer } }));
}

async function decodeWith({ manifest, files }: Bundle, { entry }: BuiltCodec, frame: NamedTensors) {
  const kind = findCodecKind(builtinCodecs, entry);
  const readFile = async ({ path }: FileRef): Promise<Uint8Array> => files.get(path)!;
  const context = { manifest, entry, runtime, readFile };
  const [encoder, decoder] = [await kind.createEncoder(context), await kind.createDecoder(context)];
  const path = { ...entry.paths[0]!, level: 0 };
  const decoded = await decoder.decode(await encoder.encode(frame, path), path);
  await decoder.release?.();
  return decoded;
}

async function atCut(): Promise<NamedTensors> {
  const prefix = await runtime.load(bundleSpan(fixture.bundle, 0, cut));
  const { outputs } = await prefix.run(fixture.frames[5]!);
  await prefix.release();
  return outputs;
}

describe('tuned segments', () => {
  const names = ['block2.weight', 'block3.bias', 'block4.weight'];

  it.each([cut + 1, 3])(
    'lead from the cut where the decoder lands to cut %i, with their own weights',
    async (to) => {
      const weights = trained(names);
      const codec = await fixture.importOne({ steps, to, tuned: { via: cut, weights } });
      expect(codec.entry).toMatchObject({ kind: 'learned', version: 2, paths: [{ from: cut, to }] });
      expect(codec.entry.measured?.[0]).toHaveLength(codec.entry.levels.length);
      const bundle = addCodec(fixture.bundle, codec);
      expect(parseManifest(formatManifest(bundle.manifest))).toEqual(bundle.manifest);

      // The same networks as one, without anything being quantized but the latent.
      const whole = await fixture.importOne({ steps, to, decoder: await tunedModel(to, weights) });
      const frame = await atCut();
      const [name] = fixture.bundle.manifest.cuts[to]!.tensors.map((tensor) => tensor.name);
      const untuned = await fixture.importOne({ steps, to, decoder: await tunedModel(to, new Map()) });
      const decode = async (one: BuiltCodec): Promise<Float32Array> =>
        (await decodeWith(addCodec(fixture.bundle, one), one, frame))[name!]!.data as Float32Array;
      const expected = await decode(whole);
      const distanceOf = async (one: BuiltCodec): Promise<number> => {
        const values = await decode(one);
        return Math.hypot(...expected.map((value, i) => value - values[i]!));
      };
      expect(await distanceOf(codec)).toBeLessThan(0.1 * (await distanceOf(untuned)));
      expect(removeCodec(bundle, 'learned-test')).toEqual(fixture.bundle);
    },
  );

  it('take nothing for weights that did not change, and may all stay the same', async () => {
    const same = new Map(names.map((name) => [name, before.get(name)!]));
    const bytes = writeTunedSegments(fixture.bundle, 3, { via: cut, weights: same });
    expect(bytes).toHaveLength(20);
    const { entry, files } = await fixture.importOne({ steps, to: 3, tuned: { via: cut, weights: same } });
    const whole = await fixture.importOne({ steps, to: 3, decoder: await tunedModel(3, new Map()) });
    expect(files.get(learnedFiles.tuned('learned-test'))).toEqual(bytes);
    expect(entry.levels).toEqual(whole.entry.levels);
    const one = writeTunedSegments(fixture.bundle, 3, { via: cut, weights: trained(names.slice(0, 1)) });
    const all = writeTunedSegments(fixture.bundle, 3, { via: cut, weights: trained(names) });
    expect(one.length).toBeLessThan(all.length);
    // At most six bits an element, and a step for each channel.
    const numElements = names.reduce((sum, name) => sum + before.get(name)!.data.length, 0);
    expect(all.length).toBeLessThan((6 / 8) * numElements + 1500);
  });

  it('are tried even where nothing is measured', async () => {
    const { files } = await fixture.importOne();
    const text = new TextDecoder().decode(files.get(learnedFiles.tables('learned-test')));
    const tuned = { via: cut, weights: trained(names) };
    const options = { to: 3, tables: parseCalibratedTables(text), frames: [] };
    const { entry } = await fixture.importOne({ ...options, tuned });
    expect(entry).toMatchObject({
      version: 2,
      files: expect.arrayContaining([expect.objectContaining({ path: learnedFiles.tuned('learned-test') })]),
    });
    expect(entry.measured).toBeUndefined();
  });

  it('are not held in memory once they were measured', async () => {
    let loaded = 0;
    const counting: Runtime = {
      description: runtime.description,
      async load(model) {
        const session = await runtime.load(model);
        loaded++;
        const release = async (): Promise<void> => {
          loaded--;
          await session.release();
        };
        const { inputNames, outputNames } = session;
        return { inputNames, outputNames, run: (feeds, fetches) => session.run(feeds, fetches), release };
      },
      close: async () => {},
    };
    await fixture.importOne({
      steps,
      to: 3,
      tuned: { via: cut, weights: trained(names) },
      runtime: counting,
    });
    expect(loaded).toBe(0);
  });

  it.each<[string, () => Parameters<typeof fixture.importOne>[0], string, RegExp]>([
    [
      'before the first cut',
      () => ({ to: 2, tuned: { via: 0, weights: new Map() } }),
      'usage/invalid',
      /0 is not within 1 to 2/,
    ],
    [
      'at the last cut',
      () => ({ to: 2, tuned: { via: 2, weights: new Map() } }),
      'usage/invalid',
      /2 is not within/,
    ],
    ['at no cut', () => ({ to: 2, tuned: { via: 9, weights: new Map() } }), 'bundle/no-such-cut', /9/],
    [
      'with a weight of another segment',
      () => ({ to: 2, tuned: { via: cut, weights: new Map([['classifier', before.get('classifier')!]]) } }),
      'usage/invalid',
      /no weight classifier in the segments from cut 1 to 2/,
    ],
    [
      'with integers',
      () => ({ to: 3, tuned: { via: cut, weights: new Map([[integers, float32Tensor([1, 2])]]) } }),
      'model/unsupported',
      /is not stored as plain float32/,
    ],
    [
      'with a weight of another shape',
      () => ({ to: 3, tuned: { via: cut, weights: new Map([['block3.bias', float32Tensor([1, 2])]]) } }),
      'tensor/shape-mismatch',
      /block3\.bias is \[2\]; the model's is \[32\]/,
    ],
    [
      'with a weight that is no number',
      () => ({
        to: 3,
        tuned: {
          via: cut,
          weights: new Map([['block3.bias', float32Tensor(new Float32Array(32).fill(Number.NaN))]]),
        },
      }),
      'tensor/not-finite',
      /block3\.bias/,
    ],
    [
      'behind a decoder of another cut',
      () => ({ to: 3, tuned: { via: cut + 1, weights: new Map() } }),
      'model/invalid',
      /no output features/,
    ],
  ])('are refused %s', async (_, options, code, message) => {
    await expect(fixture.importOne(options())).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
  });
});

describe('the differences of weights', () => {
  it('are off by half a step at most, a step for each output channel, whatever they are', async () => {
    const name = 'block3.weight';
    const { shape, data } = before.get(name)!;
    const size = data.length / shape[0]!;
    const { manifest, files } = fixture.bundle;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.float({ min: -4, max: 4, noNaN: true }), { minLength: 5, maxLength: 50 }),
        fc.integer({ min: 1, max: 400 }),
        async (pattern, stride) => {
          const moved = data.map((was, i) => (i % stride === 0 ? was + pattern[i % pattern.length]! : was));
          const weights = new Map([[name, float32Tensor(moved, shape)]]);
          const packed = parseTunedSegments(
            writeTunedSegments(fixture.bundle, 3, { via: cut, weights }),
            manifest,
            { from: cut, to: 3 },
          );
          const { file } = manifest.segments[cut]!;
          const tuned = fromBinary(ModelProtoSchema, packed.apply(file, files.get(file.path)!));
          const found = readTensor(tuned.graph!.initializer.find((proto) => proto.name === name)!);
          for (let channel = 0; channel < shape[0]!; channel++) {
            const at = Array.from({ length: size }, (_, i) => channel * size + i);
            const changes = at.map((i) => moved[i]! - data[i]!);
            const most = Math.max(...changes.map(Math.abs));
            const step = Math.max(most / 127, Math.hypot(...changes) / Math.sqrt(size) / 8);
            const error = Math.max(...at.map((i) => Math.abs((found.data[i] as number) - moved[i]!)));
            expect(error).toBeLessThanOrEqual(step * 0.501 + 1e-6);
          }
        },
      ),
      { numRuns: 40 },
    );
  });
});
