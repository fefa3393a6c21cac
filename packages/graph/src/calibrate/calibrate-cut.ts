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
import { fitTables, initialTables } from './fit-tables.js';
import { fitChannelFactors, fitTransform, principalDirections, type Transform } from './fit-transform.js';
import { type BlockStatistics, gridOf, layoutOf, type MapLayout, measureBlocks, toMaps } from './maps.js';
import { combineSensitivities, measureSensitivity, type OutputMetric } from './sensitivity.js';
import { type TransformModels, transformModels } from './transform-models.js';

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

/** Numbers that trade the fit's time against its quality. */
export interface CalibrationTuning {
  /** Directions whose sensitivity is measured, for each tensor. */
  numProbes: number;
  /** Frames on which it is measured. */
  numProbeFrames: number;
  /** Size of a change, relative to the root mean square of a block. */
  probeSize: number;
  /** Share of equal sensitivity mixed into the measured one. */
  shrink: number;
  /** The coder's tables are fitted on so many values at each level. */
  maxValues: number;
  maxBlockSize: number;
  /**
   * The price of a bit in squares of the step, at the finest and at the roughest level. High-rate theory says
   * ln 2 / 6 ≈ 0.12; where zeros prevail, they also make further zeros cheaper.
   */
  finestLambda: number;
  roughestLambda: number;
}

export const defaultTuning: CalibrationTuning = {
  numProbes: 256,
  numProbeFrames: 5,
  probeSize: 0.05,
  shrink: 0.2,
  maxValues: 500_000,
  maxBlockSize: 512,
  finestLambda: 0.06,
  roughestLambda: 0.15,
};

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
  const numValues = described.reduce(
    (sum, { scales, height, width }) => sum + scales.length * height * width,
    0,
  );
  return {
    models,
    fitTables(steps, isFinal) {
      const levelScales = steps.map((step) => step + model.scaleOffset);
      return (isFinal ? fitTables : initialTables)({
        tensors: described,
        levelScales,
        components: levelScales.map((levelScale) =>
          described.map(({ scales }) => countComponents(scales, levelScale)),
        ),
        frames: spread(transformed, Math.max(2, Math.floor(tuning.maxValues / numValues))),
        lambdas: steps.map((_, i) =>
          lerp(tuning.finestLambda, tuning.roughestLambda, i / (steps.length - 1 || 1)),
        ),
      });
    },
  };
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

const lerp = (from: number, to: number, share: number): number => from + share * (to - from);

/** At most so many of them, evenly chosen. */
export function spread<T>(all: readonly T[], count: number): T[] {
  if (all.length <= count) return [...all];
  return Array.from({ length: count }, (_, i) => all[Math.floor((i * all.length) / count)]!);
}
