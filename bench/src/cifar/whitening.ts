import type { Tensor } from '@isthmus/core';
import { float32Tensor } from '@isthmus/graph';
import { normalize } from './batches.js';
import { cifarSize, type LabelledPictures, pictureBytes } from './data.js';
import { randomFor } from './random.js';

/** A convolution that is not trained. */
export interface Whitening {
  /** [2 · numComponents, 3, 3, 3] */
  weight: Tensor<'float32'>;
  bias: Tensor<'float32'>;
}

const numPatches = 20_000;
const patchSize = 27;
// Added to variances: noise is not worth being blown up.
const floor = 2e-4;

/**
 * A first layer that gives the principal components of 3×3 patches, each with variance 1, and their negatives for what a
 * Relu would cut off. It need not be trained, and the layers after it learn faster (Page, How to Train Your ResNet, 2019).
 */
export function fitWhitening(
  { pixels, labels }: LabelledPictures,
  numComponents: number,
  seed: number,
): Whitening {
  const random = randomFor(seed, 'patches');
  const patches = Array.from({ length: numPatches }, () => {
    const picture = Math.floor(random() * labels.length) * pictureBytes;
    const [left, top] = [0, 0].map(() => Math.floor(random() * (cifarSize - 2))) as [number, number];
    return Float64Array.from({ length: patchSize }, (_, index) => {
      const [channel, y, x] = [Math.floor(index / 9), Math.floor(index / 3) % 3, index % 3];
      return normalize(pixels[picture + 3 * ((top + y) * cifarSize + left + x) + channel]!);
    });
  });
  const mean = meanOf(patches);
  const { values, vectors } = eigen(covarianceOf(patches, mean));
  const order = values.map((_, index) => index).sort((a, b) => values[b]! - values[a]!);
  const filters = order.slice(0, numComponents).map((index) => {
    const rate = 1 / Math.sqrt(values[index]! + floor);
    return vectors.map((row) => row[index]! * rate);
  });
  const signed = [...filters, ...filters.map((filter) => filter.map((value) => -value))];
  const bias = signed.map((filter) => -filter.reduce((sum, value, index) => sum + value * mean[index]!, 0));
  return { weight: float32Tensor(signed.flat(), [signed.length, 3, 3, 3]), bias: float32Tensor(bias) };
}

function meanOf(patches: readonly Float64Array[]): number[] {
  return Array.from(
    { length: patchSize },
    (_, index) => patches.reduce((sum, patch) => sum + patch[index]!, 0) / patches.length,
  );
}

function covarianceOf(patches: readonly Float64Array[], mean: readonly number[]): number[][] {
  const matrix = mean.map(() => mean.map(() => 0));
  for (const patch of patches) {
    for (let i = 0; i < patchSize; i++) {
      for (let j = 0; j <= i; j++) {
        matrix[i]![j]! += ((patch[i]! - mean[i]!) * (patch[j]! - mean[j]!)) / patches.length;
      }
    }
  }
  return matrix.map((row, i) => row.map((value, j) => (j <= i ? value : matrix[j]![i]!)));
}

const numSweeps = 12;

/** Eigenvalues of a symmetric matrix, and eigenvectors as columns, by Jacobi's rotations. */
function eigen(symmetric: readonly (readonly number[])[]): { values: number[]; vectors: number[][] } {
  const size = symmetric.length;
  const a = symmetric.map((row) => [...row]);
  const vectors = a.map((row, i) => row.map((_, j) => Number(i === j)));
  const rotate = (rows: number[][], p: number, q: number, cos: number, sin: number): void => {
    for (const row of rows) {
      [row[p], row[q]] = [cos * row[p]! - sin * row[q]!, sin * row[p]! + cos * row[q]!];
    }
  };
  for (let sweep = 0; sweep < numSweeps; sweep++) {
    for (let p = 0; p < size; p++) {
      for (let q = p + 1; q < size; q++) {
        if (a[p]![q] === 0) continue;
        const theta = (a[q]![q]! - a[p]![p]!) / (2 * a[p]![q]!);
        const tan = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
        const cos = 1 / Math.hypot(tan, 1);
        rotate(a, p, q, cos, tan * cos);
        [a[p], a[q]] = [
          a[p]!.map((value, k) => cos * value - tan * cos * a[q]![k]!),
          a[q]!.map((value, k) => tan * cos * a[p]![k]! + cos * value),
        ];
        rotate(vectors, p, q, cos, tan * cos);
      }
    }
  }
  return { values: a.map((row, index) => row[index]!), vectors };
}
