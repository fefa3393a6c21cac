import { formatManifest, parseManifest, type Runtime, sha256Hex } from '@isthmus/core';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createGraphBuilder } from './build.js';
import type { Bundle } from './bundle.js';
import { type ModelProto, TensorProto_DataLocation } from './onnx_pb.js';
import { readModel } from './read.js';
import { type SplitOptions, splitModel } from './split.js';
import { externalize } from './testing/external.js';
import { chainModel, inceptionModel, unetModel } from './testing/models.js';
import {
  batchMixingModel,
  branchingModel,
  dataDependentModel,
  earlyOutputModel,
  functionModel,
  mixedTypesModel,
  oldStyleModel,
  opset9Model,
  shapeChainModel,
  sharedWeightsModel,
  unsendableModel,
} from './testing/odd-models.js';
import { verifyBundle } from './verify.js';
import { writeModel } from './write.js';

let runtime: Runtime;
beforeAll(() => {
  runtime = createNodeRuntime({ threads: 1 });
});
afterAll(() => runtime.close());

const provenance = { source: 'a test', licence: 'none' };

function split(model: ModelProto, options: Partial<SplitOptions> = {}): Promise<Bundle> {
  return splitModel(writeModel(model), { runtime, name: 'test', provenance, profileRuns: 1, ...options });
}

async function splitAndVerify(model: ModelProto, options: Partial<SplitOptions> = {}): Promise<Bundle> {
  const bundle = await split(model, options);
  const reports = await verifyBundle(writeModel(model), bundle, runtime);
  expect(reports).toHaveLength(bundle.manifest.segments.length);
  return bundle;
}

describe('splitModel: the split is the whole', () => {
  it.each([
    ['a chain with a fixed batch and Reshape', chainModel(1)],
    ['a chain with an open batch', chainModel('N')],
    ['inception blocks', inceptionModel()],
    ['a U-Net with Resize to sizes, opset 21', unetModel()],
    ['operator set 9', opset9Model()],
    ['residual blocks with an early output', earlyOutputModel()],
    ['a weight used at both ends', sharedWeightsModel()],
    ['initializers as inputs, unsorted nodes', oldStyleModel()],
    ['local functions and a sparse initializer', functionModel()],
    ['float16 and int64 tensors', mixedTypesModel()],
  ])('%s, any batch', async (_, model) => {
    const { manifest } = await splitAndVerify(model);
    expect(manifest.dynamicBatch).toBe(true);
    expect(manifest.segments.length).toBeGreaterThanOrEqual(2);
    expect(manifest.segments.length).toBeLessThanOrEqual(10);
  });

  it.each([
    ['frames that influence each other', batchMixingModel()],
    ['an If that captures', branchingModel()],
  ])('%s, batch of one', async (_, model) => {
    const { manifest } = await splitAndVerify(model);
    expect(manifest.dynamicBatch).toBe(false);
    expect(manifest.cuts.flatMap((cut) => cut.tensors).every((tensor) => !tensor.batched)).toBe(true);
  });

  it('with weights in another file', async () => {
    const model = chainModel();
    const weights = externalize(model, 'weights.bin');
    const read = await readModel(writeModel(model), { readExternal: async () => weights });
    const bundle = await splitModel(read, { runtime, name: 'test', provenance, profileRuns: 0 });
    const reports = await verifyBundle(chainModel(), bundle, runtime);
    expect(Math.max(...reports.map(({ difference }) => difference))).toBeLessThanOrEqual(1e-4);
  });

  it('at every single cut of a model, by name', async () => {
    const cutAt = [['stem'], ['mixed0.joined'], ['mixed0.out'], ['mixed1.joined'], ['head']];
    const { manifest } = await splitAndVerify(inceptionModel(), { cutAt });
    expect(manifest.cuts.slice(1, -1).map((cut) => cut.tensors.map(({ name }) => name))).toEqual(cutAt);
  });

  it('never cuts through sequences or strings', async () => {
    const { manifest } = await splitAndVerify(unsendableModel());
    const names = manifest.cuts.flatMap((cut) => cut.tensors.map(({ name }) => name));
    expect(names).not.toContain('pieces');
    expect(names).not.toContain('text');
  });
});

function unknownOperatorModel(domain: string): ModelProto {
  const graph = createGraphBuilder({ name: 'unknown', opset: 17 });
  const x = graph.input('x', 'float32', [1, 4]);
  const odd = graph.node('FooBar', [graph.node('Exp', [x])], {}, { name: 'odd', domain });
  graph.output(graph.node('Exp', [odd], {}, { output: 'y' }), 'float32', [1, 4]);
  return graph.build();
}

function externalModel(): ModelProto {
  const model = chainModel();
  model.graph!.initializer[0]!.dataLocation = TensorProto_DataLocation.EXTERNAL;
  return model;
}

