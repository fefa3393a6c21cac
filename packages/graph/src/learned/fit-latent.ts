import {
  type CalibratedTables,
  IsthmusError,
  learnedTensors,
  calibratedModel as model,
  type Tensor,
} from '@isthmus/core';
import { chooseSteps, type LevelMeasure, onHull, triedSteps } from '../calibrate/choose-levels.js';
import { describeComponents } from '../calibrate/fit-components.js';
import { tablesForSteps } from '../calibrate/tables-for-steps.js';
import type { CalibrationTuning } from '../calibrate/tuning.js';

// Scales are bytes: far from 1, they could not tell channels apart.
const smallestScale = 2 ** -10;
const largestScale = 2 ** 12;

/** A level's tables, and what it took and did. */
export interface FittedLevels {
  tables: CalibratedTables;
  measures: LevelMeasure[];
}

export interface FitOptions {
  /** What the encoder made of the frames to fit on; all of one shape. */
  latents: readonly Tensor<'float32'>[];
  /** The quantizer's step at each level. @default chosen */
  steps?: readonly number[] | undefined;
  tuning: CalibrationTuning;
  /** What levels do, on few frames or on many. */
  measure: (tables: CalibratedTables, isFinal: boolean) => Promise<LevelMeasure[]>;
}

/**
 * Fits the coder's tables to latents. Where no steps are given, chooses them from near-lossless to rough on the latents'
 * own scale: of ten between the roughest that changes next to nothing and the finest that leaves next to nothing, those
 * on the convex hull of bytes and divergence.
 *
 * @throws IsthmusError `model/unsupported` if the latents are all zero or far from the size of 1
 */
export async function fitLatent({ latents, steps, tuning, measure }: FitOptions): Promise<FittedLevels> {
  const [, channels, rows, columns] = latents[0]!.shape as [number, number, number, number];
  const frames = latents.map(({ data }) => data);
  const scale = rootMeanSquare(frames);
  if (!(scale >= smallestScale && scale <= largestScale)) {
    throw new IsthmusError(
      'model/unsupported',
      `The latent's root mean square is ${scale.toPrecision(3)}; it must be from 1/1024 to 4096. Scale it in the ` +
        'encoder, and back in the decoder.',
    );
  }
  const described = describeComponents(
    learnedTensors.latent,
    { rows, columns, size: channels },
    channels,
    frames,
  );
  const unit = Math.round(8 * Math.log2(scale)) + model.scaleOffset;
  const given = { tensors: [described], frames: frames.map((data) => [data]), tuning };
  if (steps !== undefined) {
    const scales = steps.map((step) => Math.round(8 * Math.log2(step)) + model.scaleOffset);
    const tables = tablesForSteps(given, scales, true);
    return { tables, measures: await measure(tables, true) };
  }
  const tablesAt = (relative: readonly number[], isFinal: boolean): CalibratedTables =>
    tablesForSteps(
      given,
      relative.map((step) => step + unit),
      isFinal,
    );
  const rough = await measure(tablesAt(triedSteps, false), false);
  // What the networks lose by themselves, no step gives back.
  const least = Math.min(...rough.map(({ divergence }) => divergence));
  const chosen = chooseSteps(rough.map(({ divergence }) => ({ divergence: divergence - least })));
  const tables = tablesAt(chosen, true);
  const measures = await measure(tables, true);
  const kept = onHull(measures);
  return {
    tables: { ...tables, levels: kept.map((at) => tables.levels[at]!) },
    measures: kept.map((at) => measures[at]!),
  };
}

function rootMeanSquare(all: readonly Float32Array[]): number {
  let power = 0;
  let count = 0;
  for (const values of all) {
    for (const value of values) power += value * value;
    count += values.length;
  }
  return count > 0 ? Math.sqrt(power / count) : 0;
}
