import {
  builtinCodecs,
  type CodecEntry,
  calibratedCodec,
  createTensor,
  type FileRef,
  findCodecKind,
  formatManifest,
  isIsthmusError,
  type Manifest,
  type NamedTensors,
  parseManifest,
  type Runtime,
  sha256Hex,
} from '@isthmus/core';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Bundle, bundleSpan } from '../bundle.js';
import type { ModelProto } from '../onnx_pb.js';
import { splitModel } from '../split.js';
import { chainModel, unetModel } from '../testing/models.js';
import { writeModel } from '../write.js';
import { calibrateBundle } from './calibrate.js';
import { createComparison, type Fidelity, meanFidelity } from './fidelity.js';

// Discs of a colour on a slope of another: edges, flat parts and gradients, as in photographs.
function makeFrame(seed: number): NamedTensors {
  const data = new Float32Array(3 * 32 * 32);
  const random = (k: number): number => ((seed * 7919 + k * 104729 + 12345) % 1000) / 1000;
  for (let channel = 0; channel < 3; channel++) {
    for (let y = 0; y < 32; y++) {
      for (let x = 0; x < 32; x++) {
        let value = random(channel) + (random(9) - 0.5) * (x / 16) + (random(8) - 0.5) * (y / 16);
        for (let disc = 0; disc < 3; disc++) {
          const [cx, cy, r] = [32 * random(20 + disc), 32 * random(30 + disc), 3 + 8 * random(40 + disc)];
          if ((x - cx) ** 2 + (y - cy) ** 2 < r * r) value = 2 * random(50 + 3 * disc + channel) - 0.5;
        }
        data[(channel * 32 + y) * 32 + x] = value;
      }
    }
  }
  return { image: createTensor('float32', [1, 3, 32, 32], data) };
}

const fitFrames = Array.from({ length: 24 }, (_, i) => makeFrame(i + 1));
const testFrames = Array.from({ length: 12 }, (_, i) => makeFrame(i + 101));
const tuning = { numProbes: 32, numProbeFrames: 2, maxValues: 20_000, maxBlockSize: 128 };

let runtime: Runtime;
let chain: Bundle;
let unet: Bundle;

async function split(model: ModelProto, cutAt: string[][]): Promise<Bundle> {
  const provenance = { source: 'a test', licence: 'none' };
  return splitModel(writeModel(model), { runtime, name: 'test', provenance, profileRuns: 0, cutAt });
}

beforeAll(async () => {
  runtime = createNodeRuntime({ threads: 1 });
  chain = await calibrateBundle(await split(chainModel('N'), [['block1'], ['features']]), {
    runtime,
    frames: fitFrames,
    tuning,
  });
  unet = await calibrateBundle(await split(unetModel(), [['down1', 'down2']]), {
    runtime,
    frames: fitFrames,
    tuning,
    cuts: [1],
  });
}, 60_000);
afterAll(() => runtime.close());

const entryOf = ({ manifest }: Bundle, id: string): CodecEntry =>
  manifest.codecs.find((entry) => entry.id === id)!;

/** A cut's calibrated codecs: to principal components, with scaled channels, or both. */
const calibratedAt = ({ manifest }: Bundle, cut: number): CodecEntry[] =>
  manifest.codecs.filter(({ kind, paths }) => kind === calibratedCodec.kind && paths[0]!.from === cut);

async function open(bundle: Bundle, entry: CodecEntry) {
  const context = {
    manifest: bundle.manifest,
    entry,
    runtime,
    readFile: async ({ path }: FileRef) => bundle.files.get(path)!,
  };
  const kind = findCodecKind(builtinCodecs, entry);
  return { encoder: await kind.createEncoder(context), decoder: await kind.createDecoder(context) };
}

async function atCut(bundle: Bundle, cut: number, frames: readonly NamedTensors[]): Promise<NamedTensors[]> {
  if (cut === 0) return [...frames];
  const session = await runtime.load(bundleSpan(bundle, 0, cut));
  const results: NamedTensors[] = [];
  for (const frame of frames) results.push((await session.run(frame)).outputs);
  await session.release();
  return results;
}

/** All levels of a cut's calibrated codecs, from the most bytes. */
async function measureCalibrated(bundle: Bundle, cut: number): Promise<Measured[]> {
  const all: Measured[] = [];
  for (const entry of calibratedAt(bundle, cut)) all.push(...(await measure(bundle, entry, cut)));
  return all.sort((a, b) => b.numBytes - a.numBytes);
}

