import { type CalibratedTensor, calibratedModel as model } from '@isthmus/core';
import type { BlockGrid } from './maps.js';

// Neighbours that explain less than this share of the power are not used for prediction.
const leastGain = 0.05;

/**
 * How large each component is, and how it follows its neighbours: the separable first-order prediction
 * `left·x(−1, 0) + up·x(0, −1) − left·up·x(−1, −1)`, and the mean magnitude of what it leaves.
 *
 * @param frames Per frame: components × rows × columns.
 */
export function describeComponents(
  name: string,
  { rows, columns }: BlockGrid,
  numComponents: number,
  frames: readonly Float32Array[],
): CalibratedTensor {
  const scales: number[] = [];
  const left: number[] = [];
  const up: number[] = [];
  for (let component = 0; component < numComponents; component++) {
    const planes = frames.map((frame) =>
      frame.subarray(component * rows * columns, (component + 1) * rows * columns),
    );
    const across = correlation(planes, rows, columns, 1, 0);
    const down = correlation(planes, rows, columns, 0, 1);
    const gain = 1 - (1 - across * across) * (1 - down * down);
    const [l, u] = gain < leastGain ? [0, 0] : [Math.round(64 * across), Math.round(64 * down)];
    left.push(l);
    up.push(u);
    const magnitude = meanMagnitude(planes, rows, columns, l / 64, u / 64);
    const scale = magnitude > 0 ? Math.round(8 * Math.log2(magnitude)) + model.scaleOffset : 0;
    scales.push(Math.max(0, Math.min(255, scale)));
  }
  return { name, height: rows, width: columns, scales, left, up };
}

function correlation(
  planes: readonly Float32Array[],
  rows: number,
  columns: number,
  dx: number,
  dy: number,
): number {
  let product = 0;
  let power = 0;
  for (const plane of planes) {
    for (let y = dy; y < rows; y++) {
      for (let x = dx; x < columns; x++) {
        const here = plane[y * columns + x]!;
        const there = plane[(y - dy) * columns + x - dx]!;
        product += here * there;
        power += (here * here + there * there) / 2;
      }
    }
  }
  return power > 0 ? Math.max(-1, Math.min(1, product / power)) : 0;
}

function meanMagnitude(
  planes: readonly Float32Array[],
  rows: number,
  columns: number,
  left: number,
  up: number,
): number {
  let sum = 0;
  for (const plane of planes) {
    const at = (y: number, x: number): number => (y < 0 || x < 0 ? 0 : plane[y * columns + x]!);
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        sum += Math.abs(at(y, x) - left * at(y, x - 1) - up * at(y - 1, x) + left * up * at(y - 1, x - 1));
      }
    }
  }
  return sum / (planes.length * rows * columns);
}
