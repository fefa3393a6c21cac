import {
  createTensor,
  type Manifest,
  type NamedTensors,
  type RuntimeSession,
  type Tensor,
} from '@isthmus/core';
import { addBlock, fromMaps, gridOf, type MapLayout, toMaps } from './maps.js';

/**
 * A frame's outputs as a vector whose squared distances are what a change costs. For classes: the square roots of
 * the probabilities, so that half a squared distance is, to second order, a quarter of the Kullback–Leibler divergence
 * (Hellinger). For other tensors: their numbers, divided by their root mean square.
 */
export type OutputMetric = (outputs: NamedTensors) => Float64Array;

export function createOutputMetric(manifest: Manifest): OutputMetric {
  const { task } = manifest;
  if (task.kind === 'classification') {
    return (outputs) => centredLogits(outputs[task.output]!, task.activation === 'softmax');
  }
  const names = manifest.cuts
    .at(-1)!
    .tensors.filter(({ type }) => type === 'float32')
    .map(({ name }) => name);
  return (outputs) => {
    const parts = names.map((name) => Float64Array.from(outputs[name]!.data as Float32Array));
    const result = new Float64Array(parts.reduce((sum, { length }) => sum + length, 0));
    let offset = 0;
    for (const part of parts) {
      const power = part.reduce((sum, value) => sum + value * value, 0);
      const scale = power > 0 ? 1 / Math.sqrt(power) : 0;
      for (const value of part) result[offset++] = value * scale;
    }
    return result;
  };
}

/** Class probabilities. */
export function probabilities(tensor: Tensor, isLogits: boolean): Float64Array {
  const values = Float64Array.from(tensor.data as Float32Array);
  if (!isLogits) return values.map((value) => Math.max(0, value));
  const largest = values.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
  const powers = values.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((total, value) => total + value, 0);
  return powers.map((value) => value / sum);
}

// Log-probabilities around their mean are the logits around theirs.
function centredLogits(tensor: Tensor, isLogits: boolean): Float64Array {
  const values = Float64Array.from(tensor.data as Float32Array, (value) =>
    isLogits ? value : Math.log(Math.max(value, 1e-12)),
  );
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return values.map((value) => value - mean);
}

// Large outputs are hashed into so many sums of random sign, which keeps inner products on average (count sketch,
// Charikar, Chen, Farach-Colton, doi 10.1016/S0304-3975(03)00400-6).
const maxOutputs = 1024;

function sketch(values: Float64Array): Float64Array {
  if (values.length <= maxOutputs) return values;
  const result = new Float64Array(maxOutputs);
  for (let i = 0; i < values.length; i++) {
    const hash = mix(i);
    result[hash & (maxOutputs - 1)]! += hash & 0x8000_0000 ? values[i]! : -values[i]!;
  }
  return result;
}

function mix(value: number): number {
  let hash = Math.imul(value ^ 0x9e3779b9, 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

export interface SensitivityOptions {
  session: RuntimeSession;
  metric: OutputMetric;
  /** Frames at the cut; other tensors of the cut stay as they are. */
  frames: readonly NamedTensors[];
  name: string;
  layout: MapLayout;
  /** Directions to try, each of the block's size and of length one. */
  directions: readonly Float64Array[];
  /** Length of the change in every block. */
  amplitude: number;
  onProbe?: () => void;
}

/**
 * How the output's squared change depends on a change of the blocks: the matrix G for which a random change
 * Σ c_k · direction_k of every block changes the output by cᵀ·G·c, on average over positions and frames.
 *
 * Every direction is added once to each frame, with a sign drawn for each block and the same for all directions.
 * The inner product of two outputs' changes then estimates the sum over positions of the products of derivatives:
 * where blocks differ, the signs' products cancel on average. So as many runs as there are directions give the whole
 * matrix, and not its diagonal only.
 *
 * @returns Per frame: directions × directions, row after row.
 */
export async function measureSensitivity(options: SensitivityOptions): Promise<Float64Array[]> {
  const { session, metric, frames, name, layout, directions, amplitude, onProbe } = options;
  const n = directions.length;
  const { rows, columns } = gridOf(layout);
  const matrices: Float64Array[] = [];
  for (const [frameIndex, frame] of frames.entries()) {
    const tensor = frame[name]!;
    const original = toMaps(tensor, layout);
    const unchanged = metric((await session.run(frame)).outputs);
    const changes: Float64Array[] = [];
    for (const direction of directions) {
      const maps = Float32Array.from(original);
      for (let block = 0; block < rows * columns; block++) {
        const sign = mix(block + 1_000_003 * (frameIndex + 1)) & 0x10000 ? amplitude : -amplitude;
        addBlock(maps, layout, Math.floor(block / columns), block % columns, direction, sign);
      }
      const feeds = { ...frame, [name]: createTensor('float32', tensor.shape, fromMaps(maps, layout)) };
      const changed = metric((await session.run(feeds)).outputs);
      changes.push(sketch(changed.map((value, i) => (value - unchanged[i]!) / amplitude)));
      onProbe?.();
    }
    const matrix = new Float64Array(n * n);
    for (let i = 0; i < n; i++) {
      const a = changes[i]!;
      for (let j = i; j < n; j++) {
        const b = changes[j]!;
        let product = 0;
        for (let k = 0; k < a.length; k++) product += a[k]! * b[k]!;
        matrix[i * n + j] = product;
        matrix[j * n + i] = product;
      }
    }
    matrices.push(matrix);
  }
  return matrices;
}

/**
 * One matrix for each tensor of a cut from those of its frames. A frame about which the model is unsure would count
 * many times as much as one about which it is sure; dividing by the root of what all changes together did evens
 * that out half-way.
 *
 * @param perTensor Per tensor, per frame.
 */
export function combineSensitivities(perTensor: readonly (readonly Float64Array[])[]): Float64Array[] {
  const traceOf = (matrix: Float64Array): number => {
    const n = Math.sqrt(matrix.length);
    let trace = 0;
    for (let i = 0; i < n; i++) trace += matrix[i * n + i]!;
    return trace;
  };
  const numFrames = perTensor[0]!.length;
  const weights = Array.from({ length: numFrames }, (_, frame) => {
    const trace = perTensor.reduce((sum, matrices) => sum + traceOf(matrices[frame]!), 0);
    return trace > 0 ? 1 / Math.sqrt(trace) : 0;
  });
  const sums = perTensor.map((matrices) => {
    const sum = new Float64Array(matrices[0]!.length);
    matrices.forEach((matrix, frame) => {
      for (let i = 0; i < sum.length; i++) sum[i]! += matrix[i]! * weights[frame]!;
    });
    return sum;
  });
  // In units of the mean over all directions; a model that answers the same to everything has none.
  const numDirections = sums.reduce((sum, matrix) => sum + Math.sqrt(matrix.length), 0);
  const mean = sums.reduce((sum, matrix) => sum + traceOf(matrix), 0) / numDirections;
  return sums.map((matrix) => (mean > 0 ? matrix.map((value) => value / mean) : matrix));
}
