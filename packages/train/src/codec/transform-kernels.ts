import type { CutTransform } from '@isthmus/graph';

/** Kernels of a transform and its inverse, in units that one learning rate suits. */
export interface Kernels {
  /** components × block size; rows of length 1. */
  forward: Float32Array<ArrayBuffer>;
  forwardFactors: Float32Array<ArrayBuffer>;
  backward: Float32Array<ArrayBuffer>;
  backwardFactors: Float32Array<ArrayBuffer>;
}

/** How many components are larger than a share of a step: smaller ones are never anything but zero. */
export function countComponents({ transform: { variances } }: CutTransform, leastShare: number): number {
  const { deviations } = unitScale(variances, variances.length);
  const count = deviations.findLastIndex((deviation) => deviation > leastShare) + 1;
  return Math.max(1, count);
}

/** The factor that gives all components together a root mean square of 1, and their deviations then. */
export function unitScale(
  variances: Float64Array,
  numComponents: number,
): { scale: number; deviations: Float64Array } {
  const power = variances.reduce((sum, value) => sum + value, 0) / variances.length;
  const scale = power > 0 ? 1 / Math.sqrt(power) : 1;
  return { scale, deviations: variances.slice(0, numComponents).map((value) => Math.sqrt(value) * scale) };
}

/** The kernels of a transform's largest components, multiplied with `scale`. */
export function scaledKernels({ transform }: CutTransform, numComponents: number, scale: number): Kernels {
  const { forward, backward } = transform;
  const total = transform.numComponents;
  const size = forward.length / total;
  const kernels: Kernels = {
    forward: new Float32Array(numComponents * size),
    forwardFactors: new Float32Array(numComponents),
    backward: new Float32Array(numComponents * size),
    backwardFactors: new Float32Array(numComponents),
  };
  for (let k = 0; k < numComponents; k++) {
    const there = Float64Array.from({ length: size }, (_, i) => (forward[k * size + i] ?? 0) * scale);
    const back = Float64Array.from({ length: size }, (_, i) => (backward[i * total + k] ?? 0) / scale);
    kernels.forwardFactors[k] = lengthOf(there);
    kernels.backwardFactors[k] = lengthOf(back);
    kernels.forward.set(
      there.map((value) => value / lengthOf(there)),
      k * size,
    );
    kernels.backward.set(
      back.map((value) => value / lengthOf(back)),
      k * size,
    );
  }
  return kernels;
}

function lengthOf(values: Float64Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0)) || 1;
}
