import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Runtime, systemClock } from '@isthmus/core';
import { type Bundle, splitModel } from '@isthmus/graph';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { createSharpCoder } from '@isthmus/runtime/pictures';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readWaves, wavePreprocess, wavesClassifier } from '../testing/waves.js';
import type { TrainingChoice } from './choice.js';
import type { TrainingProgress } from './run-training.js';
import { type TrainCodecOptions, type TrainedCodec, trainCodec } from './train-codec.js';

const names = Array.from({ length: 300 }, (_, index) => `picture-${index}`);

// Several trainings each, on machines that may be busy.
const slow = { timeout: 180_000 };

let folder: string;
let bundle: Bundle;
let runtime: Runtime;
let numFolders = 0;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'isthmus-train-kinds-'));
  runtime = createNodeRuntime({ threads: 1 });
  bundle = await splitModel(wavesClassifier(), {
    ...{ runtime, name: 'waves', preprocess: wavePreprocess, profileRuns: 0 },
    provenance: { source: 'made by this test', licence: 'Apache-2.0' },
    task: { kind: 'classification', output: 'scores', activation: 'softmax', labels: ['a', 'b', 'c'] },
  });
});
afterAll(async () => {
  await runtime.close();
  await rm(folder, { recursive: true, force: true });
});

/** The first cut whose maps are so large. */
function cutOf(edge: number): number {
  return bundle.manifest.cuts.findIndex(({ tensors }) => tensors[0]?.shape[2] === edge);
}

function optionsFor(
  choice: Partial<TrainingChoice>,
  more: Partial<TrainCodecOptions> = {},
): TrainCodecOptions {
  const { from = 0, to = from, tuneTo = to } = choice;
  const rest = {
    codec: 'bottleneck',
    network: 'none',
    decoder: 'small',
    hasAdapter: false,
    seed: 1,
  } as const;
  return {
    ...{ bundle, runtime, clock: systemClock, names, readFrame: readWaves, coder: createSharpCoder() },
    ...{ isResumed: false, threads: 1, length: { numSteps: 10 } },
    choice: { id: 'tiny', ...rest, ...choice, from, to, tuneTo },
    folder: join(folder, `checkpoint-${numFolders++}`),
    tuning: { numProbes: 32, maxValues: 20_000 },
    signal: new AbortController().signal,
    ...more,
  };
}

const networksOf = ({ codec }: TrainedCodec): [string, Uint8Array][] =>
  [...codec.files].filter(([path]) => !path.endsWith('.json'));

/** Trains, is interrupted at each of some steps, and goes on. */
async function trainInParts(options: TrainCodecOptions, parts: readonly number[]): Promise<TrainedCodec> {
  for (const [index, step] of parts.entries()) {
    const controller = new AbortController();
    const onProgress = (progress: TrainingProgress): void => {
      if (progress.stage === 'train' && progress.step === step) controller.abort(new Error('enough'));
    };
    const interrupted = { ...options, isResumed: index > 0, signal: controller.signal, onProgress };
    await expect(trainCodec(interrupted)).rejects.toThrow('enough');
  }
  return trainCodec({ ...options, isResumed: true });
}

/** How much fewer bits and errors there are than before, as the mean over levels of the logarithms. */
function gainOf({ before, after }: TrainedCodec): number {
  const gains = after.map(
    ({ terms }, level) =>
      Math.log((terms.outputs + 1e-4) / ((before[level]?.terms.outputs ?? 0) + 1e-4)) +
      Math.log((terms.rate + 1) / ((before[level]?.terms.rate ?? 0) + 1)),
  );
  return gains.reduce((sum, value) => sum + value, 0) / gains.length;
}

describe('a codec that lands deeper than it leaves', slow, () => {
  it('compares features first, then outputs, and learns in both', async () => {
    const [from, to] = [cutOf(8), cutOf(4)];
    const seen: TrainingProgress[] = [];
    const trained = await trainCodec(
      optionsFor(
        { from, to, decoder: 'medium' },
        { length: { numSteps: 100 }, onProgress: (progress) => seen.push(progress) },
      ),
    );
    const steps = seen.flatMap((progress) => (progress.stage === 'train' ? [progress] : []));
    expect(steps.filter(({ isFeatureStage }) => isFeatureStage)).toHaveLength(60);
    expect(gainOf(trained)).toBeLessThan(-0.1);
    expect(trained.codec.entry).toMatchObject({ kind: 'learned', paths: [{ from, to }] });
    expect(trained.encoderFlops).toBeGreaterThan(0);
  });

  it('goes on after interruptions to the same weights, in either stage', async () => {
    const choice = { from: cutOf(8), to: cutOf(4), network: 'small' } as const;
    const whole = await trainCodec(optionsFor(choice));
    const parts = await trainInParts(optionsFor(choice), [3, 8]);
    expect(networksOf(parts)).toEqual(networksOf(whole));
    expect(parts.codec.entry.tablesSha256).toBe(whole.codec.entry.tablesSha256);
  });
});

