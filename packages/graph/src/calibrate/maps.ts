import type { CutTensor, Tensor } from '@isthmus/core';

/**
 * How a tensor is seen as feature maps: channels × height × width, and blocks of `block` × `block` positions that
 * are transformed together.
 */
export interface MapLayout {
  channels: number;
  height: number;
  width: number;
  /** Whether channels are the tensor's last axis (tokens) and not its second. */
  channelsLast: boolean;
  /** Edge of the square of positions whose channels are transformed together; divides height and width. */
  block: number;
}

/** Rows and columns of the blocks, and how many numbers each holds. */
export interface BlockGrid {
  rows: number;
  columns: number;
  size: number;
}

/** At most so many numbers are transformed together: the fit's time grows with the cube. */
const maxBlockSize = 512;
const maxBlockEdge = 8;

/**
 * The layout of a tensor: [1, C, H, W] as it is; [1, T, D] as T positions of D channels; any other shape as
 * channels of a single position.
 */
export function layoutOf({ shape }: Pick<CutTensor, 'shape'>, maxSize: number = maxBlockSize): MapLayout {
  const numElements = shape.reduce((product, size) => product * size, 1);
  const base = { channelsLast: false, block: 1 };
  if (shape.length === 4 && shape[0] === 1) {
    const [channels, height, width] = [shape[1]!, shape[2]!, shape[3]!];
    let block = maxBlockEdge;
    while (block > 1 && (height % block !== 0 || width % block !== 0 || channels * block * block > maxSize))
      block /= 2;
    return { channels, height, width, channelsLast: false, block };
  }
  if (shape.length === 3 && shape[0] === 1) {
    return { ...base, channels: shape[2]!, height: shape[1]!, width: 1, channelsLast: true };
  }
  return { ...base, channels: numElements, height: 1, width: 1 };
}

export function gridOf({ channels, height, width, block }: MapLayout): BlockGrid {
  return { rows: height / block, columns: width / block, size: channels * block * block };
}

/** The tensor's numbers as channels × height × width. */
export function toMaps({ data, shape }: Tensor, layout: MapLayout): Float32Array {
  const values = data as Float32Array;
  return layout.channelsLast ? transposed(values, shape[1]!, shape[2]!) : values;
}

/** The reverse of {@link toMaps}. */
export function fromMaps(maps: Float32Array, layout: MapLayout): Float32Array<ArrayBuffer> {
  return (
    layout.channelsLast ? transposed(maps, layout.channels, layout.height) : maps
  ) as Float32Array<ArrayBuffer>;
}

function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(values.length);
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < columns; j++) result[j * rows + i] = values[i * columns + j]!;
  return result;
}

/** Copies one block: channel after channel, row after row. */
function readBlock(
  maps: Float32Array,
  layout: MapLayout,
  row: number,
  column: number,
  out: Float64Array,
): void {
  const { channels, height, width, block } = layout;
  let next = 0;
  for (let channel = 0; channel < channels; channel++) {
    for (let y = 0; y < block; y++) {
      const from = (channel * height + row * block + y) * width + column * block;
      for (let x = 0; x < block; x++) out[next++] = maps[from + x]!;
    }
  }
}

/** Adds `factor` times a block. */
export function addBlock(
  maps: Float32Array,
  layout: MapLayout,
  row: number,
  column: number,
  values: Float64Array,
  factor: number,
): void {
  const { channels, height, width, block } = layout;
  let next = 0;
  for (let channel = 0; channel < channels; channel++) {
    for (let y = 0; y < block; y++) {
      const from = (channel * height + row * block + y) * width + column * block;
      for (let x = 0; x < block; x++) maps[from + x]! += factor * values[next++]!;
    }
  }
}

/** Means of the channels, and the covariance of blocks around them. */
export interface BlockStatistics {
  means: Float64Array;
  /** Mean squares of the channels. */
  powers: Float64Array;
  /** size × size */
  covariance: Float64Array;
  numBlocks: number;
  low: number;
  high: number;
}

/** Blocks whose products are added at a time: the matrix, which is large, is gone through once for all of them. */
const numTogether = 4;

/** Adds the products of the numbers of each block to the upper half of a matrix. */
function addProducts(matrix: Float64Array, blocks: readonly Float64Array[], size: number): void {
  const [p, q, r, s] = blocks as [Float64Array, Float64Array, Float64Array, Float64Array];
  for (let i = 0; i < size; i++) {
    const [pi, qi, ri, si] = [p[i]!, q[i]!, r[i]!, s[i]!];
    for (let j = i, at = i * size + i; j < size; j++, at++) {
      matrix[at]! += pi * p[j]! + qi * q[j]! + ri * r[j]! + si * s[j]!;
    }
  }
}

/** At most so many blocks of all frames together make the covariance, evenly chosen. */
const maxBlocksPerSize = 12;

export function measureBlocks(frames: readonly Float32Array[], layout: MapLayout): BlockStatistics {
  const { channels, height, width, block } = layout;
  const { rows, columns, size } = gridOf(layout);
  const means = new Float64Array(channels);
  const powers = new Float64Array(channels);
  const area = height * width;
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const maps of frames) {
    for (let channel = 0, i = 0; channel < channels; channel++) {
      let sum = 0;
      let power = 0;
      for (const end = i + area; i < end; i++) {
        const value = maps[i]!;
        sum += value;
        power += value * value;
        if (value < low) low = value;
        if (value > high) high = value;
      }
      means[channel]! += sum / (area * frames.length);
      powers[channel]! += power / (area * frames.length);
    }
  }
  const covariance = new Float64Array(size * size);
  const available = frames.length * rows * columns;
  const stride = Math.max(1, Math.floor(available / Math.max(4096, maxBlocksPerSize * size)));
  const together = Array.from({ length: numTogether }, () => new Float64Array(size));
  const numBlocks = Math.ceil(available / stride);
  for (let first = 0; first < numBlocks; first += numTogether) {
    for (const [k, values] of together.entries()) {
      const index = (first + k) * stride;
      if (first + k >= numBlocks) {
        values.fill(0);
        continue;
      }
      const position = index % (rows * columns);
      const maps = frames[Math.floor(index / (rows * columns))]!;
      readBlock(maps, layout, Math.floor(position / columns), position % columns, values);
      for (let i = 0; i < size; i++) values[i]! -= means[Math.floor(i / (block * block))]!;
    }
    addProducts(covariance, together, size);
  }
  // Few blocks say little about how numbers go together: their covariances are believed less.
  const belief = numBlocks / (numBlocks + size);
  for (let i = 0; i < size; i++) {
    covariance[i * size + i]! /= numBlocks;
    for (let j = i + 1; j < size; j++) {
      const value = (covariance[i * size + j]! / numBlocks) * belief;
      covariance[i * size + j] = value;
      covariance[j * size + i] = value;
    }
  }
  return { means, powers, covariance, numBlocks, low, high };
}
