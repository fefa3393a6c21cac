import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { IsthmusError, learnedCodec, type NamedTensors, type Runtime, systemClock } from '@isthmus/core';
import { type Bundle, bundleSpan, splitModel } from '@isthmus/graph';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { createSharpCoder } from '@isthmus/runtime/pictures';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Frame } from '../rd/pictures.js';
import { writeClassifier } from '../testing/classifier.js';
import { readWaves, wavePreprocess } from '../testing/waves.js';
import type { TrainingProgress } from './run-training.js';
import { openSamples } from './samples.js';
import { type TrainCodecOptions, type TrainedCodec, trainCodec } from './train-codec.js';

const names = Array.from({ length: 72 }, (_, index) => `picture-${index}`);

let folder: string;
let bundle: Bundle;
let runtime: Runtime;
let numFolders = 0;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'isthmus-train-'));
  runtime = createNodeRuntime({ threads: 1 });
  const model = await readFile(await writeClassifier(join(folder, 'classifier.onnx')));
  const split = await splitModel(model, {
    ...{ runtime, name: 'classifier', preprocess: wavePreprocess, profileRuns: 0 },
    provenance: { source: 'made by this test', licence: 'Apache-2.0' },
    task: { kind: 'classification', output: 'scores', activation: 'softmax', labels: ['a', 'b', 'c'] },
  });
  bundle = split;
});
afterAll(async () => {
  await runtime.close();
  await rm(folder, { recursive: true, force: true });
});

function optionsFor(more: Partial<TrainCodecOptions> = {}): TrainCodecOptions {
  return {
    ...{ bundle, runtime, clock: systemClock, names, readFrame: readWaves, isResumed: false, threads: 1 },
    coder: createSharpCoder(),
    choice: {
      ...{
        id: 'tiny',
        codec: 'bottleneck',
        from: 1,
        to: 1,
        tuneTo: 1,
        network: 'none',
        decoder: 'small',
        hasAdapter: false,
      },
      seed: 1,
    },
    folder: join(folder, `checkpoint-${numFolders++}`),
    length: { numSteps: 8 },
    tuning: { numProbes: 32, maxValues: 20_000 },
    signal: new AbortController().signal,
    ...more,
  };
}

const networksOf = ({ codec }: TrainedCodec): [string, Uint8Array][] =>
  [...codec.files].filter(([path]) => path.endsWith('.onnx'));

/** Trains until a step, is interrupted there, and says what it threw. */
async function interruptedAt(step: number, options: TrainCodecOptions): Promise<unknown> {
  const controller = new AbortController();
  const onProgress = (progress: TrainingProgress): void => {
    if (progress.stage === 'train' && progress.step === step) controller.abort(new Error('enough'));
  };
  return trainCodec({ ...options, signal: controller.signal, onProgress }).catch((error: unknown) => error);
}

interface CurvePoint {
  /** Logarithms of the mean bytes, and of the mean squared change of the scores. */
  bytes: number;
  loss: number;
}

