import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseManifest } from '@isthmus/core';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeClassifier as writeClassifierTo } from './testing/classifier.js';
import { run } from './testing/command-line.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'isthmus-cli-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const writeClassifier = (name: string): Promise<string> => writeClassifierTo(join(folder, name));

describe('isthmus', () => {
  it.each(['pull', 'split', 'codec', 'serve', 'run', 'demo', 'bench'])(
    '%s --help tells its options and an example',
    async (name) => {
      const { exitCode, out } = await run(name, '--help');
      expect(exitCode).toBe(0);
      expect(out).toContain('--json');
      expect(out).toMatch(new RegExp(`isthmus ${name}`));
      expect(out).toMatch(/Example/i);
    },
  );

  it('says what a wrong command line is wrong about, and exits with 2', async () => {
    const cases: [string[], RegExp][] = [
      [[], /Say which command: pull, split, codec, train, serve, run, demo/],
      [['splice'], /no command "splice"/],
      [['split'], /missing required args/i],
      [['split', 'x.onnx', '--bogus'], /Unknown option `--bogus`/],
      [['serve', folder, '--port', 'http'], /--port/],
      [['split', 'x.onnx', '--fit', 'squeeze'], /--fit/],
      [['demo', '--rate', 'fast'], /--rate/],
      [['run', 'ftp://somewhere', 'x.jpg'], /must start with wss:/],
    ];
    for (const [args, expected] of cases) {
      const { exitCode, notes } = await run(...args);
      expect(notes, args.join(' ')).toMatch(expected);
      expect(exitCode, args.join(' ')).toBe(2);
    }
  });

  it('prints errors as JSON when asked for JSON', async () => {
    const { exitCode, out } = await run('split', join(folder, 'nothing.onnx'), '--json');
    expect(exitCode).toBe(1);
    expect(JSON.parse(out)).toMatchObject({ error: { code: 'model/not-onnx' } });
  });
});

