import {
  builtinCodecs,
  type CodecEntry,
  calibratedModel,
  formatCalibratedTables,
  formatManifest,
  learnedFiles,
  parseCalibratedTables,
  parseManifest,
  type Runtime,
  systemClock,
} from '@isthmus/core';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createGraphBuilder } from '../build.js';
import { measureLevels } from '../calibrate/measure-levels.js';
import type { ModelProto } from '../onnx_pb.js';
import { float32Tensor } from '../tensors.js';
import { type LearnedFixture, learnedCut, makeLearnedFixture } from '../testing/learned.js';
import { chainModels, renameTensors } from '../testing/networks.js';
import { addCodec, removeCodec } from './add-codec.js';

const cut = learnedCut;
let runtime: Runtime;
let fixture: LearnedFixture;

beforeAll(async () => {
  runtime = createNodeRuntime({ threads: 1 });
  fixture = await makeLearnedFixture(runtime);
}, 60_000);
afterAll(() => runtime.close());

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
    const entry = fixture.bundle.manifest.codecs.find(({ id }) => id === fixture.codecId)!;
    const { tables: own, frames, decoder } = fixture;
    const tables = { ...own, tensors: own.tensors.map((tensor) => ({ ...tensor, name: 'latent' })) };
    // The frames that calibrating held out, too.
    const heldOut = frames.filter((_, at) => at % 4 === 3);
    for (const [to, network] of [
      [cut, decoder],
      [cut + 1, fixture.deepDecoder],
    ] as const) {
      const codec = await fixture.importOne({ to, decoder: network, tables, frames: heldOut });
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
    const { entry } = await fixture.importOne();
    const [learned, calibrated] = [
      curveOf(entry.levels),
      curveOf(fixture.bundle.manifest.codecs.find(({ id }) => id === fixture.codecId)!.levels),
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
    const codec = await fixture.importOne();
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
    const { manifest, files } = addCodec(fixture.bundle, codec);
    expect(parseManifest(formatManifest(manifest))).toEqual(manifest);
    expect(codec.entry.files.every(({ path }) => files.has(path))).toBe(true);
    expect(removeCodec({ manifest, files }, 'learned-test')).toEqual(fixture.bundle);
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
    const plain = await fixture.importOne();
    const large = await fixture.importOne({
      encoder: scaled(fixture.encoder, 'latent', 64, 'encoder'),
      decoder: scaled(fixture.decoder, 'latent', 1 / 64, 'decoder'),
    });
    // By a power of two, everything is the same, to the bit.
    expect(curveOf(large.entry.levels)).toEqual(curveOf(plain.entry.levels));
    await expect(
      fixture.importOne({
        encoder: scaled(fixture.encoder, 'latent', 2 ** 20, 'encoder'),
        decoder: scaled(fixture.decoder, 'latent', 2 ** -20, 'decoder'),
      }),
    ).rejects.toMatchObject({ code: 'model/unsupported', message: /root mean square/ });
  });

  it('has a level for every step that is asked for, and tells decoders which', async () => {
    const steps = [0.05, 0.2, 0.8, 3.2];
    const { entry, files } = await fixture.importOne({ steps, decoder: toldDecoder() });
    const tables = parseCalibratedTables(
      new TextDecoder().decode(files.get(learnedFiles.tables('learned-test'))),
    );
    tables.levels.forEach(({ scale }, level) => {
      expect(Math.abs(Math.log2(calibratedModel.stepOf(scale) / steps[level]!))).toBeLessThan(1 / 15);
    });
    expect(entry.levels).toHaveLength(steps.length);
    expect(curveOf(entry.levels).map(([numBytes]) => numBytes)).toEqual(
      [...curveOf(entry.levels).map(([numBytes]) => numBytes)].sort((a, b) => b - a),
    );
    await expect(fixture.importOne({ decoder: toldDecoder() })).rejects.toMatchObject({
      code: 'usage/invalid',
      message: /told the level/,
    });
  });

  // The decoder, and a little of the level, which it must be told.
  function toldDecoder(): ModelProto {
    const graph = createGraphBuilder({ name: 'told', opset: 17 });
    const x = graph.input('untold', 'float32', [1, 16, 16, 16]);
    const told = graph.input('level', 'float32', [1]);
    const little = graph.node('Mul', [told, graph.constant('little', float32Tensor([1e-6], []))]);
    graph.node('Add', [x, little], {}, { output: 'block1' });
    graph.output('block1', 'float32', [1, 16, 16, 16]);
    const end = graph.build();
    const { decoder } = fixture;
    const joined = chainModels(renameTensors(decoder, { block1: 'untold', latent: 'latent' }, ''), end);
    return {
      ...joined,
      graph: { ...joined.graph!, input: [decoder.graph!.input[0]!, end.graph!.input[1]!] },
    };
  }

  it('is as good as what it is the same as, on whatever frames each was measured', async () => {
    const { bundle, codecId, tables: own, frames } = fixture;
    const split = await measureLevels(bundle, {
      runtime,
      frames: frames.slice(0, 8),
      codecs: builtinCodecs,
      clock: systemClock,
    });
    const tables = { ...own, tensors: own.tensors.map((tensor) => ({ ...tensor, name: 'latent' })) };
    const { entry } = await fixture.importOne({ bundle: split, tables, frames: frames.slice(12, 20) });
    const qualityOf = ({ measured }: CodecEntry): number[] => measured![0]!.map(({ quality }) => quality);
    const expected = qualityOf(split.manifest.codecs.find(({ id }) => id === codecId)!);
    qualityOf(entry).forEach((quality, level) => {
      // Pooling with its neighbours may move a level a little.
      expect(Math.abs(quality - expected[level]!)).toBeLessThan(0.05);
    });
  });

  it('needs no frames where tables are given, and stays unmeasured then', async () => {
    const { entry, files } = await fixture.importOne();
    const tables = parseCalibratedTables(
      new TextDecoder().decode(files.get(learnedFiles.tables('learned-test'))),
    );
    const again = await fixture.importOne({ tables, frames: [] });
    expect(again.entry.measured).toBeUndefined();
    expect(again.entry.tablesSha256).toBe(entry.tablesSha256);
    expect(again.entry.files).toEqual(entry.files);
  });
});

describe('removing', () => {
  it('leaves the codecs that every bundle has', () => {
    expect(() => removeCodec(fixture.bundle, 'raw')).toThrow(
      expect.objectContaining({ code: 'usage/invalid' }),
    );
    expect(() => removeCodec(fixture.bundle, 'learned-x')).toThrow(/it has: calibrated-1/);
  });
});
