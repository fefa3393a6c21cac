import { access, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseManifest } from '@isthmus/core';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeClassifier } from '../testing/classifier.js';
import { run, runUntilNote } from '../testing/command-line.js';

let folder: string;
/** A bundle that no test changes. */
let split: string;
let images: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'isthmus-train-command-'));
  images = join(folder, 'images');
  await mkdir(images);
  for (let i = 0; i < 24; i++) {
    const pixels = Uint8Array.from({ length: 768 }, (_, k) => 128 + 100 * Math.sin(k * 0.013 * (i + 1) + i));
    const picture = sharp(pixels, { raw: { width: 16, height: 16, channels: 3 } });
    await writeFile(join(images, `${i}.png`), await picture.png().toBuffer());
  }
  await writeFile(join(images, 'broken.jpg'), 'no picture at all');
  split = join(folder, 'split');
  const labels = join(folder, 'labels.txt');
  await writeFile(labels, 'cat\ndog\nship\n');
  const model = await writeClassifier(join(folder, 'classifier.onnx'));
  const args = ['--out', split, '--picture', 'unit', '--labels', labels, '--logits'];
  const made = await run('split', model, ...args);
  expect(made.exitCode, made.notes).toBe(0);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

let copies = 0;
async function copySplit(): Promise<string> {
  const path = join(folder, `bundle-${copies++}`);
  await cp(split, path, { recursive: true });
  return path;
}

const train = (bundle: string, ...args: string[]) =>
  run('train', bundle, '--data', images, '--from', '1', '--threads', '1', ...args);

describe('isthmus train', () => {
  it('adds a codec that was measured to the bundle, and leaves nothing else', async () => {
    const bundle = await copySplit();
    const { exitCode, out, notes } = await train(bundle, '--steps', '3');
    expect(exitCode, notes).toBe(0);
    expect(out).toMatch(
      /3 steps, 24 pictures, [\d.]+ images\/s; 1 pictures could not be read; weights stored/,
    );
    expect(out).toMatch(
      /The encoder takes [\d.]+ MFLOP, the device in all \d+: [\d.]+ % of the model's \d+\./,
    );
    expect(out).toMatch(/bpp before +after +output error before +after/);
    expect(out).toMatch(/bottleneck-1, cut 1\n\nlevel +bytes/);
    expect(notes).toMatch(
      /step 3\/3, loss [\d.]+, [\d.]+ bpp, held out: loss [\d.]+, agreement [\d.]+, [\d.]+ images\/s, 0 min left/,
    );
    const { codecs } = parseManifest(await readFile(join(bundle, 'manifest.json'), 'utf8'));
    const entry = codecs.at(-1);
    expect(entry).toMatchObject({ id: 'bottleneck-1', kind: 'learned', paths: [{ from: 1, to: 1 }] });
    expect(entry?.measured?.[0]).toHaveLength(entry?.levels.length ?? -1);
    await expect(access(join(bundle, '.training-bottleneck-1'))).rejects.toThrow(/ENOENT/);
    const again = await train(bundle, '--steps', '3');
    expect([again.exitCode, again.notes]).toEqual([2, expect.stringMatching(/bottleneck-1 already/)]);
  });

  it('saves when interrupted, and goes on', async () => {
    const bundle = await copySplit();
    const args = ['--data', images, '--from', '1', '--threads', '1', '--steps', '100000', '--seed', '4'];
    const checkpoint = join(bundle, '.training-bottleneck-1');
    const { exitCode, notes } = await runUntilNote(/step 1\//, 'train', bundle, ...args);
    expect(exitCode).toBe(130);
    expect(notes).toMatch(/Saved after step \d+\. Go on with the same command and --resume\./);
    await access(join(checkpoint, 'state.safetensors'));
    const other = await train(bundle, '--resume');
    expect(other.exitCode).toBe(2);
    expect(other.notes).toMatch(/has seed 4, not 1/);
  });

  it('trains what stands behind a picture, under a name that says so', async () => {
    const bundle = await copySplit();
    const args = ['--data', images, '--codec', 'pixels+adapter', '--format', 'jpeg', '--tune-to', '1'];
    const { exitCode, notes } = await run('train', bundle, ...args, '--threads', '1', '--steps', '2');
    expect(exitCode, notes).toBe(0);
    const { codecs } = parseManifest(await readFile(join(bundle, 'manifest.json'), 'utf8'));
    expect(codecs.at(-1)).toMatchObject({
      ...{ id: 'jpeg-adapter-tuned-1', kind: 'adapted', paths: [{ from: 0, to: 1 }] },
    });
  });

  it('refuses what cannot be, before anything is written', async () => {
    const bundle = await copySplit();
    const empty = join(folder, 'empty');
    await mkdir(empty, { recursive: true });
    const cases: [string[], RegExp, number][] = [
      [[bundle], /Say --data/, 2],
      [[bundle, '--data', images], /Say --from/, 2],
      [[bundle, '--data', empty, '--from', '1'], /no picture in/, 2],
      [[bundle, '--data', join(folder, 'none'), '--from', '1'], /cannot be read/, 2],
      [[bundle, '--data', images, '--from', '9'], /has cuts 0 to \d+ for a codec to leave at, not 9/, 2],
      [[bundle, '--data', images, '--from', '2', '--to', '1'], /lands there or later/, 2],
      [[bundle, '--data', images, '--codec', 'encoder'], /where it lands, such as 1/, 2],
      [[bundle, '--data', images, '--codec', 'pixels+adapter'], /--format/, 2],
      [[bundle, '--data', images, '--from', '1', '--network', 'huge'], /--network/, 2],
      [[bundle, '--data', images, '--from', '1', '--codec', 'other'], /--codec/, 2],
      [[bundle, '--data', images, '--from', '1', '--minutes', '0'], /--minutes/, 2],
      [[bundle, '--data', images, '--from', '1', '--minutes', '1', '--steps', '5'], /not both/, 2],
      [[bundle, '--data', images, '--from', '1', '--limit', '3'], /--limit/, 2],
      [[bundle, '--data', images, '--from', '1', '--name', 'raw'], /codec raw already/, 2],
      [[bundle, '--data', images, '--from', '1', '--resume'], /no training in .* to go on with/, 2],
      [[join(folder, 'nowhere'), '--data', images, '--from', '1'], /no bundle/, 1],
    ];
    for (const [args, message, exitCode] of cases) {
      const result = await run('train', ...args);
      expect(result.notes, args.join(' ')).toMatch(message);
      expect(result.exitCode, args.join(' ')).toBe(exitCode);
    }
    expect(await readFile(join(bundle, 'manifest.json'), 'utf8')).toBe(
      await readFile(join(split, 'manifest.json'), 'utf8'),
    );
  });
});
