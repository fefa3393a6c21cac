import type { Tensor } from '@isthmus/core';
import { float32Tensor } from '@isthmus/graph';
import { cifarSize, type LabelledPictures, numClasses, pictureBytes } from './data.js';
import { randomFor, shuffledIndices } from './random.js';

/** From bytes to −1…1, as the preset `signed` of `isthmus split`. */
export function normalize(byte: number): number {
  return (byte - 127.5) / 127.5;
}

export interface BatchOptions {
  batch: number;
  seed: number;
  /** Pictures an epoch takes; at most as many as there are. */
  numPictures: number;
  /** Share of a target that is spread over all classes (Szegedy et al., 2016). */
  smoothing: number;
}

/** A batch as the net's inputs take it. */
export interface Batch {
  x: Tensor<'float32'>;
  targets: Tensor<'float32'>;
}

// How far a picture is shifted, at most; what comes in at the border is a reflection of what is beside it.
const maxShift = 4;
const planeSize = cifarSize * cifarSize;

/**
 * Batches by the number of their step: every picture once an epoch, each time in another order, shifted at random, and
 * mirrored in every other epoch, beginning at random (Jordan, 94% on CIFAR-10 in 3.29 Seconds, 2024).
 */
export function createBatches(
  { pixels, labels }: LabelledPictures,
  { batch, seed, numPictures, smoothing }: BatchOptions,
): { stepsPerEpoch: number; at: (step: number) => Batch } {
  const stepsPerEpoch = Math.floor(numPictures / batch);
  const startsFlipped = Uint8Array.from({ length: numPictures }, flipOf(seed));
  let epoch = -1;
  let order: Uint32Array = new Uint32Array();
  const at = (step: number): Batch => {
    if (Math.floor(step / stepsPerEpoch) !== epoch) {
      epoch = Math.floor(step / stepsPerEpoch);
      order = shuffledIndices(numPictures, randomFor(seed, 'order', epoch));
    }
    const random = randomFor(seed, 'crops', step);
    const shift = (): number => Math.floor(random() * (2 * maxShift + 1)) - maxShift;
    const x = new Float32Array(batch * pictureBytes);
    const targets = new Float32Array(batch * numClasses).fill(smoothing / numClasses);
    for (let index = 0; index < batch; index++) {
      const picture = order[(step % stepsPerEpoch) * batch + index]!;
      const place = { left: shift(), top: shift(), isMirrored: (startsFlipped[picture]! + epoch) % 2 === 1 };
      const from = pixels.subarray(picture * pictureBytes, (picture + 1) * pictureBytes);
      copyPicture(from, x.subarray(index * pictureBytes, (index + 1) * pictureBytes), place);
      targets[index * numClasses + labels[picture]!]! += 1 - smoothing;
    }
    return {
      x: float32Tensor(x, [batch, 3, cifarSize, cifarSize]),
      targets: float32Tensor(targets, [batch, numClasses]),
    };
  };
  return { stepsPerEpoch, at };
}

function flipOf(seed: number): () => number {
  const random = randomFor(seed, 'flips');
  return () => Number(random() < 0.5);
}

/** Pictures as they are, [count, 3, 32, 32]. */
export function plainBatch({ pixels }: LabelledPictures, start: number, count: number): Tensor<'float32'> {
  const x = new Float32Array(count * pictureBytes);
  for (let index = 0; index < count; index++) {
    const from = pixels.subarray((start + index) * pictureBytes, (start + index + 1) * pictureBytes);
    const to = x.subarray(index * pictureBytes, (index + 1) * pictureBytes);
    copyPicture(from, to, { left: 0, top: 0, isMirrored: false });
  }
  return float32Tensor(x, [count, 3, cifarSize, cifarSize]);
}

interface Placing {
  left: number;
  top: number;
  isMirrored: boolean;
}

// Pixels side by side to planes.
function copyPicture(from: Uint8Array, to: Float32Array, { left, top, isMirrored }: Placing): void {
  for (let y = 0; y < cifarSize; y++) {
    const row = reflect(y + top) * cifarSize;
    for (let x = 0; x < cifarSize; x++) {
      const column = reflect(x + left);
      const pixel = 3 * (row + (isMirrored ? cifarSize - 1 - column : column));
      const place = y * cifarSize + x;
      to[place] = normalize(from[pixel]!);
      to[planeSize + place] = normalize(from[pixel + 1]!);
      to[2 * planeSize + place] = normalize(from[pixel + 2]!);
    }
  }
}

function reflect(position: number): number {
  if (position < 0) return -position;
  return position < cifarSize ? position : 2 * (cifarSize - 1) - position;
}
