import { readFile, stat } from 'node:fs/promises';
import { basename, dirname, extname, isAbsolute, join } from 'node:path';
import { type Clock, IsthmusError } from '@isthmus/core';
import { type Photo, readPhotos } from '../demo/photos.js';

// Held in memory, as a camera's frames come from nowhere.
const maxPictures = 2_000;

/**
 * The pictures of a folder in the order of their names, those that a .txt file lists, a path a line, or one picture.
 *
 * @throws IsthmusError `usage/invalid`
 */
export async function openCamera(path: string): Promise<Photo[]> {
  const found = await stat(path).catch((cause) => {
    throw new IsthmusError('usage/invalid', `${path} cannot be read. Is it there?`, { cause });
  });
  if (found.isDirectory()) return readPhotos(path, maxPictures);
  if (extname(path) !== '.txt') return [await readPicture(path)];
  const lines = (await readFile(path, 'utf8')).split('\n').map((line) => line.trim());
  const listed = lines.filter((line) => line !== '').slice(0, maxPictures);
  if (listed.length === 0) throw new IsthmusError('usage/invalid', `${path} lists no picture.`);
  // As a playlist does: relative to the list, not to who reads it.
  return Promise.all(listed.map((line) => readPicture(isAbsolute(line) ? line : join(dirname(path), line))));
}

async function readPicture(path: string): Promise<Photo> {
  const bytes = await readFile(path).catch((cause) => {
    throw new IsthmusError('usage/invalid', `The picture ${path} cannot be read.`, { cause });
  });
  return { name: basename(path), bytes };
}

export interface CameraOptions {
  pictures: readonly Photo[];
  fps: number;
  durationMs: number;
  clock: Clock;
  /** Stops it early. */
  signal: AbortSignal;
}

/**
 * Calls `onFrame` with one picture after the other, over and over, at the camera's pace: however long an answer
 * takes, the next frame comes. Resolves when the last one was shown.
 */
export async function play(
  { pictures, fps, durationMs, clock, signal }: CameraOptions,
  onFrame: (picture: Photo, frame: number) => void,
): Promise<void> {
  const beginMs = clock.now();
  for (let frame = 0; (1000 * frame) / fps < durationMs && !signal.aborted; frame++) {
    const picture = pictures[frame % pictures.length];
    if (picture === undefined) return;
    const waitMs = beginMs + (1000 * frame) / fps - clock.now();
    if (waitMs > 0) await pause(clock, waitMs, signal);
    if (!signal.aborted) onFrame(picture, frame);
  }
}

function pause(clock: Clock, durationMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      stopTimer();
      signal.removeEventListener('abort', end);
      resolve();
    };
    const stopTimer = clock.after(durationMs, end);
    signal.addEventListener('abort', end, { once: true });
  });
}