describe('splitModel: what it writes', () => {
  it('stores every weight once, also when several segments use it', async () => {
    const bundle = await split(sharedWeightsModel(), { cutAt: [['first'], ['a'], ['c']] });
    const stored = [];
    for (const bytes of bundle.files.values()) {
      // A fragment becomes readable with the header in front.
      const header = Uint8Array.from(atob(bundle.manifest.header), (character) => character.charCodeAt(0));
      const { graph } = await readModel(Buffer.concat([header, bytes]));
      stored.push(...graph!.initializer.map(({ name }) => name));
    }
    expect(stored.sort()).toEqual(['tied', 'w.a', 'w.b', 'w.c']);
    expect(bundle.manifest.segments.map((segment) => segment.shared)).toEqual([[0], [], [], [0]]);
    expect(bundle.manifest.segments.map(({ profile }) => profile.parameters)).toEqual([1024, 1024, 2048, 0]);
  });

  it('describes its files and itself truly', async () => {
    const model = writeModel(chainModel());
    const { manifest, files } = await splitModel(model, {
      runtime,
      name: 'test',
      provenance,
      date: '2025-11-21',
    });
    expect(parseManifest(formatManifest(manifest))).toEqual(manifest);
    expect(manifest.provenance.sha256).toBe(await sha256Hex(model));
    expect(manifest.profiledOn).toMatch(/onnxruntime-node .*, 2025-11-21/);
    for (const { path, numBytes, sha256 } of [
      ...manifest.segments.map(({ file }) => file),
      ...manifest.shared,
    ]) {
      expect(files.get(path)?.byteLength).toBe(numBytes);
      expect(await sha256Hex(files.get(path)!)).toBe(sha256);
    }
    expect(manifest.segments.every(({ profile }) => profile.durationMs > 0)).toBe(true);
  });

  it('offers raw and quantized wherever something is sent', async () => {
    const { manifest } = await split(mixedTypesModel(), {
      cutAt: [['stem'], ['half', 'best'], ['full', 'best']],
    });
    const paths = (id: string) =>
      manifest.codecs.find((codec) => codec.id === id)!.paths.map(({ from }) => from);
    expect(paths('raw')).toEqual([0, 1, 2, 3]);
    // Cut 2 carries float16 and int64 only.
    expect(paths('quantized')).toEqual([0, 1, 3]);
    expect(manifest.cuts[2]!.tensors.map(({ type }) => type).sort()).toEqual(['float16', 'int64']);
  });

  it('carries an early output through every cut behind it', async () => {
    const { manifest } = await split(earlyOutputModel(), {
      cutAt: [['res0'], ['res1', 'res0'], ['res0', 'res2']],
    });
    for (const cut of manifest.cuts.slice(1)) expect(cut.tensors.map(({ name }) => name)).toContain('res0');
  });

  it('keeps no trace of shape arithmetic in its cuts', async () => {
    const inputShapes = { image: [1, 3, 16, 16] };
    const { manifest } = await splitAndVerify(shapeChainModel(), { inputShapes });
    const names = manifest.cuts.flatMap((cut) => cut.tensors.map(({ name }) => name));
    expect(names).not.toContain('size');
    expect(names).not.toContain('target');
    expect(manifest.dynamicBatch).toBe(true);
    expect(manifest.cuts.every((cut) => cut.tensors.length === 1)).toBe(true);
  });

  it('says what it is doing', async () => {
    const stages: string[] = [];
    await split(chainModel(), { onProgress: ({ stage }) => stages.push(stage) });
    expect([...new Set(stages)]).toEqual(['shapes', 'cuts', 'batch', 'segments', 'profile']);
  });

  it('respects the number of segments asked for', async () => {
    const few = await split(chainModel(), { maxSegments: 2 });
    expect(few.manifest.segments).toHaveLength(2);
    const one = await split(chainModel(), { maxSegments: 1 });
    expect(one.manifest.segments).toHaveLength(1);
  });
});

describe('splitModel: what it refuses', () => {
  it.each([
    ['an open size', () => split(shapeChainModel()), 'usage/invalid', /image \[\?, 3, \?, \?\]/],
    [
      'a shape that does not fit',
      () => split(shapeChainModel(), { inputShapes: { image: [1, 4, 8, 8] } }),
      'usage/invalid',
      /\[1,4,8,8\] does not fit/,
    ],
    [
      'an input that is not there',
      () => split(chainModel(), { inputShapes: { picture: [1] } }),
      'usage/invalid',
      /no input picture/,
    ],
    [
      'a result of unknown size',
      () => split(dataDependentModel()),
      'model/unsupported',
      /NonZero node "select"/,
    ],
    [
      'an operator nobody has, hidden in a set that exists',
      () => split(unknownOperatorModel('')),
      'model/unsupported-operator',
      /FooBar node "odd"/,
    ],
    [
      'an operator of an unknown set',
      () => split(unknownOperatorModel('nobody')),
      'model/unsupported-operator',
      /nobody.FooBar node "odd"/,
    ],
    [
      'weights left in another file',
      () =>
        splitModel(externalModel(), {
          runtime,
          name: 'test',
          provenance,
        }),
      'model/unsupported',
      /classifier|weight/,
    ],
    ['half a cut', () => split(unetModel(), { cutAt: [['middle']] }), 'bundle/no-such-cut', /down1/],
    [
      'a tensor that is not there',
      () => split(unetModel(), { cutAt: [['x']] }),
      'bundle/no-such-cut',
      /tensor x/,
    ],
    ['a name', () => split(chainModel(), { name: 'My Model' }), 'usage/invalid', /lower-case/],
    [
      'an empty range',
      () => split(chainModel(), { minSegments: 5, maxSegments: 4 }),
      'usage/invalid',
      /segments/,
    ],
  ])('%s', async (_, run, code, message) => {
    await expect(run()).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it('a bundle that is another model', async () => {
    const bundle = await split(chainModel());
    const other = chainModel();
    const weight = other.graph!.initializer[0]!;
    weight.rawData = weight.rawData.map((byte, index) => (index % 4 === 3 ? byte ^ 128 : byte));
    await expect(verifyBundle(other, bundle, runtime)).rejects.toMatchObject({ code: 'model/verify-failed' });
  });
});
