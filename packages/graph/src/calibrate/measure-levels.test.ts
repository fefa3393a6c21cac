import { builtinCodecs, formatManifest, type NamedTensors, parseManifest, systemClock } from '@isthmus/core';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { afterAll, expect, it } from 'vitest';
import { firstFrame } from '../frames.js';
import { splitModel } from '../split.js';
import { chainModel } from '../testing/models.js';
import { writeModel } from '../write.js';
import { heldOutFrames } from './held-out.js';
import { measureLevels } from './measure-levels.js';

const runtime = createNodeRuntime({ threads: 1 });
afterAll(() => runtime.close());

async function splitChain() {
  const bundle = await splitModel(writeModel(chainModel('N')), {
    runtime,
    name: 'test',
    provenance: { source: 'a test', licence: 'none' },
    profileRuns: 0,
    cutAt: [['block1'], ['features']],
  });
  const frames = Array.from({ length: 6 }, (_, seed): NamedTensors => firstFrame(bundle.manifest, seed + 1));
  return { bundle, frames };
}

it('writes bytes, quality and times of every level at every path, in a manifest that can be read again', async () => {
  const { bundle, frames } = await splitChain();
  const measured = await measureLevels(bundle, {
    runtime,
    frames,
    codecs: builtinCodecs,
    clock: systemClock,
  });
  const manifest = parseManifest(formatManifest(measured.manifest));
  for (const { measured: paths, paths: expected, levels } of manifest.codecs) {
    expect(paths?.map((path) => path.length)).toEqual(expected.map(() => levels.length));
  }
  const [raw, quantized] = manifest.codecs;
  expect(raw?.measured?.[0]?.[0]).toMatchObject({
    numBytes: manifest.cuts[0]?.numBytes,
    numBytesDeviation: 0,
    quality: 1,
  });
  const bytes = quantized?.measured?.[0]?.map(({ numBytes }) => numBytes) ?? [];
  expect(bytes).toEqual([...bytes].sort((a, b) => b - a));
  const qualities = quantized?.measured?.[2]?.map(({ quality }) => quality) ?? [];
  expect(qualities[0]).toBeGreaterThan(qualities.at(-1) ?? 1);
  expect(quantized?.measured?.[0]?.every(({ encodeMs, decodeMs }) => encodeMs > 0 && decodeMs > 0)).toBe(
    true,
  );
});

it('leaves codecs it does not know unmeasured, and refuses to measure on nothing', async () => {
  const { bundle, frames } = await splitChain();
  const options = { runtime, clock: systemClock, frames };
  const known = builtinCodecs.filter(({ kind }) => kind === 'raw');
  const { manifest } = await measureLevels(bundle, { ...options, codecs: known });
  expect(manifest.codecs.map(({ kind, measured }) => [kind, measured !== undefined])).toEqual([
    ['raw', true],
    ['quantized', false],
  ]);
  await expect(measureLevels(bundle, { ...options, codecs: known, frames: [] })).rejects.toMatchObject({
    code: 'usage/invalid',
  });
});

it('measures only the codecs asked for, and leaves the others as they were', async () => {
  const { bundle, frames } = await splitChain();
  const options = { runtime, clock: systemClock, frames, codecs: builtinCodecs };
  const first = await measureLevels(bundle, { ...options, only: ['raw'] });
  expect(first.manifest.codecs.map(({ measured }) => measured !== undefined)).toEqual([true, false]);
  const both = await measureLevels(first, { ...options, only: ['quantized'] });
  expect(both.manifest.codecs[0]).toEqual(first.manifest.codecs[0]);
  expect(both.manifest.codecs[1]?.measured).toBeDefined();
});

it('holds out a quarter of the frames', () => {
  expect(heldOutFrames([0, 1, 2, 3, 4, 5, 6, 7])).toEqual([3, 7]);
});
