import { type CutTensor, getCut, IsthmusError, type NamedTensors, type Runtime } from '@isthmus/core';
import { type Bundle, bundleSpan } from '../bundle.js';
import type { Transform } from './fit-transform.js';
import { fitTransforms } from './fit-transforms.js';
import type { MapLayout } from './maps.js';
import { createOutputMetric } from './sensitivity.js';
import { type CalibrationTuning, defaultTuning } from './tuning.js';

/** The principal transform of a cut's one tensor, as `calibrated` codes it. */
export interface CutTransform {
  tensor: CutTensor;
  layout: MapLayout;
  transform: Transform;
  /** Of the channels. */
  means: Float64Array;
  /** Where values end hard, such as at zero; undefined where they do not. */
  low: number | undefined;
  high: number | undefined;
}

export interface CutTransformOptions {
  runtime: Runtime;
  cut: number;
  /** The cut's tensors for the frames to fit on. */
  frames: readonly NamedTensors[];
  tuning?: Partial<CalibrationTuning>;
}

/**
 * Fits the transform that {@link calibrateBundle} would give a cut of a single tensor: from where a trained codec may
 * start.
 *
 * @throws IsthmusError `usage/invalid` for a cut of several tensors, or of one that is not float32
 */
export async function fitCutTransform(bundle: Bundle, options: CutTransformOptions): Promise<CutTransform> {
  const { runtime, frames, tuning } = options;
  const { manifest } = bundle;
  const cut = getCut(manifest, options.cut);
  const tail = await runtime.load(bundleSpan(bundle, cut.index, manifest.cuts.length - 1));
  try {
    const metric = createOutputMetric(manifest);
    const parts = await fitTransforms({ cut, tail, metric, frames, tuning: { ...defaultTuning, ...tuning } });
    const [part] = parts;
    if (part === undefined || cut.tensors.length > 1) {
      const names = cut.tensors.map(({ name, type }) => `${name} (${type})`).join(', ');
      throw new IsthmusError(
        'usage/invalid',
        `Cut ${cut.index} is not a single float32 tensor but ${names}.`,
      );
    }
    const { tensor, statistics, principal } = part;
    const { means, low, high } = statistics;
    return { tensor, ...principal, means, ...hardLimits(low, high) };
  } finally {
    await tail.release();
  }
}

/** The limits at which values seen end hard: those of Relu and of Relu6. */
export function hardLimits(low: number, high: number): { low: number | undefined; high: number | undefined } {
  return { low: low === 0 ? 0 : undefined, high: low === 0 && high === 6 ? 6 : undefined };
}
