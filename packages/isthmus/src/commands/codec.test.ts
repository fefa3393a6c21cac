import { access, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Manifest, parseManifest, sha256Hex, systemClock } from '@isthmus/core';
import { createGraphBuilder, float32Tensor, importAdapted, writeModel } from '@isthmus/graph';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { createSharpCoder } from '@isthmus/runtime/pictures';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addCodecToFolder } from '../bundle-codecs.js';
import { parsePlans } from '../plan-options.js';
import { createFrameReader, listPictures } from '../rd/pictures.js';
import type { RdResult } from '../rd/result.js';
import { writeClassifier } from '../testing/classifier.js';
import { run, runUntil } from '../testing/command-line.js';
import { openSegments } from './codec-import.js';

let folder: string;
/** A bundle that no test changes, and the files of a codec at its cut 0. */
let split: string;
let encoder: string;
let decoder: string;
let images: string;

const shape = [1, 3, 16, 16];

// Pictures as they are, but for a factor.
async function writeScale(file: string, from: string, to: string, factor: number): Promise<string> {
  const graph = createGraphBuilder({ name: 'scale', opset: 17 });
  const x = graph.input(from, 'float32', shape);
  graph.node('Mul', [x, graph.constant('factor', float32Tensor([factor], []))], {}, { output: to });
  graph.output(to, 'float32', shape);
  const path = join(folder, file);
  await writeFile(path, writeModel(graph.build()));
  return path;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'isthmus-codec-'));
  images = join(folder, 'images');
  await mkdir(images);
  for (let i = 0; i < 12; i++) {
    const pixels = Uint8Array.from(
      { length: 16 * 16 * 3 },
      (_, k) => 128 + 100 * Math.sin(k * 0.01 * (i + 1)),
    );
    const picture = sharp(pixels, { raw: { width: 16, height: 16, channels: 3 } });
    await writeFile(join(images, `${i}.png`), await picture.png().toBuffer());
  }
  split = join(folder, 'split');
  const labels = join(folder, 'labels.txt');
  await writeFile(labels, 'cat\ndog\nship\n');
  const model = await writeClassifier(join(folder, 'classifier.onnx'));
  const { exitCode, notes } = await run(
    'split',
    model,
    '--out',
    split,
    '--picture',
    'unit',
    '--labels',
    labels,
  );
  expect(exitCode, notes).toBe(0);
  encoder = await writeScale('e.onnx', 'image', 'latent', 8);
  decoder = await writeScale('d.onnx', 'latent', 'image', 1 / 8);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

let copies = 0;
/** A bundle of a test's own. */
async function copySplit(): Promise<string> {
  const path = join(folder, `bundle-${copies++}`);
  await cp(split, path, { recursive: true });
  return path;
}

const readManifestOf = async (bundle: string): Promise<Manifest> =>
  parseManifest(await readFile(join(bundle, 'manifest.json'), 'utf8'));
const importInto = (bundle: string, ...args: string[]) =>
  run('codec', 'import', bundle, '--encoder', encoder, '--decoder', decoder, '--from', '0', ...args);

/** Everything in a folder: paths and hashes. */
async function contentsOf(path: string): Promise<string[]> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const hashes = await Promise.all(
    files.map(async (file) => `${file.slice(path.length)} ${await sha256Hex(await readFile(file))}`),
  );
  return hashes.sort();
}

