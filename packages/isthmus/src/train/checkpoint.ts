import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  createTensor,
  elementCount,
  IsthmusError,
  type Manifest,
  type Tensor,
  toIsthmusError,
} from '@isthmus/core';
import {
  type DecoderName,
  type EncoderBranchName,
  encoderBranches,
  landingDecoders,
  landingGeometry,
  loadTrainingState,
  mapsOf,
  readSafetensors,
  saveTrainingState,
  type TrainingPlan,
  type TrainingState,
  writeSafetensors,
} from '@isthmus/train';
import { z } from 'zod';
import { trainedCodecs } from './choice.js';
import { type LatentStart, type TrainingSetup, tensorOf } from './setup.js';
import type { TrainingTarget } from './target.js';

const setupFile = 'setup.safetensors';
const stateFile = 'state.safetensors';
const format = 'isthmus-codec-training-2';

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
const layout = z.object({
  channels: size,
  height: size,
  width: size,
  channelsLast: z.boolean(),
  block: size,
});
const limits = z.object({ low: z.number().optional(), high: z.number().optional() });
const cut = z.number().int().min(0);
const metadataSchema = z.object({
  format: z.literal(format),
  setup: z.object({
    id: z.string(),
    codec: z.enum(trainedCodecs),
    ...{ from: cut, to: cut, tuneTo: cut },
    network: z.enum(Object.keys(encoderBranches) as [EncoderBranchName, ...EncoderBranchName[]]),
    decoder: z.enum(Object.keys(landingDecoders) as [DecoderName, ...DecoderName[]]),
    format: z.enum(['jpeg', 'webp', 'avif']).optional(),
    hasAdapter: z.boolean(),
    seed: z.number().int(),
    pictures: z.object({ training: names, heldOut: names }),
    qualities: z.array(count),
    latent: z
      .object({
        numComponents: count,
        layout,
        limits,
        landing: z.object({ limits, numWide: count }).optional(),
      })
      .optional(),
  }),
  target: z.object({
    numSteps: z.number().int().min(0),
    numFeatureSteps: z.number().int().min(0),
    powers: z.record(z.string(), z.number()),
    steps: z.array(positive),
    prices: z.record(z.string(), z.number()),
    curve: z.array(z.object({ step: positive, rate: z.number(), distortion: z.number() })).min(1),
  }),
});
type StoredLatent = NonNullable<z.infer<typeof metadataSchema>['setup']['latent']>;

/** Writes what training starts from, once. */
export async function writeSetup(folder: string, { setup, target }: Checkpoint): Promise<void> {
  const { latent, ...rest } = setup;
  const stored = latent && describeLatent(latent);
  const metadata = { format, setup: { ...rest, latent: stored }, target };
  const tensors = latent === undefined ? {} : latentTensors(latent);
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
 * @throws IsthmusError `usage/invalid` if there is no checkpoint, `train/state-invalid` if it is damaged
 */
export async function readSetup(folder: string, manifest: Manifest): Promise<Checkpoint> {
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
  const { latent, ...setup } = parsed.data.setup;
  const { target } = parsed.data;
  if (manifest.cuts[setup.tuneTo] === undefined) throw damaged(folder, 'it is of another model');
  if (latent === undefined) return { setup, target };
  if (target.steps.length === 0 || target.curve.length < 2) throw damaged(folder, 'it has no steps');
  return { setup: { ...setup, latent: readLatent(folder, latent, { tensors, manifest, ...setup }) }, target };
}

function describeLatent({ start, numComponents, landing }: LatentStart): StoredLatent {
  const { layout, low, high } = start;
  return {
    ...{ numComponents, layout, limits: { low, high } },
    ...(landing !== undefined && {
      landing: { limits: { low: landing.low, high: landing.high }, numWide: landing.numWide },
    }),
  };
}

function latentTensors({ start, landing }: LatentStart): Record<string, Float64Array | Float32Array> {
  const { forward, backward, variances } = start.transform;
  const own = { means: start.means, forward, backward, variances };
  if (landing === undefined) return own;
  const { wide, narrow, bias, deviations } = landing;
  return {
    ...own,
    ...{ 'landing.wide': wide, 'landing.narrow': narrow },
    ...{ 'landing.bias': bias, 'landing.deviations': deviations },
  };
}

function readLatent(
  folder: string,
  { numComponents, layout, limits, landing }: StoredLatent,
  given: {
    tensors: ReadonlyMap<string, Tensor>;
    manifest: Manifest;
    from: number;
    to: number;
  },
): LatentStart {
  const { tensors, manifest, from, to } = given;
  const [tensor, target] = [tensorOf(manifest, from), tensorOf(manifest, to)];
  const { channels, height, width, block } = layout;
  const blockSize = channels * block * block;
  if (elementCount(tensor.shape) !== channels * height * width)
    throw damaged(folder, 'it is of another model');
  if (numComponents > blockSize) throw damaged(folder, 'it has more components than there are');
  const read = (name: string, length: number): Float32Array<ArrayBuffer> => {
    const values = tensors.get(name)?.data;
    if (values?.length !== length) throw damaged(folder, `its ${name} are not ${length} numbers`);
    return values as Float32Array<ArrayBuffer>;
  };
  const wide = (name: string, length: number): Float64Array => Float64Array.from(read(name, length));
  const transform = {
    numComponents: blockSize,
    isDiagonal: false,
    forward: wide('forward', blockSize ** 2),
    backward: wide('backward', blockSize ** 2),
    variances: wide('variances', blockSize),
  };
  const { low, high } = limits;
  const start = { tensor, layout, transform, means: wide('means', channels), low, high };
  if ((landing === undefined) !== (from === to)) throw damaged(folder, 'it does not say how it lands');
  if (landing === undefined) return { start, numComponents };
  const maps = mapsOf(target.shape);
  const geometry = landingGeometry({ rows: height / block, columns: width / block }, maps);
  const numOutputs = maps.channels * geometry.block ** 2;
  const { numWide } = landing;
  if (numWide > numComponents) throw damaged(folder, 'it has more components than there are');
  return {
    ...{ start, numComponents },
    landing: {
      numWide,
      wide: read('landing.wide', numOutputs * numWide * geometry.kernel ** 2),
      narrow: read('landing.narrow', numOutputs * (numComponents - numWide) * geometry.stride ** 2),
      bias: read('landing.bias', numOutputs),
      deviations: read('landing.deviations', maps.channels),
      ...{ low: landing.limits.low, high: landing.limits.high },
    },
  };
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

function toTensor(values: Float64Array | Float32Array): Tensor<'float32'> {
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
