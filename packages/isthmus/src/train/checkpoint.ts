import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createTensor, IsthmusError, type Tensor, toIsthmusError } from '@isthmus/core';
import {
  loadTrainingState,
  readSafetensors,
  saveTrainingState,
  type TrainingPlan,
  type TrainingState,
  writeSafetensors,
} from '@isthmus/train';
import { z } from 'zod';
import type { TrainingSetup } from './setup.js';
import type { TrainingTarget } from './target.js';

const setupFile = 'setup.safetensors';
const stateFile = 'state.safetensors';

/** What a checkpoint says beside numbers of the transform and of the state. */
export interface Checkpoint {
  setup: TrainingSetup;
  target: TrainingTarget;
}

const names = z.array(z.string()).min(1);
const count = z.number().int().min(1);
const size = z
  .number()
  .int()
  .min(1)
  .max(2 ** 24);
const positive = z.number().positive();
const metadataSchema = z.object({
  format: z.literal('isthmus-codec-training-1'),
  setup: z.object({
    id: z.string(),
    codec: z.literal('bottleneck'),
    cut: z.number().int().min(0),
    seed: z.number().int(),
    pictures: z.object({ training: names, heldOut: names }),
    numComponents: count,
    low: z.number().optional(),
    high: z.number().optional(),
    layout: z.object({ channels: size, height: size, width: size, channelsLast: z.boolean(), block: size }),
  }),
  target: z.object({
    numSteps: z.number().int().min(0),
    powers: z.record(z.string(), z.number()),
    steps: z.array(positive).min(2),
    prices: z.record(z.string(), z.number()),
    curve: z.array(z.object({ step: positive, rate: z.number(), distortion: z.number() })).min(2),
  }),
});

/** Writes what training starts from, once. */
export async function writeSetup(folder: string, { setup, target }: Checkpoint): Promise<void> {
  const { start, ...rest } = setup;
  const { transform, means, layout, low, high } = start;
  const metadata = { format: 'isthmus-codec-training-1', setup: { ...rest, layout, low, high }, target };
  const tensors = { means, ...pickTransform(transform) };
  const bytes = writeSafetensors({
    tensors: new Map(Object.entries(tensors).map(([name, values]) => [name, toTensor(values)])),
    metadata: new Map([['training', JSON.stringify(metadata)]]),
  });
  await writing(folder, async () => {
    await mkdir(folder, { recursive: true });
    await rm(join(folder, stateFile), { force: true });
    await replaceFile(join(folder, setupFile), bytes);
  });
}

/**
 * What a training started from.
 *
 * @param tensor The cut's tensor, which the bundle describes.
 * @throws IsthmusError `usage/invalid` if there is no checkpoint, `train/state-invalid` if it is damaged
 */
export async function readSetup(
  folder: string,
  tensorOf: (cut: number) => TrainingSetup['start']['tensor'] | undefined,
): Promise<Checkpoint> {
  const bytes = await readFile(join(folder, setupFile)).catch((cause) => {
    throw new IsthmusError(
      'usage/invalid',
      `There is no training in ${folder} to go on with. Start one without --resume.`,
      { cause },
    );
  });
  const { tensors, metadata } = readSafetensors(bytes);
  const parsed = metadataSchema.safeParse(parseJson(metadata.get('training')));
  if (!parsed.success) throw damaged(folder, 'it does not say what it is', parsed.error);
  const { layout, low, high, ...rest } = parsed.data.setup;
  const tensor = tensorOf(rest.cut);
  const { channels, height, width, block } = layout;
  const blockSize = channels * block * block;
  const numbers = tensor?.shape.reduce((product, axis) => product * axis, 1);
  if (tensor === undefined || numbers !== channels * height * width) {
    throw damaged(folder, 'it is of another model');
  }
  const read = (name: string, length: number): Float64Array => {
    const values = tensors.get(name)?.data;
    if (values?.length !== length) throw damaged(folder, `its ${name} are not ${length} numbers`);
    return Float64Array.from(values);
  };
  const variances = read('variances', blockSize);
  const transform = {
    numComponents: blockSize,
    isDiagonal: false,
    forward: read('forward', blockSize ** 2),
    backward: read('backward', blockSize ** 2),
    variances,
  };
  const start = { tensor, layout, transform, means: read('means', channels), low, high };
  if (rest.numComponents > blockSize) throw damaged(folder, 'it has more components than there are');
  return { setup: { ...rest, start }, target: parsed.data.target };
}

/** Writes how far training is; the last one stays until the new one is whole. */
export async function writeState(folder: string, state: TrainingState): Promise<void> {
  await writing(folder, () => replaceFile(join(folder, stateFile), saveTrainingState(state)));
}

/** How far a training is; undefined if it has not begun. @throws IsthmusError `train/state-invalid` */
export async function readState(folder: string, plan: TrainingPlan): Promise<TrainingState | undefined> {
  const bytes = await readFile(join(folder, stateFile)).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  return bytes === undefined ? undefined : loadTrainingState(plan, bytes);
}

function pickTransform({
  forward,
  backward,
  variances,
}: TrainingSetup['start']['transform']): Record<string, Float64Array> {
  return { forward, backward, variances };
}

function toTensor(values: Float64Array): Tensor<'float32'> {
  return createTensor('float32', [values.length], Float32Array.from(values));
}

async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.new`;
  await writeFile(temporary, bytes, { flush: true });
  await rename(temporary, path);
}

async function writing(folder: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    throw toIsthmusError(error, 'pull/disk', `Cannot write the checkpoint in ${folder}`);
  }
}

function parseJson(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? '');
  } catch {
    return undefined;
  }
}

function damaged(folder: string, reason: string, cause?: unknown): IsthmusError {
  return new IsthmusError(
    'train/state-invalid',
    `The checkpoint in ${folder} cannot be used: ${reason}. Start again without --resume.`,
    { cause },
  );
}