/** What each level of a codec does to pictures that no training saw, through the codec as it was exported. */
async function curveOf({ codec }: TrainedCodec): Promise<CurvePoint[]> {
  const { manifest } = bundle;
  const readCodecFile = async ({ path }: { path: string }): Promise<Uint8Array> =>
    codec.files.get(path) ?? new Uint8Array();
  const context = { manifest, entry: codec.entry, runtime, readFile: readCodecFile };
  const [encoder, decoder] = [
    await learnedCodec.createEncoder(context),
    await learnedCodec.createDecoder(context),
  ];
  const head = await runtime.load(bundleSpan(bundle, 0, 1));
  const tail = await runtime.load(bundleSpan(bundle, 1, manifest.cuts.length - 1));
  const scoresOf = async (tensors: NamedTensors): Promise<Float32Array> =>
    (await tail.run(tensors)).outputs.scores?.data as Float32Array;
  const frames: { tensors: NamedTensors; scores: Float32Array }[] = [];
  for (let i = 0; i < 40; i++) {
    const { tensors } = await readWaves(`unseen-${1000 + i * 24}`);
    const { outputs } = await head.run(tensors);
    frames.push({ tensors: outputs, scores: await scoresOf(outputs) });
  }
  const points: CurvePoint[] = [];
  for (const level of codec.entry.levels.keys()) {
    const path = { from: 1, to: 1, level };
    let [bytes, loss] = [0, 0];
    for (const { tensors, scores } of frames) {
      const payload = await encoder.encode(tensors, path);
      const decoded = await scoresOf(await decoder.decode(payload, path));
      bytes += payload.byteLength / frames.length;
      loss += scores.reduce((sum, value, i) => sum + (value - (decoded[i] ?? 0)) ** 2, 0) / frames.length;
    }
    points.push({ bytes: Math.log(bytes), loss: Math.log(loss) });
  }
  await head.release();
  await tail.release();
  return points;
}

/** The mean difference in the logarithm of what is lost at equal bytes, where both curves are. */
function differenceAtEqualBytes(curve: readonly CurvePoint[], other: readonly CurvePoint[]): number {
  const differences = curve.flatMap(({ bytes, loss }) => {
    const next = other.findIndex((point) => point.bytes <= bytes);
    const [high, low] = [other[next - 1], other[next]];
    if (high === undefined || low === undefined) return [];
    const share = (bytes - low.bytes) / (high.bytes - low.bytes || 1);
    return [loss - low.loss - share * (high.loss - low.loss)];
  });
  expect(differences.length).toBeGreaterThan(3);
  return differences.reduce((sum, value) => sum + value, 0) / differences.length;
}