describe('isthmus codec', () => {
  it('imports a codec with levels that were measured, and removes it without a trace', async () => {
    const bundle = await copySplit();
    const before = await contentsOf(bundle);
    const { exitCode, out, notes } = await importInto(bundle, '--images', images);
    expect(exitCode, notes).toBe(0);
    expect(out).toMatch(/learned-0, cut 0\n\nlevel +bytes +bpp +expected quality +encode ms +decode ms/);
    const { codecs } = await readManifestOf(bundle);
    const entry = codecs.at(-1)!;
    expect(entry).toMatchObject({ id: 'learned-0', kind: 'learned', paths: [{ from: 0, to: 0 }] });
    expect(entry.measured?.[0]).toHaveLength(entry.levels.length);
    for (const { path, sha256 } of entry.files) {
      expect(await sha256Hex(await readFile(join(bundle, path)))).toBe(sha256);
    }
    const removed = await run('codec', 'remove', bundle, 'learned-0');
    expect(removed.exitCode, removed.notes).toBe(0);
    const others = (files: string[]): string[] => files.filter((file) => !file.startsWith('/manifest.json'));
    expect(others(await contentsOf(bundle))).toEqual(others(before));
    expect(await readManifestOf(bundle)).toEqual(await readManifestOf(split));
    await expect(access(join(bundle, 'codecs/learned-0'))).rejects.toThrow(/ENOENT/);
  });

  it('measures a picture with a tuned tail as the picture where nothing was tuned, and removes it', async () => {
    const bundle = await copySplit();
    const before = await readManifestOf(bundle);
    const { manifest, files } = await openSegments(bundle, 0);
    const read = createFrameReader(images, manifest.preprocess!, 'image');
    const frames = await Promise.all((await listPictures(images)).slice(0, 4).map(read));
    const runtime = createNodeRuntime({ threads: 1 });
    const codec = await importAdapted({
      ...{ bundle: { manifest, files }, runtime, clock: systemClock, pictures: createSharpCoder() },
      ...{ id: 'webp-tuned', format: 'webp', qualities: [95, 10], to: manifest.cuts.length - 1 },
      ...{ tuned: { via: 0, weights: new Map() }, frames: frames.map(({ tensors }) => tensors) },
    }).finally(() => runtime.close());
    await addCodecToFolder(bundle, codec);
    const json = join(folder, 'tuned.json');
    const methods = ['--methods', 'webp,webp-tuned', '--images', images, '--json', json];
    const { exitCode, notes } = await run('bench', 'rd', '--bundle', bundle, ...methods);
    expect(exitCode, notes).toBe(0);
    const { points } = JSON.parse(await readFile(json, 'utf8')) as RdResult;
    const tuned = points.filter(({ method }) => method === 'webp-tuned');
    expect(tuned.map(({ name }) => name)).toEqual(codec.entry.levels.map(({ name }) => name));
    for (const { name, bpp, agreement } of tuned) {
      const plain = points.find((point) => point.method === 'webp' && point.name === name);
      expect(plain).toMatchObject({ bpp, agreement });
    }
    expect((await run('codec', 'remove', bundle, 'webp-tuned')).exitCode).toBe(0);
    expect(await readManifestOf(bundle)).toEqual(before);
    await expect(access(join(bundle, 'codecs/webp-tuned'))).rejects.toThrow(/ENOENT/);
  });

  it('has a level for each of the steps asked for', async () => {
    const bundle = await copySplit();
    const { out } = await importInto(bundle, '--images', images, '--steps', '0.25,1,4', '--json');
    const { levels } = JSON.parse(out) as { levels: { numBytes: number }[] };
    expect(levels).toHaveLength(3);
    expect(levels[2]!.numBytes).toBeLessThan(levels[0]!.numBytes);
  });

  it('imports with given tables under a given name, and answers in JSON', async () => {
    const bundle = await copySplit();
    expect((await importInto(bundle, '--images', images)).exitCode).toBe(0);
    const tables = join(bundle, 'codecs/learned-0/tables.json');
    const { out } = await importInto(bundle, '--tables', tables, '--name', 'learned-again', '--json');
    expect(JSON.parse(out)).toMatchObject({ codec: 'learned-again', from: 0, to: 0 });
    const [first, again] = (await readManifestOf(bundle)).codecs.slice(-2);
    expect(again?.tablesSha256).toBe(first?.tablesSha256);
    expect(again?.measured).toBeUndefined();
  });

  it('refuses what cannot be, and changes nothing then', async () => {
    const bundle = await copySplit();
    expect((await importInto(bundle, '--images', images)).exitCode).toBe(0);
    const before = await contentsOf(bundle);
    const both = ['--encoder', encoder, '--decoder', decoder];
    const cases: [string[], RegExp, number][] = [
      [['import', bundle], /Say --encoder and --decoder and --from/, 2],
      [['import', bundle, ...both, '--from', '0'], /say --images, or give --tables/, 2],
      [['import', bundle, ...both, '--from', 'x', '--images', images], /--from/, 2],
      [['import', bundle, ...both, '--from', '0', '--images', images], /codec learned-0 already/, 2],
      [['import', bundle, ...both, '--from', '0', '--name', 'UPPER', '--images', images], /name/, 2],
      [['import', bundle, ...both, '--from', '9', '--images', images], /no cut 9/, 1],
      [['import', bundle, ...both, '--from', '1', '--to', '0', '--images', images], /1 to 0 cannot be/, 2],
      [
        ['import', bundle, ...both, '--from', '0', '--name', 'n', '--images', join(folder, 'none')],
        /cannot be read/,
        2,
      ],
      [
        ['import', bundle, ...both, '--from', '0', '--name', 'n', '--tables', join(folder, 'none')],
        /cannot be read/,
        2,
      ],
      [
        ['import', bundle, ...both, '--from', '0', '--name', 'n', '--tables', encoder],
        /tables of a codec do not fit/,
        1,
      ],
      [
        [
          'import',
          bundle,
          '--encoder',
          join(folder, 'none'),
          '--decoder',
          decoder,
          '--from',
          '0',
          '--name',
          'n',
          '--images',
          images,
        ],
        /none cannot be read/,
        2,
      ],
      [
        [
          'import',
          bundle,
          '--encoder',
          decoder,
          '--decoder',
          encoder,
          '--from',
          '0',
          '--name',
          'n',
          '--images',
          images,
        ],
        /encoder has no input image: float32\[1,3,16,16\]/,
        1,
      ],
      [
        ['import', bundle, ...both, '--from', '0', '--name', 'n', '--steps', '1,a', '--images', images],
        /--steps: numbers above 0/,
        2,
      ],
      [
        ['import', bundle, ...both, '--from', '0', '--name', 'n', '--steps', '2,1', '--images', images],
        /each larger than the one before/,
        2,
      ],
      [['import', bundle, 'learned-x', ...both, '--from', '0', '--images', images], /goes in --name/, 2],
      [['import', join(folder, 'nowhere'), ...both, '--from', '0', '--images', images], /no bundle/, 1],
      [['remove', bundle], /Say which codec/, 2],
      [['remove', bundle, 'learned-9'], /no codec "learned-9".*it has: learned-0/, 2],
      [['remove', bundle, 'raw'], /no codec "raw" that could be removed/, 2],
      [['remove', bundle, 'learned-0', '--from', '0'], /does not take --from/, 2],
      [['replace', bundle], /imported or removed, not "replace"/, 2],
    ];
    for (const [args, message, code] of cases) {
      const { exitCode, notes } = await run('codec', ...args);
      expect(notes, args.join(' ')).toMatch(message);
      expect(exitCode, args.join(' ')).toBe(code);
    }
    expect(await contentsOf(bundle)).toEqual(before);
  });

  it('leaves the bundle as it was when the disk refuses, or when it is interrupted', async () => {
    const bundle = await copySplit();
    // A file where a folder must be is what a disk may answer with.
    await writeFile(join(bundle, 'codecs'), 'in the way');
    const before = await contentsOf(bundle);
    const refused = await importInto(bundle, '--images', images);
    expect(refused.notes).toContain('[pull/disk]');
    expect(refused.exitCode).toBe(1);
    expect(await contentsOf(bundle)).toEqual(before);
    await rm(join(bundle, 'codecs'));
    const controller = new AbortController();
    controller.abort(new Error('Ctrl-C'));
    const args = ['--encoder', encoder, '--decoder', decoder, '--from', '0', '--images', images];
    const interrupted = await runUntil(controller.signal, 'codec', 'import', bundle, ...args);
    expect(interrupted.exitCode).toBe(130);
    expect(await contentsOf(bundle)).toEqual(await contentsOf(split));
  });

  it('puts a codec in the place of what an import left that never ended', async () => {
    const bundle = await copySplit();
    const own = join(bundle, 'codecs/learned-0');
    await mkdir(own, { recursive: true });
    await writeFile(join(own, 'half.onnx'), 'half');
    expect((await importInto(bundle, '--images', images)).exitCode).toBe(0);
    expect((await readdir(own)).sort()).toEqual(['decoder.onnx', 'encoder.onnx', 'tables.json']);
  });
});

describe('--plan', () => {
  it('lands where the codec does, unless told', async () => {
    const manifest = await readManifestOf(split);
    const deep: Manifest = {
      ...manifest,
      codecs: manifest.codecs.map((entry) =>
        entry.id === 'raw' ? { ...entry, id: 'deep', paths: [{ from: 0, to: 2 }] } : entry,
      ),
    };
    const plan = { kind: 'split', from: 0, codec: 'deep', level: 1 };
    expect(parsePlans(['0/deep/1', '0-1/deep/1', '1/deep/1'], deep)).toEqual([
      { ...plan, to: 2 },
      { ...plan, to: 1 },
      { ...plan, from: 1, to: 1 },
    ]);
    expect(parsePlans(['1/quantized/0'], deep)).toMatchObject([{ from: 1, to: 1 }]);
  });
});
