import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatManifest } from '@isthmus/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { main } from '../cli.js';
import type { LinkBenchResult } from './result.js';
import { smallManifest } from './testing/small-bundle.js';

let folder: string;
let bundle: string;
let json: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'isthmus-link-'));
  json = join(folder, 'link.json');
  bundle = await writeBundle('bundle', smallManifest);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function writeBundle(name: string, manifest: typeof smallManifest): Promise<string> {
  await mkdir(join(folder, name));
  await writeFile(join(folder, name, 'manifest.json'), formatManifest(manifest));
  return join(folder, name);
}

async function benchLink(...args: string[]) {
  const out: string[] = [];
  const notes: string[] = [];
  const exitCode = await main(['bench', 'link', '--json', json, ...args], {
    out: (text) => out.push(text),
    note: (text) => notes.push(text),
    env: {},
    signal: new AbortController().signal,
  });
  return { exitCode, out: out.join('\n'), notes: notes.join('\n') };
}

const readResult = async (): Promise<LinkBenchResult> => JSON.parse(await readFile(json, 'utf8'));

describe('isthmus bench link', () => {
  it('runs every policy over every trace, and shows it', async () => {
    const trace = join(folder, 'drive-1.up');
    await writeFile(trace, Array.from({ length: 400 }, (_, i) => 5 * i + 5).join('\n'));
    const html = join(folder, 'link.html');
    const traces = ['--trace', 'synthetic:step', '--trace', `${trace},synthetic:lte`];
    const options = ['--deadline', '120', '--deadline', '300', '--duration', '40', '--device-slowdown', '2'];
    const { exitCode, out, notes } = await benchLink(
      '--bundle',
      bundle,
      ...traces,
      ...options,
      '--html',
      html,
    );
    expect(exitCode, notes).toBe(0);
    const result = await readResult();
    expect(result).toMatchObject({
      model: 'small',
      sizes: 'means',
      deviceSlowdown: 2,
      maxDeviceCut: 2,
      seed: 1,
    });
    expect(result.traces.map(({ kind }) => kind)).toEqual([
      'synthetic:step',
      expect.stringMatching(/^isthmus-link-.*\/drive$/),
      'synthetic:lte',
    ]);
    expect(result.byTrace).toHaveLength(6);
    expect(result.byKind).toHaveLength(6);
    expect(result.overall.map(({ deadlineMs }) => deadlineMs)).toEqual([120, 300]);
    for (const { policies } of [...result.byTrace, ...result.overall]) {
      expect(policies.map(({ policy }) => policy)).toEqual([
        ...[
          'controller',
          'controller-loaded',
          'best-fixed',
          'rate-only',
          'throughput-rule',
          'split-only',
          'fixed:local',
          'oracle',
        ],
      ]);
      const oracle = policies.at(-1)!.metrics;
      expect(oracle).toMatchObject({ regret: 0 });
      for (const { metrics } of policies) {
        expect(metrics.utility).toBeLessThanOrEqual(1.005 * oracle.utility);
        expect(metrics.utility).toBeCloseTo(metrics.hitRate * (metrics.quality ?? 0), 9);
      }
    }
    const [step] = result.byTrace;
    expect(step!.policies.at(-1)!.metrics.drops!.count).toBe(2 - 1);
    // All frames: 400 of each trace.
    expect(result.overall[0]!.policies[0]!.metrics.frames).toBe(1200);
    expect(out).toContain('synthetic:step, deadline 120 ms');
    const page = await readFile(html, 'utf8');
    expect(page).toContain('prefers-color-scheme: dark');
    expect(page).not.toMatch(/(src|href)=|@import|url\(/);
    expect(page.match(/<svg/g)).toHaveLength(6);
  });

  it('gives the same result for the same seed, another for another', async () => {
    const run = async (seed: string) => {
      const { exitCode, notes } = await benchLink(
        ...['--bundle', bundle, '--trace', 'synthetic:3g', '--duration', '10', '--seed', seed],
      );
      expect(exitCode, notes).toBe(0);
      return (await readResult()).byTrace;
    };
    const first = await run('1');
    expect(await run('1')).toEqual(first);
    expect(await run('2')).not.toEqual(first);
  });

  it('replays the sizes of single frames, with the policies asked for', async () => {
    const frames = join(folder, 'frames.json');
    const trial = { codec: 'quantized', from: 0, to: 0, level: 0 };
    const names = ['a.png', 'b.png'];
    const trials = [{ ...trial, numBytes: [1020, 100_020], agreement: [1, 0] }];
    await writeFile(frames, JSON.stringify({ model: 'small', names, trials }));
    const policy = 'fixed:0/quantized/0';
    const { exitCode, notes } = await benchLink(
      ...['--bundle', bundle, '--trace', 'synthetic:step', '--duration', '10', '--frames', frames],
      ...['--policy', policy, '--device-slowdown', '1', '--cloud-slowdown', '0.1'],
    );
    expect(exitCode, notes).toBe(0);
    const result = await readResult();
    expect(result).toMatchObject({ sizes: 'frames', pictures: 2 });
    const [{ policies }] = result.byTrace as [LinkBenchResult['byTrace'][number]];
    // Every other frame is small enough: 100 kB take 80 ms at 10 Mbit/s, and the way there and back 40.
    expect(policies).toMatchObject([{ policy, metrics: { hitRate: 0.5, agreement: 1, regret: null } }]);
  });

  it('says what is wrong', async () => {
    const empty = join(folder, 'empty.up');
    await writeFile(empty, '');
    const foreign = join(folder, 'foreign.json');
    await writeFile(foreign, JSON.stringify({ model: 'other', names: ['a'], trials: [] }));
    const unmeasured = await writeBundle('unmeasured', {
      ...smallManifest,
      codecs: smallManifest.codecs.map(({ measured: _, ...codec }) => codec),
    });
    const base = { bundle, trace: 'synthetic:step' };
    const cases: [Record<string, string>, RegExp][] = [
      [{ bundle, trace: empty }, /empty.up is empty/],
      [{ bundle, trace: join(folder, 'none.up') }, /none.up cannot be read/],
      [{ bundle, trace: 'synthetic:fog' }, /no synthetic trace "fog"; there are: 3g, lte/],
      [{ bundle }, /--trace/],
      [{ ...base, policy: 'magic' }, /no policy "magic"; there are: controller/],
      [{ ...base, policy: 'fixed:2/raw/0' }, /"fixed:2\/raw\/0" is no plan/],
      [{ ...base, policy: 'fixed:local', 'max-device-cut': '1' }, /"fixed:local" is no plan/],
      [{ ...base, frames: foreign }, /frames are of other/],
      [{ ...base, deadline: '0' }, /--deadline/],
      [{ ...base, deadline: 'soon' }, /--deadline/],
      [{ trace: 'synthetic:step', bundle: unmeasured }, /No codec of small was measured/],
      [{ ...base, html: join(folder, 'missing', 'link.html') }, /cannot be written/],
      [{ ...base, images: folder }, /does not take --images/],
    ];
    for (const [options, message] of cases) {
      const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
      const { exitCode, notes, out } = await benchLink(...flags);
      expect(notes).toMatch(message);
      expect(exitCode, notes).toBe(2);
      expect(out).toBe('');
    }
  });
});
