import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as zlib from 'node:zlib';
import { createTensor, parseManifest } from '@isthmus/core';
import { createGraphBuilder, writeModel } from '@isthmus/graph';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../testing/command-line.js';
import { type CodedCut, makeCoders } from './coders.js';
import { measureCut } from './measure-cut.js';
import type { CodecBenchResult } from './result.js';

const side = 16;
const numPictures = 4;
let folder: string;
let images: string;
let bundle: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'isthmus-codec-bench-'));
  images = join(folder, 'images');
  await mkdir(images);
  for (let picture = 0; picture < numPictures; picture++) {
    const svg = `<svg width="24" height="20"><circle cx="${5 + 2 * picture}" cy="9" r="6" fill="#c${picture}8"/></svg>`;
    await writeFile(join(images, `${picture}.png`), await sharp(Buffer.from(svg)).png().toBuffer());
  }
  bundle = await split('model', '--picture', 'imagenet');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function model(): Uint8Array {
  const graph = createGraphBuilder({ name: 'model', opset: 13 });
  const image = graph.input('image', 'float32', [1, 3, side, side]);
  const weights = (shape: number[]) => {
    const length = shape.reduce((a, b) => a * b, 1);
    return createTensor(
      'float32',
      shape,
      Float32Array.from({ length }, (_, i) => Math.sin(i * 7.3)),
    );
  };
  const a = graph.node('Conv', [image, graph.constant('a', weights([4, 3, 3, 3]))], { strides: [2, 2] });
  const b = graph.node('Relu', [a]);
  const c = graph.node('Conv', [b, graph.constant('b', weights([8, 4, 3, 3]))], { strides: [2, 2] });
  graph.node('GlobalAveragePool', [graph.node('Relu', [c])], {}, { output: 'means' });
  graph.output('means', 'float32', [1, 8, 1, 1]);
  return writeModel(graph.build());
}

async function split(name: string, ...options: string[]): Promise<string> {
  const path = join(folder, `${name}.onnx`);
  await writeFile(path, model());
  const { exitCode, notes } = await run('split', path, '--out', join(folder, name), ...options);
  expect(exitCode, notes).toBe(0);
  return join(folder, name);
}

describe('isthmus bench codec', () => {
  it('measures every coder at every cut that has something to code', async () => {
    const json = join(folder, 'codec.json');
    const options = ['--bundle', bundle, '--images', images, '--rounds', '2', '--bits', '8,3'];
    const { exitCode, out, notes } = await run('bench', 'codec', ...options, '--json', json);
    expect(exitCode, notes).toBe(0);
    const result = JSON.parse(await readFile(json, 'utf8')) as CodecBenchResult;
    expect(result).toMatchObject({ model: 'model', images: numPictures, rounds: 2 });
    // The last cut is means: a value to each channel, nothing but scales.
    const { cuts } = parseManifest(await readFile(join(bundle, 'manifest.json'), 'utf8'));
    expect(cuts.length).toBeGreaterThan(2);
    expect(result.results.map(({ cut, bits }) => [cut, bits])).toEqual(
      cuts.slice(0, -1).flatMap(({ index }) => [
        [index, 8],
        [index, 3],
      ]),
    );
    for (const { symbols, channels, perChannel, entropy, bits, coders } of result.results) {
      expect(symbols).toBe(numPictures * channels * perChannel);
      expect(entropy.channel).toBeGreaterThan(0);
      expect(entropy.channel).toBeLessThanOrEqual(entropy.tensor);
      expect(entropy.tensor).toBeLessThanOrEqual(bits);
      const names = coders.map(({ coder }) => coder);
      expect(names).toEqual(
        expect.arrayContaining(['rANS, one table', 'adaptive, 14 contexts', 'zlib 1', 'zlib 6']),
      );
      // Where Node has no zstd, that is said; never is it left out in silence.
      const hasZstd = 'zstdCompressSync' in zlib;
      expect(names.includes('zstd 3')).toBe(hasZstd);
      expect('zstd 3' in result.missing).toBe(!hasZstd);
      expect(out.includes('without zstd 3: not in this Node')).toBe(!hasZstd);
      for (const { numBytes, bitsPerSymbol, encodeSymbolsPerSecond: encode } of coders) {
        expect(bitsPerSymbol).toBeCloseTo((8 * numBytes) / symbols, 3);
        expect(encode.low).toBeLessThanOrEqual(encode.median);
        expect(encode.median).toBeLessThanOrEqual(encode.high);
      }
    }
    expect(out).toContain('over entropy');
  });

  it('goes on without a picture that is broken, and says so', async () => {
    const broken = join(images, 'broken.jpg');
    await writeFile(broken, 'no picture at all');
    const json = join(folder, 'broken.json');
    const options = ['--bundle', bundle, '--images', images, '--rounds', '1', '--bits', '2'];
    const { exitCode, notes } = await run('bench', 'codec', ...options, '--json', json);
    await rm(broken);
    expect(exitCode, notes).toBe(0);
    expect(notes).toContain('broken.jpg is left out');
    expect(JSON.parse(await readFile(json, 'utf8'))).toMatchObject({ images: numPictures });
  });

  it('says what is wrong before it measures', async () => {
    const lonely = join(folder, 'lonely');
    await mkdir(lonely);
    await writeFile(join(lonely, 'one.png'), await readFile(join(images, '0.png')));
    const json = join(folder, 'never.json');
    const base = { bundle, images, json };
    const cases: [Record<string, string>, RegExp][] = [
      [{ ...base, images: join(folder, 'nowhere') }, /nowhere cannot be read/],
      [{ ...base, images: lonely }, /Two pictures at least/],
      [{ ...base, bundle: await split('blind') }, /does not take pictures/],
      [{ ...base, json: join(folder, 'missing', 'out.json') }, /cannot be written/],
      [{ ...base, rounds: '0' }, /--rounds/],
      [{ ...base, bits: '8,9' }, /--bits/],
      [{ ...base, bits: 'many' }, /--bits/],
      [{ ...base, limit: '1' }, /--limit/],
      [{ ...base, labels: 'labels.csv' }, /bench codec does not take --labels/],
      [{ ...base, methods: 'raw', html: 'page.html' }, /does not take --methods, --html/],
      [{ bundle, images }, /--json/],
      [{ images, json }, /--bundle/],
    ];
    for (const [options, message] of cases) {
      const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
      const { exitCode, notes, out } = await run('bench', 'codec', ...flags);
      expect(notes).toMatch(message);
      expect(exitCode, notes).toBe(2);
      expect(out).toBe('');
    }
    const foreign = await run('bench', 'rd', '--bundle', bundle, '--images', images, '--rounds', '3');
    expect(foreign.notes).toMatch(/bench rd does not take --rounds/);
    expect(foreign.exitCode).toBe(2);
    await expect(readFile(json)).rejects.toThrow();
  });
});