describe('an encoder in place of the beginning of the model', slow, () => {
  it('takes the frame, and learns', async () => {
    const to = cutOf(4);
    const choice = { codec: 'encoder', from: 0, to, network: 'medium', decoder: 'medium' } as const;
    const trained = await trainCodec(optionsFor(choice, { length: { numSteps: 100 } }));
    expect(gainOf(trained)).toBeLessThan(-0.1);
    expect(trained.codec.entry.paths).toEqual([{ from: 0, to }]);
  });
});

describe('tuned segments', slow, () => {
  it('go with the codec, to where they end', async () => {
    const [from, tuneTo] = [cutOf(8), cutOf(4)];
    const trained = await trainCodec(optionsFor({ from, tuneTo }));
    const { entry, files } = trained.codec;
    expect(entry.paths).toEqual([{ from, to: tuneTo }]);
    expect([...files.keys()].filter((path) => path.endsWith('tuned.bin'))).toHaveLength(1);
    expect(entry.measured?.[0]).toHaveLength(entry.levels.length);
  });
});

describe('pictures', slow, () => {
  const pictures = { codec: 'pixels+adapter', format: 'webp' } as const;

  it('are mended by an adapter, for tuned segments behind it', async () => {
    const choice = { ...pictures, tuneTo: cutOf(8), hasAdapter: true };
    const seen: TrainingProgress[] = [];
    const trained = await trainCodec(
      optionsFor(choice, { length: { numSteps: 120 }, onProgress: (progress) => seen.push(progress) }),
    );
    const steps = seen.flatMap((progress) => (progress.stage === 'train' ? [progress] : []));
    expect(gainOf(trained)).toBeLessThan(-0.03);
    expect(steps.at(-1)?.bitsPerPixel).toBeGreaterThan(0.1);
    const { entry, files } = trained.codec;
    expect(entry).toMatchObject({ kind: 'adapted', paths: [{ from: 0, to: cutOf(8) }] });
    expect([...files.keys()].map((path) => path.split('/').at(-1)).sort()).toEqual([
      'adapter.onnx',
      'tuned.bin',
    ]);
    // What is sent is not trained.
    trained.after.forEach(({ terms }, level) => {
      expect(terms.rate).toBe(trained.before[level]?.terms.rate);
    });
    expect(trained.encoderFlops).toBe(0);
  });

  it('do with tuned segments only, and go on where they were interrupted', async () => {
    const choice = { ...pictures, tuneTo: bundle.manifest.cuts.length - 1, hasAdapter: false };
    const whole = await trainCodec(optionsFor(choice, { length: { numSteps: 30 } }));
    expect(gainOf(whole)).toBeLessThan(-0.01);
    expect([...whole.codec.files.keys()]).toEqual([expect.stringContaining('tuned.bin')]);
    const parts = await trainInParts(optionsFor(choice, { length: { numSteps: 30 } }), [4]);
    expect(networksOf(parts)).toEqual(networksOf(whole));
  });

  it('need no segments tuned where there is an adapter', async () => {
    const trained = await trainCodec(optionsFor({ ...pictures, hasAdapter: true }));
    expect([...trained.codec.files.keys()]).toEqual([expect.stringContaining('adapter.onnx')]);
  });
});

describe('what cannot be trained', () => {
  it.each([
    [{ codec: 'encoder', from: 1, to: 1 }, 'leaves at cut 0'],
    [{ codec: 'encoder', from: 0, to: 0 }, 'where it lands'],
    [{ from: 2, to: 1 }, 'lands there or later'],
    [{ from: 1, to: 2, tuneTo: 1 }, 'lands there or later'],
    [{ from: 1, to: 99 }, 'for a codec to land at, not 99'],
    [{ codec: 'pixels+adapter', format: 'webp', from: 0, to: 1 }, 'lands at cut 0'],
    [{ codec: 'pixels+adapter', hasAdapter: true }, '--format'],
    [{ codec: 'pixels+adapter', format: 'webp', hasAdapter: false }, 'nothing to train'],
  ] as const)('%j is refused', async (choice, message) => {
    await expect(trainCodec(optionsFor(choice))).rejects.toMatchObject({
      code: 'usage/invalid',
      message: expect.stringContaining(message),
    });
  });
});
