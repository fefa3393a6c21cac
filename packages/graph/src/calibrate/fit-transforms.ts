import {
  type Cut,
  type CutTensor,
  elementCount,
  type NamedTensors,
  type RuntimeSession,
} from '@isthmus/core';
import { fitChannelFactors, fitTransform, principalDirections, type Transform } from './fit-transform.js';
import { type BlockStatistics, layoutOf, type MapLayout, measureBlocks, toMaps } from './maps.js';
import { combineSensitivities, measureSensitivity, type OutputMetric } from './sensitivity.js';
import { spread } from './spread.js';
import type { CalibrationTuning } from './tuning.js';

export interface TransformsOptions {
  cut: Cut;
  /** Runs from this cut to the model's end. */
  tail: RuntimeSession;
  metric: OutputMetric;
  /** The cut's tensors for the frames to fit on. */
  frames: readonly NamedTensors[];
  tuning: CalibrationTuning;
}

export interface TransformAndLayout {
  layout: MapLayout;
  transform: Transform;
}

/** The transforms of one tensor. */
export interface TensorTransforms {
  tensor: CutTensor;
  statistics: BlockStatistics;
  /** To principal components, weighted by how sensitive the output is to them. */
  principal: TransformAndLayout;
  /** Only scales channels. */
  channels: TransformAndLayout;
}

/** Fits the transforms of a cut's float32 tensors, in their order. */
export async function fitTransforms(options: TransformsOptions): Promise<TensorTransforms[]> {
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
  return parts.map(({ tensor, layout, statistics, principal }, index) => {
    const sensitivity = sensitivities[index]!;
    const numProbed = Math.sqrt(sensitivity.length);
    const given = { principal, sensitivity, numProbed, shrink: tuning.shrink };
    return {
      tensor,
      statistics,
      principal: { layout, transform: fitTransform(given) },
      channels: {
        layout: { ...layout, block: 1 },
        transform: fitChannelFactors(given, layout, statistics.powers),
      },
    };
  });
}