describe('the coders', () => {
  it.each([
    { channels: 1, width: 1, height: 1, bits: 1, numPhotos: 2 },
    { channels: 40, width: 1, height: 1, bits: 8, numPhotos: 2 },
    { channels: 40, width: 5, height: 4, bits: 4, numPhotos: 3 },
    { channels: 3, width: 7, height: 9, bits: 8, numPhotos: 4 },
    { channels: 33, width: 3, height: 2, bits: 2, numPhotos: 2 },
  ])(
    'give back what they were given, also what no other picture has: %o',
    ({ channels, width, height, bits, numPhotos }) => {
      const random = randomFrom(channels + bits);
      const [perChannel, top] = [width * height, 2 ** bits - 1];
      const photos = Array.from({ length: numPhotos }, (_, photo) =>
        // Each picture has a range of its own.
        Int32Array.from({ length: channels * perChannel }, () =>
          Math.round((top * (photo + random())) / numPhotos),
        ),
      );
      const cut: CodedCut = { channels, perChannel, width, top, photos };
      for (const { name, encode, decode } of makeCoders(cut)) {
        for (const [photo, codes] of photos.entries()) {
          expect(decode(encode(codes, photo), photo), name).toEqual(codes);
        }
      }
    },
  );

  it('are timed by the processor, against the entropy of the codes', async () => {
    // Half zeros, a quarter ones, an eighth each of two and three: 1.75 bits; each channel by itself has none.
    const photo = Int32Array.from({ length: 64 }, (_, i) => [0, 0, 0, 0, 1, 1, 2, 3][i >> 3]!);
    let nowMs = 0;
    const { symbols, entropy, coders } = await measureCut(
      { channels: 8, perChannel: 8, width: 4, top: 3, photos: [photo, photo] },
      { rounds: 3, cpuMs: () => (nowMs += 2), signal: new AbortController().signal },
    );
    expect(symbols).toBe(128);
    expect(entropy.tensor).toBeCloseTo(1.75, 10);
    expect(entropy.channel).toBeCloseTo(0, 10);
    for (const { encodeSymbolsPerSecond, decodeSymbolsPerSecond } of coders) {
      expect(encodeSymbolsPerSecond).toEqual({ median: 64_000, low: 64_000, high: 64_000 });
      expect(decodeSymbolsPerSecond).toEqual(encodeSymbolsPerSecond);
    }
  });
});

function randomFrom(seed: number): () => number {
  let state = seed * 7919 + 1;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}