interface Measured extends Fidelity {
  numBytes: number;
}

async function measure(bundle: Bundle, entry: CodecEntry, cut: number): Promise<Measured[]> {
  const { encoder, decoder } = await open(bundle, entry);
  const tail = await runtime.load(bundleSpan(bundle, cut, bundle.manifest.cuts.length - 1));
  const compare = createComparison(bundle.manifest);
  const frames = await atCut(bundle, cut, testFrames);
  const results: Measured[] = [];
  for (const level of entry.levels.keys()) {
    const path = { from: cut, to: cut, level };
    let numBytes = 0;
    const all: Fidelity[] = [];
    for (const frame of frames) {
      const payload = await encoder.encode(frame, path);
      expect(payload.byteLength).toBeLessThanOrEqual(decoder.maxPayloadBytes(path));
      numBytes += payload.byteLength / frames.length;
      const expected = (await tail.run(frame)).outputs;
      all.push(compare(expected, (await tail.run(await decoder.decode(payload, path))).outputs));
    }
    results.push({ ...meanFidelity(all), numBytes });
  }
  await tail.release();
  return results;
}

/** Bytes at which a codec's divergence is that small, between its levels. */
function bytesAt(measured: readonly Measured[], divergence: number): number {
  for (let i = 1; i < measured.length; i++) {
    const [a, b] = [measured[i - 1]!, measured[i]!];
    if (a.divergence > divergence || b.divergence <= divergence) continue;
    const share = (divergence - a.divergence) / (b.divergence - a.divergence);
    return a.numBytes + share * (b.numBytes - a.numBytes);
  }
  return Number.NaN;
}

describe('calibrateBundle', () => {
  it('adds a codec for every cut to a sound manifest, with its files and the hash of its tables', async () => {
    const manifest: Manifest = parseManifest(formatManifest(chain.manifest));
    const added = manifest.codecs.filter(({ kind }) => kind === calibratedCodec.kind);
    for (const { id, paths } of added) {
      expect(id).toMatch(/^calibrated-[012](-channels)?$/);
      expect(paths).toEqual([{ from: Number(id[11]), to: Number(id[11]) }]);
    }
    expect(new Set(added.map(({ id }) => id[11]))).toEqual(new Set(['0', '1', '2']));
    for (const { files, tablesSha256 } of added) {
      for (const { path, numBytes, sha256 } of files) {
        const bytes = chain.files.get(path)!;
        expect([bytes.byteLength, await sha256Hex(bytes)]).toEqual([numBytes, sha256]);
      }
      expect(files.find(({ path }) => path.endsWith('tables.json'))!.sha256).toBe(tablesSha256);
    }
  });

  it('records levels from faithful to rough, each with fewer bytes and more divergence than the last', () => {
    for (const cut of [0, 1]) {
      const entries = calibratedAt(chain, cut);
      for (const { levels } of entries) {
        const bytes = levels.map(({ params }) => params.numBytes as number);
        expect(bytes).toEqual([...bytes].sort((a, b) => b - a));
      }
      const levels = entries
        .flatMap((entry) => entry.levels)
        .map(({ params }) => params as unknown as Measured)
        .sort((a, b) => b.numBytes - a.numBytes);
      expect(levels.length).toBeGreaterThanOrEqual(4);
      expect(levels[0]!.divergence).toBeLessThan(levels.at(-1)!.divergence / 100);
    }
  });

  it('measures on frames held out what holds on other frames', async () => {
    const [entry] = calibratedAt(chain, 1);
    const levels = entry!.levels.map(({ params }) => params as unknown as Measured);
    const measured = await measure(chain, entry!, 1);
    measured.forEach(({ numBytes }, level) => {
      expect(numBytes / levels[level]!.numBytes).toBeGreaterThan(0.6);
      expect(numBytes / levels[level]!.numBytes).toBeLessThan(1.6);
    });
  });

  it('takes far fewer bytes than quantized for the same divergence', async () => {
    const quantized = await measure(chain, entryOf(chain, 'quantized'), 1);
    const calibrated = await measureCalibrated(chain, 1);
    const pairs = quantized
      .map(({ divergence, numBytes }) => [bytesAt(calibrated, divergence), numBytes] as const)
      .filter(([bytes]) => !Number.isNaN(bytes));
    expect(pairs.length).toBeGreaterThan(1);
    for (const [bytes, quantizedBytes] of pairs) expect(bytes).toBeLessThan(0.85 * quantizedBytes);
  });

  it('codes every tensor of a cut of several', async () => {
    const measured = await measureCalibrated(unet, 1);
    expect(measured[0]!.divergence).toBeLessThan(0.005);
    expect(measured.at(-1)!.numBytes).toBeLessThan(measured[0]!.numBytes / 4);
  });

  it('refuses too few frames', async () => {
    await expect(calibrateBundle(chain, { runtime, frames: fitFrames.slice(0, 3) })).rejects.toMatchObject({
      code: 'usage/invalid',
    });
  });
});

