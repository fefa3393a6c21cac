import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createNodeRuntime } from '@isthmus/runtime/node';
import {
  cosineRate,
  createTrainer,
  createTrainingState,
  loadTrainingState,
  saveTrainingState,
  type TrainingState,
} from '@isthmus/train';
import { batchSize, buildBaseTraining, smoothing } from './base-training.js';
import { createBatches } from './batches.js';
import type { LabelledPictures } from './data.js';
import { exportModel } from './export-model.js';
import { measureAccuracy } from './measure-accuracy.js';

export interface BaseOptions {
  /** Where the checkpoint is, and the model comes. */
  folder: string;
  epochs: number;
  /** Pictures an epoch takes. */
  numPictures: number;
  /** Pictures of the test set that the accuracy is measured on. */
  numTest: number;
  peakRate: number;
  seed: number;
  threads: number | undefined;
  log: (line: string) => void;
  signal: AbortSignal;
}

const saveIntervalMs = 60_000;
const averageMomentumSteps = 50;

/**
 * Trains the base model, from where the folder's checkpoint is if there is one. The same options make the same weights,
 * interrupted or not, bit for bit; but for the number of threads, on which sums depend.
 *
 * @returns The state in the end; undefined if it was interrupted, and saved.
 */
export async function trainBase(
  { training, test }: { training: LabelledPictures; test: LabelledPictures },
  options: BaseOptions,
): Promise<TrainingState | undefined> {
  const { folder, epochs, numPictures, numTest, peakRate, seed, threads, log, signal } = options;
  await mkdir(folder, { recursive: true });
  await checkSettings(folder, { epochs, numPictures, peakRate, seed, batchSize });
  const { draft, plan, whitening } = buildBaseTraining(training, seed);
  const batches = createBatches(training, { batch: batchSize, seed, numPictures, smoothing });
  const numSteps = epochs * batches.stepsPerEpoch;
  const schedule = { peakRate, numSteps, numWarmupSteps: Math.floor(0.2 * numSteps) };
  const state = (await readState(folder, plan)) ?? createTrainingState(plan, draft);
  const trainer = await createTrainer(plan, { state, ...(threads !== undefined && { threads }) });
  const runtime = createNodeRuntime(threads === undefined ? {} : { threads });
  const started = { atMs: performance.now(), cpu: process.cpuUsage(), step: state.step };
  let savedAtMs = started.atMs;
  let [lossMean, numSeen] = [0, 0];

  const show = (step: number): void => {
    const taken = Math.max(1, step - started.step);
    const seconds = (performance.now() - started.atMs) / 1000;
    const { user, system } = process.cpuUsage(started.cpu);
    const cpuRate = (1e6 * taken * batchSize) / (user + system);
    log(
      `step ${step} of ${numSteps}, epoch ${(step / batches.stepsPerEpoch).toFixed(2)}, loss ${lossMean.toFixed(4)}, ` +
        `${((taken * batchSize) / seconds).toFixed(0)} images/s (${cpuRate.toFixed(0)} a core-second), ` +
        `${((((numSteps - step) / taken) * seconds) / 60).toFixed(0)} min left`,
    );
  };
  try {
    while (trainer.state.step < numSteps && !signal.aborted) {
      const { step } = trainer.state;
      const { loss } = await trainer.step(
        { ...batches.at(step) },
        { learningRate: cosineRate(schedule, step) },
      );
      numSeen = Math.min(numSeen + 1, averageMomentumSteps);
      lossMean += (loss - lossMean) / numSeen;
      const done = step + 1;
      if (performance.now() - savedAtMs >= saveIntervalMs || done === numSteps) {
        savedAtMs = performance.now();
        await writeState(folder, trainer.state);
        show(done);
      }
      if (done % batches.stepsPerEpoch === 0) {
        const model = exportModel(whitening, trainer.state, 'average');
        const accuracy = await measureAccuracy(runtime, model, test, numTest);
        log(
          `epoch ${done / batches.stepsPerEpoch}: ${(100 * accuracy).toFixed(2)} % of ${numTest} test images`,
        );
      }
    }
    if (trainer.state.step === numSteps) return trainer.state;
    await writeState(folder, trainer.state);
    show(trainer.state.step);
    log('Saved. The same command goes on from here.');
    return undefined;
  } finally {
    await trainer.release();
    await runtime.close();
  }
}

// What a training is of; another one would go on with weights that are not its own.
async function checkSettings(folder: string, settings: Readonly<Record<string, number>>): Promise<void> {
  const path = join(folder, 'settings.json');
  const text = `${JSON.stringify(settings, null, 1)}\n`;
  const found = await readFile(path, 'utf8').catch(() => undefined);
  if (found === undefined) await writeFile(path, text);
  else if (found !== text) {
    throw new Error(`The training in ${folder} has other settings:\n${found}Give those, or another --out.`);
  }
}

async function readState(
  folder: string,
  plan: Parameters<typeof loadTrainingState>[0],
): Promise<TrainingState | undefined> {
  const bytes = await readFile(join(folder, 'state.safetensors')).catch(() => undefined);
  return bytes === undefined ? undefined : loadTrainingState(plan, bytes);
}

// The last one stays until the new one is whole.
async function writeState(folder: string, state: TrainingState): Promise<void> {
  const path = join(folder, 'state.safetensors');
  await writeFile(`${path}.new`, saveTrainingState(state), { flush: true });
  await rename(`${path}.new`, path);
}
