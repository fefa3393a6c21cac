import { type CodecPath, calibratedFiles, createTensor, type NamedTensors, type Tensor } from '@isthmus/core';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { launchBrowser } from '../support/browser.js';
import type { CalibratedFixture } from '../support/calibrated.js';
import {
  type CodecEnd,
  createCodecEnd,
  packFloats,
  packTensors,
  unpackTensors,
} from '../support/codec-end.js';
import { makeLearnedFixture } from '../support/learned.js';
import { type ServedPage, servePage } from '../support/page.js';

// The codecs in Chromium against those in Node, in both directions. Integers must be the same everywhere: a stream that
// one end decodes otherwise than the other meant it is noise. What the networks before and behind them compute differs
// in the last bits from machine to machine, and may.
const cuts = [2, 4];
let fixture: CalibratedFixture;
let served: ServedPage;
let browser: Browser;
let ends: Record<'browser' | 'Node', CodecEnd>;
/** Of each cut: what two frames give there, and nothing but zeros. */
let samples: Map<number, NamedTensors[]>;

beforeAll(async () => {
  fixture = await makeLearnedFixture();
  const { manifest, files, runtime, frames } = fixture;
  served = await servePage('codec-end-page.ts', files);
  browser = await launchBrowser();
  const page = await browser.newPage();
  await page.goto(served.url);
  await page.waitForFunction('globalThis.codecEnd !== undefined');
  ends = {
    browser: inPage(page),
    Node: createCodecEnd(manifest, async (path) => files.get(path)!, runtime),
  };
  samples = new Map();
  for (const cut of cuts) {
    const tensors: NamedTensors[] = [];
    for (const frame of frames.slice(0, 2)) tensors.push(await fixture.tensorsAt(cut, frame));
    tensors.push(mapTensors(tensors[0]!, () => 0));
    samples.set(cut, tensors);
  }
});

afterAll(async () => {
  await browser?.close();
  await served?.close();
  await fixture?.runtime.close();
});

function inPage(page: Page): CodecEnd {
  const call = (method: keyof CodecEnd, ...args: unknown[]) =>
    page.evaluate(`codecEnd.${method}(...${JSON.stringify(args)})`) as Promise<never>;
  return {
    encode: (...args) => call('encode', ...args),
    decode: (...args) => call('decode', ...args),
    decodePlanes: (...args) => call('decodePlanes', ...args),
    encodePlanes: (...args) => call('encodePlanes', ...args),
  };
}

function mapTensors(tensors: NamedTensors, map: (value: number) => number): NamedTensors {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { shape, data }]) => [
      name,
      createTensor('float32', shape, Float32Array.from(data as Float32Array, map)),
    ]),
  );
}

function findCodec(kind: string, cut: number): { id: string; paths: CodecPath[] } {
  const { id, levels } = fixture.manifest.codecs.find(
    (entry) => entry.kind === kind && entry.paths.some(({ from, to }) => from === cut && to === cut),
  )!;
  return { id, paths: levels.map((_, level) => ({ from: cut, to: cut, level })) };
}

const directions = [
  { from: 'browser', to: 'Node' },
  { from: 'Node', to: 'browser' },
] as const;

describe.each(['raw', 'quantized'])('%s', (kind) => {
  it('makes the same bytes of the same tensors, and the same tensors of those', async () => {
    for (const cut of cuts) {
      const { id, paths } = findCodec(kind, cut);
      for (const path of paths) {
        for (const tensors of samples.get(cut)!) {
          const packed = packTensors(tensors);
          const payload = await ends.Node.encode(id, path, packed);
          expect(await ends.browser.encode(id, path, packed)).toBe(payload);
          const decoded = await ends.Node.decode(id, path, payload);
          expect(await ends.browser.decode(id, path, payload)).toEqual(decoded);
        }
      }
    }
  });
});

