import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  createPreprocessor,
  IsthmusError,
  type Manifest,
  type NamedTensors,
  toIsthmusError,
} from '@isthmus/core';
import { decodePicture } from '@isthmus/runtime/pictures';
import { pullPhotos } from '../demo/photos.js';
import { listPictures, spread } from '../rd/pictures.js';

export interface FramesOptions {
  /** A folder of pictures. @default eight public-domain photographs */
  images?: string | undefined;
  /** At most so many, evenly spaced. */
  limit: number;
  cacheDir?: string | undefined;
  signal: AbortSignal;
  /** For people, about what was left out. */
  note(text: string): void;
}

/**
 * Pictures as the model takes them. Tables for one come from the others, so there must be two.
 *
 * @throws IsthmusError `usage/invalid` for a model that takes no pictures, or fewer than two readable ones; those of
 * pulling the photographs
 */
export async function readFrames(
  { model, preprocess, cuts }: Manifest,
  { images, limit, cacheDir, signal, note }: FramesOptions,
): Promise<NamedTensors[]> {
  if (preprocess === null) {
    throw new IsthmusError(
      'usage/invalid',
      `${model} does not take pictures. Say how when splitting: isthmus split --picture …`,
    );
  }
  const input = cuts[0]!.tensors[0]!.name;
  const preprocessor = createPreprocessor(preprocess);
  const frames: NamedTensors[] = [];
  for (const { name, read } of await findPictures(images, limit, cacheDir, signal)) {
    signal.throwIfAborted();
    try {
      frames.push({ [input]: preprocessor(await decodePicture(await read())) });
    } catch (cause) {
      note(
        `${name} is left out: ${toIsthmusError(cause, 'image/decode-failed', 'It cannot be read').message}`,
      );
    }
  }
  if (frames.length < 2) {
    throw new IsthmusError(
      'usage/invalid',
      'Two pictures at least are needed: the tables for one are made of the others.',
    );
  }
  return frames;
}

interface Picture {
  name: string;
  read(): Promise<Uint8Array>;
}

async function findPictures(
  folder: string | undefined,
  limit: number,
  cacheDir: string | undefined,
  signal: AbortSignal,
): Promise<Picture[]> {
  if (folder === undefined) {
    const photos = await pullPhotos({ signal, ...(cacheDir !== undefined && { cacheDir }) });
    return spread(photos, limit).map(({ name, bytes }) => ({ name, read: async () => bytes }));
  }
  return spread(await listPictures(folder), limit).map((name) => ({
    name,
    read: () => readFile(join(folder, name)),
  }));
}
