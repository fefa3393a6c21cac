import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createTensor, formatManifest, type Manifest, parseManifest } from '@isthmus/core';
import { createGraphBuilder, writeModel } from '@isthmus/graph';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../testing/command-line.js';
import { parseFrameSet } from './frame-set.js';
import type { RdResult } from './result.js';

const side = 32;
const numPictures = 12;
let folder: string;
let images: string;
let labels: string;
let bundle: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'isthmus-rd-'));
  images = join(folder, 'images');
  labels = join(folder, 'labels.csv');
  await mkdir(join(images, 'more'), { recursive: true });
  const lines: string[] = [];
  for (let i = 0; i < numPictures; i++) {
    const name = `${i % 3 === 0 ? 'more/' : ''}${String.fromCharCode(97 + i)}.png`;
    await writeFile(join(images, name), await picture(i));
    // Red, green or blue: not what the model says, which learned nothing.
    lines.push(`${name},${i % 3},extra`);
  }
  await writeFile(join(images, 'notes.txt'), 'not a picture');
  await writeFile(labels, `file,label,more\r\n${lines.join('\r\n')}\r\n`);
  bundle = await split('classifier', classifier(), ['red', 'green', 'blue']);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

// A gradient in one colour, of odd size.
function picture(seed: number): Promise<Buffer> {
  const [width, height] = [50 + seed, 44];
  const data = Uint8Array.from({ length: 3 * width * height }, (_, i) => {
    const [x, y] = [Math.floor(i / 3) % width, Math.floor(i / 3 / width)];
    return (i % 3 === seed % 3 ? 120 : 20) + ((x * (seed + 1) + y * 3) % 120);
  });
  return sharp(data, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
}

function weights(shape: number[], seed: number) {
  const length = shape.reduce((a, b) => a * b, 1);
  const values = Float32Array.from(
    { length },
    (_, i) => Math.sin(i * 7.3 + seed) / Math.sqrt(length / shape[0]!),
  );
  return createTensor('float32', shape, values);
}

function classifier(): Uint8Array {
  const graph = createGraphBuilder({ name: 'classifier', opset: 13 });
  const image = graph.input('image', 'float32', [1, 3, side, side]);
  const a = graph.node('Conv', [image, graph.constant('a', weights([8, 3, 3, 3], 1))], { strides: [2, 2] });
  const b = graph.node('Conv', [graph.node('Relu', [a]), graph.constant('b', weights([8, 8, 3, 3], 2))], {
    strides: [2, 2],
  });
  const pooled = graph.node('GlobalAveragePool', [graph.node('Relu', [b])]);
  const flat = graph.node('Flatten', [pooled], { axis: 1 });
  graph.node('MatMul', [flat, graph.constant('head', weights([8, 3], 3))], {}, { output: 'scores' });
  graph.output('scores', 'float32', [1, 3]);
  return writeModel(graph.build());
}

// Two anchors of five numbers and two classes each, on a grid of 2 × 2.
function detector(): Uint8Array {
  const graph = createGraphBuilder({ name: 'detector', opset: 13 });
  const image = graph.input('image', 'float32', [1, 3, side, side]);
  const a = graph.node('Conv', [image, graph.constant('a', weights([8, 3, 4, 4], 1))], { strides: [4, 4] });
  graph.node(
    'Conv',
    [graph.node('Relu', [a]), graph.constant('b', weights([14, 8, 4, 4], 2))],
    { strides: [4, 4] },
    {
      output: 'grid',
    },
  );
  graph.output('grid', 'float32', [1, 14, 2, 2]);
  return writeModel(graph.build());
}

async function split(name: string, model: Uint8Array, classes?: readonly string[]): Promise<string> {
  const path = join(folder, `${name}.onnx`);
  await writeFile(path, model);
  const target = join(folder, name);
  const args = ['split', path, '--out', target, '--picture', 'imagenet'];
  if (classes !== undefined) {
    await writeFile(join(folder, `${name}.txt`), classes.join('\n'));
    args.push('--labels', join(folder, `${name}.txt`), '--logits');
  }
  const { exitCode, notes } = await run(...args);
  expect(exitCode, notes).toBe(0);
  return target;
}

const readBundle = async (at: string): Promise<Manifest> =>
  parseManifest(await readFile(join(at, 'manifest.json'), 'utf8'));

async function benchRd(...args: string[]): Promise<{ result: RdResult; notes: string; out: string }> {
  const json = join(folder, 'rd.json');
  const { exitCode, notes, out } = await run('bench', 'rd', '--images', images, '--json', json, ...args);
  expect(exitCode, notes + out).toBe(0);
  return { result: JSON.parse(await readFile(json, 'utf8')) as RdResult, notes, out };
}

describe('isthmus bench rd', () => {
  it('measures every codec at every cut and level, and counts every byte', async () => {
    const html = join(folder, 'rd.html');
    const frames = join(folder, 'frames.json');
    const { result, out } = await benchRd(
      ...['--bundle', bundle, '--labels', labels, '--html', html, '--frames', frames],
    );
    const manifest = await readBundle(bundle);
    expect(result).toMatchObject({ model: 'classifier', images: numPictures, metric: 'top1', skipped: [] });
    const expected = manifest.codecs.flatMap(({ id, paths, levels }) =>
      paths.flatMap(({ from, to }) => levels.map((_, level) => `${id} ${from} ${to} ${level}`)),
    );
    const measured = result.points.map(({ method, from, to, level }) => `${method} ${from} ${to} ${level}`);
    expect(measured.sort()).toEqual(expected.sort());
    for (const method of ['raw', 'quantized', 'jpeg', 'webp', 'avif']) {
      expect(result.points.some((point) => point.method === method)).toBe(true);
    }
    for (const point of result.points.filter(({ method, level }) => method === 'raw' && level === 0)) {
      const { numBytes } = manifest.cuts[point.from]!;
      expect(point.bpp).toBeCloseTo((8 * (20 + numBytes)) / side ** 2, 10);
      expect(point).toMatchObject({ agreement: 1, top1: result.uncompressed.top1 });
    }
    const webp = result.points.filter(({ method }) => method === 'webp');
    expect(webp[0]!.bpp).toBeGreaterThan(webp.at(-1)!.bpp);
    for (const { encodeMs, decodeMs, deviceMs, cloudMs, from } of result.points) {
      for (const ms of [encodeMs, decodeMs, cloudMs]) expect(ms).toBeGreaterThanOrEqual(0);
      expect(deviceMs > 0).toBe(from > 0);
    }
    expect(result.bdRate.map(({ against }) => against)).toContain('webp');
    expect(out).toContain('BD-rate');
    const frameSet = parseFrameSet(await readFile(frames, 'utf8'), frames);
    expect(frameSet.names).toHaveLength(numPictures);
    for (const { method, from, level, bpp, agreement, top1 } of result.points) {
      const trial = frameSet.trials.find(
        (one) => one.codec === method && one.from === from && one.level === level,
      );
      const mean = (values: readonly number[] = []) => values.reduce((a, b) => a + b, 0) / numPictures;
      expect((8 * mean(trial?.numBytes)) / side ** 2).toBeCloseTo(bpp, 10);
      expect([mean(trial?.agreement), mean(trial?.right)]).toEqual([
        expect.closeTo(agreement, 10),
        expect.closeTo(top1 ?? -1, 10),
      ]);
    }
    const page = await readFile(html, 'utf8');
    expect(page).toContain('prefers-color-scheme: dark');
    expect(page).not.toMatch(/(src|href)=|@import|url\(/);
    expect(page.match(/<circle/g)!.length).toBeGreaterThanOrEqual(result.points.length / 2);
  });

  it('measures agreement where there are no labels, of the methods asked for', async () => {
    const { result } = await benchRd('--bundle', bundle, '--methods', 'quantized, jpeg', '--limit', '5');
    expect(result).toMatchObject({ images: 5, metric: 'agreement', uncompressed: { top1: 1 } });
    expect(new Set(result.points.map(({ method }) => method))).toEqual(new Set(['quantized', 'jpeg']));
    for (const { top1, agreement } of result.points) expect(top1).toBe(agreement);
  });

  it('takes over what an earlier run measured of the same pictures', async () => {
    const earlier = join(folder, 'earlier.json');
    const first = await benchRd('--bundle', bundle, '--methods', 'jpeg,raw', '--limit', '5');
    await writeFile(earlier, JSON.stringify(first.result));
    const again = ['--bundle', bundle, '--methods', 'raw,webp', '--with', earlier];
    const { result } = await benchRd(...again, '--limit', '5');
    const of = ({ points }: RdResult, id: string) => points.filter(({ method }) => method === id);
    expect(of(result, 'jpeg')).toEqual(of(first.result, 'jpeg'));
    expect(of(result, 'raw')).toHaveLength(of(first.result, 'raw').length);
    expect(result.runs.map(({ methods }) => methods)).toEqual([['jpeg'], ['raw', 'webp']]);
    expect(Object.keys(result.identity.codecs).sort()).toEqual(['jpeg', 'raw', 'webp']);
    expect(result.bdRate).toContainEqual(expect.objectContaining({ method: 'jpeg', against: 'webp' }));

    // Put together from both, with what neither has.
    const other = join(folder, 'other.json');
    await writeFile(other, JSON.stringify(result));
    const rest = ['--bundle', bundle, '--limit', '5', '--with', other, '--with', earlier];
    const whole = await benchRd(...rest);
    expect(whole.result.runs.map(({ methods }) => methods)).toEqual([
      ['jpeg'],
      ['raw', 'webp'],
      ['quantized', 'avif'],
    ]);
    await writeFile(other, JSON.stringify(whole.result));
    expect((await benchRd(...rest)).result).toEqual(whole.result);

    await expect(benchRd(...again, '--limit', '6')).rejects.toThrow('other pictures');
    const refused = async (change: object) => {
      await writeFile(earlier, JSON.stringify({ ...first.result, ...change }));
      return benchRd(...again, '--limit', '5');
    };
    const { identity } = first.result;
    await expect(refused({ identity: { ...identity, segments: 'x' } })).rejects.toThrow('another model');
    const codecs = { ...identity.codecs, jpeg: 'x' };
    await expect(refused({ identity: { ...identity, codecs } })).rejects.toThrow('jpeg');
    await expect(refused({ metric: 'top1' })).rejects.toThrow('top1, not agreement');
    await expect(refused({ points: [{}] })).rejects.toThrow('not a result of isthmus bench rd');
    await writeFile(earlier, '{');
    await expect(benchRd(...again)).rejects.toThrow('not JSON');
    await rm(earlier);
    await expect(benchRd(...again)).rejects.toThrow('cannot be read');
  });

  it('reports pictures that are broken, and goes on without them', async () => {
    await writeFile(join(images, 'broken.jpg'), 'no picture at all');
    try {
      const { result, notes } = await benchRd('--bundle', bundle, '--methods', 'raw');
      expect(result).toMatchObject({ images: numPictures, skipped: ['broken.jpg'] });
      expect(notes).toContain('broken.jpg is left out');
    } finally {
      await rm(join(images, 'broken.jpg'));
    }
  });

  it('measures average precision of detectors, against their own boxes or those given', async () => {
    const target = await split('detector', detector());
    const manifest = await readBundle(target);
    const task: Manifest['task'] = {
      ...{ kind: 'detection', output: 'grid', decoder: 'yolo-v2', scoreThreshold: 0.2, iouThreshold: 0.5 },
      ...{ anchors: [[0.6, 0.8] as [number, number], [1.2, 1] as [number, number]], labels: ['cat', 'dog'] },
    };
    await writeFile(join(target, 'manifest.json'), formatManifest({ ...manifest, task }));
    const own = (await benchRd('--bundle', target, '--methods', 'raw,quantized')).result;
    expect(own).toMatchObject({ metric: 'ap50', uncompressed: { top1: null, ap50: 1 } });
    for (const { method, level, ap50, agreement } of own.points) {
      expect(ap50).toBe(agreement);
      if (method === 'raw' && level === 0) expect(ap50).toBe(1);
    }
    expect(Math.min(...own.points.map(({ ap50 }) => ap50!))).toBeLessThan(1);
    const boxes = join(folder, 'boxes.csv');
    await writeFile(
      boxes,
      'file,label,x,y,width,height\nb.png,dog,5,5,20,20\nc.png,cat,400,400,9,9\nd.png\n',
    );
    const { result } = await benchRd('--bundle', target, '--methods', 'raw', '--boxes', boxes);
    expect(result).toMatchObject({ images: 2, metric: 'ap50' });
    // The cat's box lies outside its picture, where nothing is found.
    expect(result.uncompressed.ap50).toBeLessThanOrEqual(0.5);
    expect(result.points[0]).toMatchObject({ agreement: 1, ap50: result.uncompressed.ap50 });
  });

  it('says what is wrong before it measures', async () => {
    const wrongLabels = join(folder, 'wrong.csv');
    await writeFile(wrongLabels, 'file,label\nb.png,3\n');
    const otherLabels = join(folder, 'other.csv');
    await writeFile(otherLabels, 'file,label\nelsewhere.png,1\n');
    const empty = join(folder, 'empty');
    await mkdir(empty);
    const blind = await split('blind', classifier());
    const json = join(folder, 'out.json');
    const base = { bundle, images, json };
    const cases: [Record<string, string>, RegExp][] = [
      [{ ...base, labels: wrongLabels }, /line 2: "3" is no class; they are 0 to 2/],
      [{ ...base, labels: otherLabels }, /No file that .*other.csv names is in/],
      [{ ...base, labels: join(folder, 'none.csv') }, /none.csv cannot be read/],
      [{ ...base, boxes: otherLabels }, /its truth goes in --labels/],
      [{ ...base, images: join(folder, 'nowhere') }, /nowhere cannot be read/],
      [{ ...base, images: empty }, /no picture in/],
      [{ ...base, methods: 'webp,h264' }, /no method "h264"; it has raw, quantized, jpeg, webp, avif/],
      [{ ...base, json: join(folder, 'missing', 'out.json') }, /cannot be written/],
      [{ ...base, bundle: blind }, /neither classifies nor detects/],
      [{ ...base, limit: '0' }, /--limit/],
      [{ bundle, json }, /--images/],
    ];
    for (const [options, message] of cases) {
      const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
      const { exitCode, notes, out } = await run('bench', 'rd', ...flags);
      expect(notes).toMatch(message);
      expect(exitCode, notes).toBe(2);
      expect(out).toBe('');
    }
    expect((await run('bench', 'rd', '--bundle', empty, '--images', images, '--json', json)).exitCode).toBe(
      1,
    );
    expect((await run('bench', 'everything', '--json', json)).notes).toContain('there are: rd');
    await expect(readFile(json)).rejects.toThrow();
  });
});
