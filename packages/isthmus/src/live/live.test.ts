import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createReceiver, type Receiver } from '@isthmus/cloud';
import { createNodeRuntime } from '@isthmus/runtime/node';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeClassifier } from '../testing/classifier.js';
import { run, runUntil } from '../testing/command-line.js';
import type { LiveLine } from './live-line.js';
import type { LiveSummary } from './live-summary.js';

const runtime = createNodeRuntime({ threads: 1 });
let folder: string;
let pictures: string;
let receiver: Receiver;
let url: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'isthmus-live-'));
  pictures = join(folder, 'pictures');
  await mkdir(pictures);
  for (const color of ['red', 'green', 'blue']) {
    const svg = `<svg width="24" height="20"><circle cx="9" cy="9" r="6" fill="${color}"/></svg>`;
    await writeFile(join(pictures, `${color}.png`), await sharp(Buffer.from(svg)).png().toBuffer());
  }
  const model = await writeClassifier(join(folder, 'classifier.onnx'));
  const bundle = join(folder, 'classifier');
  const { exitCode, notes } = await run('split', model, '--out', bundle, '--picture', 'imagenet');
  expect(exitCode, notes).toBe(0);
  receiver = await createReceiver({ bundles: [bundle], runtime });
  ({ url } = await receiver.listen(0));
});

afterAll(async () => {
  await receiver?.close();
  await runtime.close();
  await rm(folder, { recursive: true, force: true });
});

const outcomes = ['answered', 'late', 'skipped', 'dropped'];

describe('isthmus run --camera', () => {
  it('tells what became of every frame, in order, and sums up', async () => {
    const args = ['--camera', pictures, '--fps', '20', '--duration', '2', '--deadline', '1000', '--json'];
    const { exitCode, out, notes } = await run('run', url, ...args);
    expect(exitCode, notes).toBe(0);
    const printed = out.split('\n').map((line) => JSON.parse(line) as LiveLine | { summary: LiveSummary });
    const lines = printed.filter((line) => 'frame' in line);
    expect(lines.map(({ frame }) => frame)).toEqual(Array.from({ length: 40 }, (_, index) => index));
    expect(lines.slice(0, 4).map(({ image }) => image)).toEqual(
      ['blue', 'green', 'red', 'blue'].map((name) => `${name}.png`),
    );
    expect(lines.filter(({ outcome }) => !outcomes.includes(outcome))).toEqual([]);
    const answered = lines.filter(({ outcome }) => outcome === 'answered');
    expect(answered.length).toBeGreaterThan(10);
    for (const { plan, answer } of answered) {
      expect(plan).not.toBeNull();
      expect(answer).toBe('scores[1,3]');
    }
    const last = printed.at(-1);
    expect(last).toMatchObject({ summary: { frames: 40, answered: answered.length, failed: 0 } });
  });

  it('plays over a link that follows a trace, frame by frame for people', async () => {
    const trace = join(folder, 'steady.txt');
    await writeFile(trace, '0 4\n1 4\n2 4\n');
    const args = ['--camera', join(pictures, 'red.png'), '--fps', '10', '--duration', '1', '--live'];
    const { exitCode, out, notes } = await run('run', url, ...args, '--trace', trace, '--plan', '0/raw/0');
    expect(exitCode, notes).toBe(0);
    expect(notes).toContain('Playing 1 picture at 10 frames a second for 1 s');
    expect(notes).toContain('steady.txt: 4.00 Mbit/s on average');
    const rows = out.split('\n').filter((line) => /^ +0\.\d +4\.00 /.test(line));
    expect(rows).toHaveLength(10);
    expect(rows.every((row) => /(answered|late) .*cut 0 · raw float32/.test(row))).toBe(true);
    expect(out).toMatch(/frames +10: \d+ answered in time, \d+ late, 0 skipped, 0 dropped/);
    expect(out).toMatch(/sent .* in all/);
  });

  it('plays the pictures that a file lists', async () => {
    const list = join(folder, 'list.txt');
    await writeFile(list, `pictures/red.png\n\n${join(pictures, 'blue.png')}\n`);
    const { exitCode, out } = await run('run', url, '--camera', list, '--duration', '0.4', '--json');
    expect(exitCode).toBe(0);
    expect(out.match(/"image":"[a-z]+\.png"/g)).toEqual(
      ['red', 'blue', 'red', 'blue'].map((name) => `"image":"${name}.png"`),
    );
  });

  it('sums up what there was when it is interrupted', async () => {
    const interrupt = new AbortController();
    setTimeout(() => interrupt.abort('SIGINT'), 1_000);
    const ended = await runUntil(interrupt.signal, 'run', url, '--camera', pictures, '--duration', '3600');
    expect(ended.exitCode).toBe(130);
    expect(ended.out).toMatch(/frames +\d+: /);
  });

  it('says why frames failed, and exits with 1', async () => {
    const noPicture = join(folder, 'no.png');
    await writeFile(noPicture, 'this is no picture');
    const { exitCode, out, notes } = await run('run', url, '--camera', noPicture, '--duration', '0.3');
    expect(exitCode).toBe(1);
    expect(out).toContain('3 failed');
    expect(notes).toMatch(/3 of 3 frames failed: .*\[image\/decode-failed\]/);
  });

  it('says what a wrong command line is wrong about, and exits with 2', async () => {
    const cases: [string[], RegExp][] = [
      [[], /Name the pictures to run, or play some/],
      [['--camera', pictures, 'red.png'], /not both/],
      [['red.png', '--live', '--trace', 'synthetic:lte'], /Only with --camera there is --trace, --live/],
      [['--camera', join(folder, 'nowhere')], /nowhere cannot be read/],
      [['--camera', join(folder, 'classifier')], /There is no picture in/],
      [['--camera', pictures, '--trace', join(folder, 'nowhere')], /The trace .*nowhere cannot be read/],
      [['--camera', pictures, '--trace', 'synthetic:8g'], /no synthetic trace "8g"; there are: .*lte/],
      [['--camera', pictures, '--plan', 'all'], /one --plan/],
      [['--camera', pictures, '--plan', 'local', '--plan', 'auto'], /one --plan/],
      [['--camera', pictures, '--fps', '0'], /--fps: /],
      [['--camera', pictures, '--objective', 'speed'], /--objective: .*"latency"/],
      [['--camera', pictures, '--min-quality', '2'], /--min-quality: /],
    ];
    for (const [args, expected] of cases) {
      const { exitCode, notes } = await run('run', url, ...args);
      expect(notes, args.join(' ')).toMatch(expected);
      expect(exitCode, args.join(' ')).toBe(2);
    }
  });

  it('names the receiver that is not there, not the proxy before it', async () => {
    const gone = await createReceiver({ bundles: [join(folder, 'classifier')], runtime });
    const { url: nobody } = await gone.listen(0);
    await gone.close();
    const args = ['--model', 'classifier', '--camera', pictures, '--trace', 'synthetic:lte'];
    const { exitCode, notes } = await run('run', nobody, ...args);
    expect(exitCode).toBe(1);
    expect(notes).toContain(new URL(nobody).host);
    expect(notes).toContain('link/connect-failed');
  });
});
