import {
  type CalibratedTables,
  type Cut,
  type CutTensor,
  createTensor,
  elementCount,
  calibratedModel as model,
  type NamedTensors,
  type Runtime,
  type RuntimeSession,
} from '@isthmus/core';
import { describeComponents } from './fit-components.js';
import { fitChannelFactors, fitTransform, principalDirections, type Transform } from './fit-transform.js';
import { type BlockStatistics, gridOf, layoutOf, type MapLayout, measureBlocks, toMaps } from './maps.js';
import { combineSensitivities, measureSensitivity, type OutputMetric } from './sensitivity.js';
import { spread } from './spread.js';
import { tablesForSteps } from './tables-for-steps.js';
import { type TransformModels, transformModels } from './transform-models.js';
import type { CalibrationTuning } from './tuning.js';

export interface CutOptions {
  cut: Cut;
  runtime: Runtime;
  /** Runs from this cut to the model's end. */
  tail: RuntimeSession;
  metric: OutputMetric;
  /** The cut's tensors for the frames to fit on. */
  frames: readonly NamedTensors[];
  tuning: CalibrationTuning;
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
  const { cut, tail, metric, frames, tuning } = options;
  const tensors = cut.tensors.filter(({ type, shape }) => type === 'float32' && elementCount(shape) > 0);
  const parts = tensors.map((tensor) => {
    const layout = layoutOf(tensor, tuning.maxBlockSize);
    const maps = frames.map((frame) => toMaps(frame[tensor.name]!, layout));
    const statistics = measureBlocks(maps, layout);
    return { tensor, layout, statistics, principal: principalDirections(statistics, layout) };
  });
  const probeFrames = spread(frames, tuning.numProbeFrames);
  const perTensor: Float64Array[][] = [];
  for (const { tensor, layout, principal } of parts) {
    const { size, data } = principal.directions;
    const power = principal.variances.reduce((sum, value) => sum + value, 0);
    const numProbed = Math.min(size, tuning.numProbes);
    perTensor.push(
      await measureSensitivity({
        session: tail,
        metric,
        frames: probeFrames,
        name: tensor.name,
        layout,
        directions: Array.from({ length: numProbed }, (_, i) => data.slice(i * size, (i + 1) * size)),
        amplitude: tuning.probeSize * Math.sqrt(power) || 1,
      }),
    );
  }
  const sensitivities = combineSensitivities(perTensor);
  const variants: Variant[] = parts.map(({ principal, layout, statistics }, index) => {
    const sensitivity = sensitivities[index]!;
    const numProbed = Math.sqrt(sensitivity.length);
    const given = { principal, sensitivity, numProbed, shrink: tuning.shrink };
    return {
      principal: { layout, transform: fitTransform(given) },
      channels: {
        layout: { ...layout, block: 1 },
        transform: fitChannelFactors(given, layout, statistics.powers),
      },
    };
  });
  const finish = (kind: keyof Variant): Promise<FittedCut> =>
    fitVariant(
      options,
      parts.map(({ tensor, statistics }, index) => ({ tensor, statistics, ...variants[index]![kind] })),
    );
  return { principal: await finish('principal'), channels: await finish('channels') };
}

interface TransformAndLayout {
  layout: MapLayout;
  transform: Transform;
}

interface Variant {
  principal: TransformAndLayout;
  channels: TransformAndLayout;
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
      low: statistics.low === 0 ? 0 : undefined,
      high: statistics.low === 0 && statistics.high === 6 ? 6 : undefined,
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
