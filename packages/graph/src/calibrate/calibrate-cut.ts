import {
  type CalibratedTables,
  type CutTensor,
  createTensor,
  calibratedModel as model,
  type NamedTensors,
  type Runtime,
} from '@isthmus/core';
import { describeComponents } from './fit-components.js';
import { hardLimits } from './fit-cut-transform.js';
import { fitTransforms, type TransformAndLayout, type TransformsOptions } from './fit-transforms.js';
import { type BlockStatistics, gridOf } from './maps.js';
import { tablesForSteps } from './tables-for-steps.js';
import { type TransformModels, transformModels } from './transform-models.js';

export interface CutOptions extends TransformsOptions {
  runtime: Runtime;
}

/** A cut's transforms, and its tables for any steps. */
export interface FittedCut {
  /** Per float32 tensor, in the cut's order. */
  models: TransformModels[];
  /**
   * @param steps As 8·log2, in units of the components' root mean square.
   * @param isFinal Whether to fit the tables on frames, or to leave them as those that know nothing.
   */
  fitTables(steps: readonly number[], isFinal: boolean): CalibratedTables;
}

/** Fits a cut's transforms: one to principal components, and one that only scales channels. */
export async function calibrateCut(
  options: CutOptions,
): Promise<{ principal: FittedCut; channels: FittedCut }> {
  const parts = await fitTransforms(options);
  const finish = (kind: 'principal' | 'channels'): Promise<FittedCut> =>
    fitVariant(
      options,
      parts.map((part) => ({ tensor: part.tensor, statistics: part.statistics, ...part[kind] })),
    );
  return { principal: await finish('principal'), channels: await finish('channels') };
}

interface Part extends TransformAndLayout {
  tensor: CutTensor;
  statistics: BlockStatistics;
}

async function fitVariant(
  { runtime, frames, tuning }: CutOptions,
  parts: readonly Part[],
): Promise<FittedCut> {
  const scale = unitScale(parts);
  const models = parts.map(({ tensor, layout, statistics, transform }) =>
    transformModels({
      tensor,
      layout,
      transform,
      means: statistics.means,
      scale,
      ...hardLimits(statistics.low, statistics.high),
    }),
  );
  const tensors = parts.map(({ tensor }) => tensor);
  const transformed = await transformFrames(runtime, models, tensors, frames);
  const described = parts.map(({ tensor, layout, transform }, index) =>
    describeComponents(
      tensor.name,
      gridOf(layout),
      transform.numComponents,
      transformed.map((frame) => frame[index]!),
    ),
  );
  return {
    models,
    fitTables: (steps, isFinal) =>
      tablesForSteps(
        { tensors: described, frames: transformed, tuning },
        steps.map((step) => step + model.scaleOffset),
        isFinal,
      ),
  };
}

// Components in units of their root mean square, so that steps mean the same at every cut.
function unitScale(parts: readonly TransformAndLayout[]): number {
  let power = 0;
  let count = 0;
  for (const { layout, transform } of parts) {
    const { variances } = transform;
    const { rows, columns } = gridOf(layout);
    for (const variance of variances) power += variance * rows * columns;
    count += variances.length * rows * columns;
  }
  return power > 0 ? 1 / Math.sqrt(power / count) : 1;
}

async function transformFrames(
  runtime: Runtime,
  models: readonly TransformModels[],
  tensors: readonly CutTensor[],
  frames: readonly NamedTensors[],
): Promise<Float32Array[][]> {
  const results: Float32Array[][] = frames.map(() => []);
  for (const [index, { encoder }] of models.entries()) {
    const session = await runtime.load(encoder);
    try {
      for (const [frame, named] of frames.entries()) {
        const { name, shape } = tensors[index]!;
        const x = createTensor('float32', shape, named[name]!.data as Float32Array<ArrayBuffer>);
        const { outputs } = await session.run({ x });
        results[frame]!.push(outputs.y!.data as Float32Array);
      }
    } finally {
      await session.release();
    }
  }
  return results;
}