describe('calibrated', () => {
  const path = { from: 1, to: 1, level: 1 };

  it('sends a frame that does not compress as it is', async () => {
    const { encoder, decoder } = await open(chain, calibratedAt(chain, 1)[0]!);
    const { name, shape } = chain.manifest.cuts[1]!.tensors[0]!;
    const noise = Float32Array.from({ length: 16 * 16 * 16 }, (_, i) => Math.sin(i * i) * 1e9);
    const frame = { [name]: createTensor('float32', shape, noise) };
    const payload = await encoder.encode(frame, path);
    expect(payload.byteLength).toBe(decoder.maxPayloadBytes(path));
    expect(await decoder.decode(payload, path)).toEqual(frame);
  });

  it('refuses what is not a number', async () => {
    const { encoder } = await open(chain, calibratedAt(chain, 1)[0]!);
    const { name, shape } = chain.manifest.cuts[1]!.tensors[0]!;
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const data = new Float32Array(16 * 16 * 16);
      data[100] = bad;
      await expect(
        encoder.encode({ [name]: createTensor('float32', shape, data) }, path),
      ).rejects.toMatchObject({
        code: 'tensor/not-finite',
      });
    }
  });

  it('answers damaged payloads with codec/corrupt or with tensors of the right shape', async () => {
    const { encoder, decoder } = await open(unet, calibratedAt(unet, 1)[0]!);
    const [frame] = await atCut(unet, 1, testFrames.slice(0, 1));
    const payload = await encoder.encode(frame!, path);
    let numCorrupt = 0;
    for (let round = 0; round < 200; round++) {
      const damaged = Uint8Array.from(payload).subarray(
        0,
        round % 3 === 0 ? (round * 37) % payload.length : undefined,
      );
      const at = (round * 7919) % payload.length;
      if (at < damaged.length) damaged[at] = damaged[at]! ^ (1 << (round % 8));
      try {
        const decoded = await decoder.decode(damaged, path);
        for (const { name, shape } of unet.manifest.cuts[1]!.tensors)
          expect(decoded[name]!.shape).toEqual(shape);
      } catch (error) {
        if (!isIsthmusError(error, 'codec/corrupt')) throw error;
        numCorrupt++;
      }
    }
    expect(numCorrupt).toBeGreaterThan(150);
  });

  it('names what is wrong with a bundle whose parts do not go together', async () => {
    const entry = calibratedAt(chain, 1)[0]!;
    const other = calibratedAt(chain, 2)[0]!;
    const swap = (bytes: Map<string, Uint8Array>): Bundle => ({
      manifest: chain.manifest,
      files: new Map([...chain.files, ...bytes]),
    });
    const tablesPath = entry.files[0]!.path;
    const foreign = swap(new Map([[tablesPath, chain.files.get(other.files[0]!.path)!]]));
    await expect(open(foreign, entry)).rejects.toMatchObject({ code: 'bundle/invalid' });
    await expect(open(chain, { ...entry, files: [] })).rejects.toMatchObject({ code: 'bundle/invalid' });
    const encoderPath = entry.files.find(({ path: file }) => file.endsWith('encoder-0.onnx'))!.path;
    const unreadable = await open(swap(new Map([[encoderPath, new Uint8Array(9)]])), entry);
    const [frame] = await atCut(chain, 1, testFrames.slice(0, 1));
    await expect(unreadable.encoder.encode(frame!, path)).rejects.toMatchObject({
      code: 'runtime/load-failed',
    });
  });
});