describe('training a codec', () => {
  it('comes closer to the model in no more bits than it started with, and says so', async () => {
    const seen: TrainingProgress[] = [];
    const trained = await trainCodec(
      optionsFor({ length: { numSteps: 300 }, onProgress: (progress) => seen.push(progress) }),
    );
    const { before, after, codec, numSkipped } = trained;
    const steps = seen.flatMap((progress) => (progress.stage === 'train' ? [progress] : []));
    expect(steps).toHaveLength(300);
    expect(steps.at(-1)?.heldOutLoss).toBeLessThan(0.97 * (steps[0]?.heldOutLoss ?? 0));
    // Of bits and errors, neither is bought with much of the other.
    const better = after.map(
      ({ terms }, level) =>
        Math.log((terms.outputs + 1e-3) / ((before[level]?.terms.outputs ?? 0) + 1e-3)) +
        Math.log((terms.rate + 1) / ((before[level]?.terms.rate ?? 0) + 1)),
    );
    expect(better.reduce((sum, value) => sum + value, 0) / better.length).toBeLessThan(-0.03);
    expect(codec.entry).toMatchObject({ id: 'tiny', kind: 'learned', paths: [{ from: 1, to: 1 }] });
    expect(codec.entry.measured?.[0]).toHaveLength(codec.entry.levels.length);
    expect(numSkipped).toBe(3);
    expect(steps.at(-1)).toMatchObject({ step: 300, numSteps: 300, leftMs: 0, numSkipped: 3 });
    expect(steps.at(-1)?.agreement).toBeGreaterThan(0.4);
    const start = await trainCodec(optionsFor({ length: { numSteps: 0 } }));
    const difference = differenceAtEqualBytes(await curveOf(trained), await curveOf(start));
    expect(difference).toBeLessThan(-0.1);
  });

  it('makes the same weights of the same seed, and others of another', async () => {
    const [first, again] = [await trainCodec(optionsFor()), await trainCodec(optionsFor())];
    expect(networksOf(again)).toEqual(networksOf(first));
    const choice = { ...optionsFor().choice, seed: 2 };
    expect(networksOf(await trainCodec(optionsFor({ choice })))).not.toEqual(networksOf(first));
  });

  it('saves when interrupted, and goes on to the same weights bit for bit', async () => {
    const whole = await trainCodec(optionsFor());
    const options = optionsFor();
    expect(await interruptedAt(5, options)).toMatchObject({ message: 'enough' });
    const steps: number[] = [];
    const resumed = await trainCodec({
      ...options,
      isResumed: true,
      onProgress: (progress) => progress.stage === 'train' && steps.push(progress.step),
    });
    expect(steps).toEqual([6, 7, 8]);
    expect(networksOf(resumed)).toEqual(networksOf(whole));
    expect(resumed.codec.entry.tablesSha256).toBe(whole.codec.entry.tablesSha256);
  });

  it('refuses to go on with what is not there, is of something else, or is damaged', async () => {
    const options = optionsFor();
    const resumed = { ...options, isResumed: true };
    await expect(trainCodec(resumed)).rejects.toMatchObject({ code: 'usage/invalid' });
    await interruptedAt(2, options);
    const choice = { ...options.choice, seed: 7 };
    await expect(trainCodec({ ...resumed, choice })).rejects.toMatchObject({
      code: 'usage/invalid',
      message: expect.stringContaining('has seed 1, not 7'),
    });
    const state = join(options.folder, 'state.safetensors');
    await writeFile(state, (await readFile(state)).subarray(0, -8));
    await expect(trainCodec(resumed)).rejects.toMatchObject({ code: 'train/state-invalid' });
    const setup = join(options.folder, 'setup.safetensors');
    await writeFile(setup, (await readFile(setup)).subarray(0, -8));
    await expect(trainCodec(resumed)).rejects.toMatchObject({ code: 'train/state-invalid' });
  });

  it('trains frame by frame where the model takes no batches', async () => {
    const single = { ...bundle, manifest: { ...bundle.manifest, dynamicBatch: false } };
    const [one, many] = [
      await trainCodec(optionsFor({ bundle: single, length: { numSteps: 4 } })),
      await trainCodec(optionsFor({ length: { numSteps: 4 } })),
    ];
    one.after.forEach(({ terms }, level) => {
      expect((terms.rate + 1) / ((many.after[level]?.terms.rate ?? 0) + 1)).toBeCloseTo(1, 1);
    });
  });

  it('computes again what does not fit into memory, to the same bits', async () => {
    let numRead = 0;
    const counting = (name: string): Promise<Frame> => {
      numRead++;
      return readWaves(name);
    };
    const cuts = [1, bundle.manifest.cuts.length - 1];
    const small = await openSamples({ bundle, runtime, cuts, readFrame: counting, maxBytes: 0 });
    const large = await openSamples({ bundle, runtime, cuts, readFrame: readWaves });
    const kept = [await large.get('picture-1'), await large.get('picture-1')];
    const computed = [await small.get('picture-1'), await small.get('picture-1')];
    expect(numRead).toBe(2);
    expect(Object.keys(kept[0]?.tensors ?? {})).toHaveLength(2);
    for (const sample of [kept[1], ...computed]) expect(sample).toEqual(kept[0]);
    expect([await small.get('picture-5'), await small.get('picture-5')]).toEqual([undefined, undefined]);
    expect([numRead, [...small.skipped]]).toEqual([3, ['picture-5']]);
    await small.release();
    await large.release();
  });

  it('says when there is too little to train on', async () => {
    await expect(trainCodec(optionsFor({ names: names.slice(0, 15) }))).rejects.toMatchObject({
      code: 'usage/invalid',
      message: expect.stringContaining('at least 16'),
    });
    const broken = optionsFor({
      readFrame: () => Promise.reject(new IsthmusError('image/decode-failed', 'Broken.')),
    });
    await expect(trainCodec(broken)).rejects.toMatchObject({
      code: 'usage/invalid',
      message: expect.stringContaining('too few can be read'),
    });
  });
});
