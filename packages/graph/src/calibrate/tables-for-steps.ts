import type { CalibratedTables, CalibratedTensor } from '@isthmus/core';
import { fitTables, initialTables } from './fit-tables.js';
import { spread } from './spread.js';
import type { CalibrationTuning } from './tuning.js';

export interface TransformedFrames {
  tensors: readonly CalibratedTensor[];
  /** Per frame, per tensor: the transformed values. */
  frames: readonly (readonly Float32Array[])[];
  tuning: Pick<CalibrationTuning, 'maxValues' | 'finestLambda' | 'roughestLambda'>;
}

/**
 * The coder's tables for levels of any steps.
 *
 * @param levelScales 8·log2 of the steps, plus the offset of scales.
 * @param isFinal Whether to fit the tables on frames, or to leave them as those that know nothing.
 */
export function tablesForSteps(
  { tensors, frames, tuning }: TransformedFrames,
  levelScales: readonly number[],
  isFinal: boolean,
): CalibratedTables {
  const numValues = tensors.reduce(
    (sum, { scales, height, width }) => sum + scales.length * height * width,
    0,
  );
  return (isFinal ? fitTables : initialTables)({
    tensors,
    levelScales,
    components: levelScales.map((levelScale) =>
      tensors.map(({ scales }) => countComponents(scales, levelScale)),
    ),
    frames: spread(frames, Math.max(2, Math.floor(tuning.maxValues / numValues))),
    lambdas: levelScales.map((_, i) =>
      lerp(tuning.finestLambda, tuning.roughestLambda, i / (levelScales.length - 1 || 1)),
    ),
  });
}

// A component whose mean magnitude is so far below the step never makes anything but zeros.
const negligible = 8 * 5;

function countComponents(scales: readonly number[], levelScale: number): number {
  let last = 0;
  scales.forEach((scale, index) => {
    if (scale > levelScale - negligible) last = index + 1;
  });
  return last;
}

const lerp = (from: number, to: number, share: number): number => from + share * (to - from);
