import { readdir, readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import {
  createPreprocessor,
  describeGeometry,
  type FrameGeometry,
  IsthmusError,
  type NamedTensors,
  type Preprocess,
} from '@isthmus/core';
import { decodePicture } from '@isthmus/runtime/pictures';
import { normalizePath } from './ground-truth.js';

const pictureExtensions = new Set(['.jpg', '.jpeg', '.png', '.webp', '.avif', '.gif', '.tif', '.tiff']);

/** A picture as cut 0 takes it. */
export interface Frame {
  tensors: NamedTensors;
  geometry: FrameGeometry;
}

/**
 * The pictures in a folder and the folders in it, by their paths below it, sorted.
 *
 * @throws IsthmusError `usage/invalid` if the folder cannot be read or holds none
 */
export async function listPictures(folder: string): Promise<string[]> {
  const names = await readdir(folder, { recursive: true }).catch((cause) => {
    throw new IsthmusError('usage/invalid', `The folder ${folder} cannot be read.`, { cause });
  });
  const pictures = names
    .filter((name) => pictureExtensions.has(extname(name).toLowerCase()))
    .map(normalizePath)
    .sort();
  if (pictures.length === 0) throw new IsthmusError('usage/invalid', `There is no picture in ${folder}.`);
  return pictures;
}

/** At most `limit` of them, evenly spaced, so that a folder sorted by class gives all kinds. */
export function spread<T>(items: readonly T[], limit: number): T[] {
  if (limit >= items.length) return [...items];
  return Array.from({ length: limit }, (_, i) => items[Math.floor(((i + 0.5) * items.length) / limit)]!);
}

// A thousand frames of 224² and more; what does not fit is read again for every cut.
const maxKeptBytes = 1_073_741_824;

/**
 * Reads pictures as frames, and keeps as many as memory allows.
 *
 * @param maxBytes Of the frames that are kept.
 * @returns A function that throws IsthmusError `image/decode-failed` for what cannot be read.
 */
export function createFrameReader(
  folder: string,
  preprocess: Preprocess,
  inputName: string,
  maxBytes: number = maxKeptBytes,
): (name: string) => Promise<Frame> {
  const preprocessor = createPreprocessor(preprocess);
  const kept = new Map<string, Frame>();
  let keptBytes = 0;
  return async (name) => {
    const known = kept.get(name);
    if (known !== undefined) return known;
    const bytes = await readFile(join(folder, name)).catch((cause) => {
      throw new IsthmusError('image/decode-failed', `${name} cannot be read.`, { cause });
    });
    const image = await decodePicture(bytes);
    const tensor = preprocessor(image);
    const frame = {
      tensors: { [inputName]: tensor },
      geometry: describeGeometry(image.width, image.height, preprocess),
    };
    if (keptBytes + tensor.data.byteLength <= maxBytes) {
      keptBytes += tensor.data.byteLength;
      kept.set(name, frame);
    }
    return frame;
  };
}