describe('isthmus split', () => {
  it('writes a bundle with picture and labels, verified at every cut', async () => {
    const model = await writeClassifier('classifier.onnx');
    const labels = join(folder, 'labels.txt');
    await writeFile(labels, 'cat\ndog\nship\n');
    const bundle = join(folder, 'bundle');
    const args = [
      model,
      '--out',
      bundle,
      '--picture',
      'imagenet',
      '--labels',
      labels,
      '--logits',
      '--verify',
      '--json',
    ];
    const { exitCode, out, notes } = await run('split', ...args);
    expect(notes).not.toContain('isthmus:');
    expect(exitCode).toBe(0);
    const { cuts } = JSON.parse(out) as { cuts: { difference: number }[] };
    expect(cuts.length).toBeGreaterThan(2);
    for (const cut of cuts) expect(cut.difference).toBeLessThanOrEqual(1e-4);
    const manifest = parseManifest(await readFile(join(bundle, 'manifest.json'), 'utf8'));
    expect(manifest.preprocess).toMatchObject({ width: 16, height: 16, colorOrder: 'rgb' });
    expect(manifest.task).toEqual({
      kind: 'classification',
      output: 'scores',
      activation: 'softmax',
      labels: ['cat', 'dog', 'ship'],
    });
    expect(manifest.provenance).toMatchObject({ source: 'classifier.onnx', licence: 'unknown' });
  });

  it('calibrates codecs on the pictures in a folder, and only for models that take pictures', async () => {
    const model = await writeClassifier('calibrated.onnx');
    const pictures = join(folder, 'pictures', 'inner');
    await mkdir(pictures, { recursive: true });
    for (let picture = 0; picture < 6; picture++) {
      const svg = `<svg width="24" height="20"><circle cx="${5 + 2 * picture}" cy="9" r="6" fill="#c${picture}8"/></svg>`;
      await writeFile(join(pictures, `${picture}.png`), await sharp(Buffer.from(svg)).png().toBuffer());
    }
    const bundle = join(folder, 'calibrated');
    const args = [
      'split',
      model,
      '--out',
      bundle,
      '--segments',
      '2',
      '--calibrate',
      join(folder, 'pictures'),
    ];
    const blind = await run(...args);
    expect(blind.exitCode).toBe(2);
    expect(blind.notes).toContain('--picture');
    const { exitCode, out } = await run(...args, '--picture', 'unit', '--calibrate-limit', '5');
    expect(exitCode).toBe(0);
    // Of the two transforms each cut keeps the levels that are worth their bytes.
    expect(out).toMatch(/calibrated-1(-channels)? +level-0/);
    const { codecs } = parseManifest(await readFile(join(bundle, 'manifest.json'), 'utf8'));
    for (const { files, levels } of codecs.filter(({ kind }) => kind === 'calibrated')) {
      for (const { path, numBytes } of files) {
        expect((await readFile(join(bundle, path))).byteLength).toBe(numBytes);
      }
      for (const { params } of levels) expect(params.numBytes).toBeGreaterThan(0);
    }
    const tooFew = await run(...args, '--picture', 'unit', '--calibrate-limit', '3');
    expect(tooFew.exitCode).toBe(2);
  });

  it('cuts where it is told, and says where one could', async () => {
    const model = await writeClassifier('cut.onnx');
    const bundle = join(folder, 'cut');
    expect((await run('split', model, '--out', bundle)).exitCode).toBe(0);
    const tensorsOf = async (): Promise<string[]> => {
      const { cuts } = parseManifest(await readFile(join(bundle, 'manifest.json'), 'utf8'));
      return cuts.slice(1, -1).map(({ tensors }) => tensors.map(({ name }) => name).join('+'));
    };
    const [first = '', second = ''] = await tensorsOf();
    const both = await run('split', model, '--out', bundle, '--cut-at', first, '--cut-at', second);
    expect(both.exitCode).toBe(0);
    expect(await tensorsOf()).toEqual([first, second]);
    expect((await run('split', model, '--out', bundle, '--cut-at', second)).exitCode).toBe(0);
    expect(await tensorsOf()).toEqual([second]);
    const wrong = await run('split', model, '--out', bundle, '--cut-at', 'nothing+at-all');
    expect(wrong.exitCode).toBe(1);
    expect(wrong.notes).toContain('bundle/no-such-cut');
    expect(await tensorsOf()).toEqual([second]);
  });

  it('replaces a bundle, but nothing else', async () => {
    const model = await writeClassifier('again.onnx');
    const bundle = join(folder, 'again');
    expect((await run('split', model, '--out', bundle)).exitCode).toBe(0);
    expect((await run('split', model, '--out', bundle)).exitCode).toBe(0);
    const other = join(folder, 'photos');
    await mkdir(other);
    await writeFile(join(other, 'precious.txt'), 'keep me');
    const { exitCode, notes } = await run('split', model, '--out', other);
    expect(notes).toContain('bundle/invalid');
    expect(exitCode).toBe(1);
    expect(await readFile(join(other, 'precious.txt'), 'utf8')).toBe('keep me');
  });

  it('names what is wrong with a file', async () => {
    const model = await readFile(await writeClassifier('whole.onnx'));
    const cases: [string, Uint8Array, string][] = [
      ['text.onnx', new TextEncoder().encode('this is no model'), 'model/'],
      ['half.onnx', model.subarray(0, model.length >> 1), 'model/truncated'],
      ['empty.onnx', new Uint8Array(0), 'model/'],
      ['text.tflite', new TextEncoder().encode('this is no model either'), 'model/'],
    ];
    for (const [name, bytes, code] of cases) {
      await writeFile(join(folder, name), bytes);
      const { exitCode, notes } = await run('split', join(folder, name), '--out', join(folder, 'never'));
      expect(notes, name).toContain(`[${code}`);
      expect(exitCode, name).toBe(1);
    }
  });

  it('wants labels for every value, and shapes that can be read', async () => {
    const model = await writeClassifier('labelled.onnx');
    const labels = join(folder, 'two.txt');
    await writeFile(labels, 'cat\ndog\n');
    const wrong = await run('split', model, '--out', join(folder, 'never'), '--labels', labels);
    expect(wrong.notes).toMatch(/has 2 labels, but the output scores has 3 values/);
    const shape = await run('split', model, '--out', join(folder, 'never'), '--input-shape', 'image');
    expect(shape.notes).toContain('--input-shape looks like');
  });
});

describe('isthmus pull', () => {
  it('lists the base models', async () => {
    const { out } = await run('pull', '--json');
    const names = (JSON.parse(out) as { name: string }[]).map(({ name }) => name);
    expect(names).toEqual(['mobilenet-v1', 'resnet-50', 'tiny-yolo-v2']);
  });

  it('names them when asked for another', async () => {
    const { exitCode, notes } = await run('pull', 'gpt-9');
    expect(notes).toContain('mobilenet-v1');
    expect(notes).toContain('pull/unknown-model');
    expect(exitCode).toBe(1);
  });
});