describe('calibrated', () => {
  it.each(directions)('means in $to what it meant in $from, at every cut and level', async ({ from, to }) => {
    for (const cut of cuts) {
      const { id, paths } = findCodec('calibrated', cut);
      for (const path of paths) {
        for (const tensors of samples.get(cut)!) {
          const payload = await ends[from].encode(id, path, packTensors(tensors));
          const planes = await ends[from].decodePlanes(id, path, payload);
          expect(await ends[to].decodePlanes(id, path, payload)).toEqual(planes);
          const there = unpackTensors(await ends[to].decode(id, path, payload));
          const here = unpackTensors(await ends[from].decode(id, path, payload));
          for (const [name, tensor] of Object.entries(here)) expectAlike(there[name]!, tensor);
        }
      }
    }
  });

  it('makes the same bytes of the same components', async () => {
    for (const cut of cuts) {
      const { id, paths } = findCodec('calibrated', cut);
      for (const tensors of samples.get(cut)!) {
        const transformed = await transform(id, cut, tensors);
        for (const path of paths) {
          const stream = await ends.Node.encodePlanes(id, path, transformed);
          expect(await ends.browser.encodePlanes(id, path, transformed)).toBe(stream);
        }
      }
    }
  });

  it('carries what no integer can hold as it is', async () => {
    const { id, paths } = findCodec('calibrated', 2);
    const packed = packTensors(mapTensors(samples.get(2)![0]!, (value) => 1e30 * value));
    const payload = await ends.browser.encode(id, paths[0]!, packed);
    expect(payload).toBe(await ends.Node.encode(id, paths[0]!, packed));
    expect(await ends.Node.decode(id, paths[0]!, payload)).toEqual(packed);
    expect(await ends.browser.decode(id, paths[0]!, payload)).toEqual(packed);
  });
});

describe('learned', () => {
  it.each(directions)('means in $to what it meant in $from, also at a later cut', async ({ from, to }) => {
    const learned = fixture.manifest.codecs.filter(
      ({ kind, paths }) => kind === 'learned' && paths[0]!.from > 1,
    );
    expect(learned.map(({ paths }) => paths)).toEqual([[{ from: 2, to: 4 }], [{ from: 4, to: 4 }]]);
    for (const { id, paths, levels } of learned) {
      for (const level of levels.keys()) {
        const path = { ...paths[0]!, level };
        for (const tensors of samples.get(path.from)!) {
          const payload = await ends[from].encode(id, path, packTensors(tensors));
          expect(await ends[to].decodePlanes(id, path, payload)).toEqual(
            await ends[from].decodePlanes(id, path, payload),
          );
          const there = unpackTensors(await ends[to].decode(id, path, payload));
          const here = unpackTensors(await ends[from].decode(id, path, payload));
          for (const [name, tensor] of Object.entries(here)) expectAlike(there[name]!, tensor);
        }
      }
    }
  });
});

// Of the codec's transform, in Node.
async function transform(id: string, cut: number, tensors: NamedTensors): Promise<string[]> {
  const transformed: string[] = [];
  for (const [index, { name }] of fixture.manifest.cuts[cut]!.tensors.entries()) {
    const session = await fixture.runtime.load(fixture.files.get(calibratedFiles.encoder(id, index))!);
    const { outputs } = await session.run({ [session.inputNames[0]!]: tensors[name]! });
    transformed.push(packFloats(outputs[session.outputNames[0]!]!.data as Float32Array));
    await session.release();
  }
  return transformed;
}

// Of what is summed up to next to nothing, in a frame of zeros, the last bits remain. An integer that differed would
// make a hundred times more.
function expectAlike(actual: Tensor, expected: Tensor): void {
  expect(actual.shape).toEqual(expected.shape);
  const values = expected.data as Float32Array;
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const difference = values.reduce(
    (most, value, i) => Math.max(most, Math.abs(value - Number(actual.data[i]))),
    0,
  );
  expect(difference).toBeLessThanOrEqual(1e-4 * largest);
}
