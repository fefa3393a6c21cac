import { type CutTensor, elementCount, float32ToFloat16, type Tensor } from '@isthmus/core';
import { createGraphBuilder, type GraphBuilder } from '../build.js';
import { float32Tensor, int64Tensor } from '../tensors.js';
import { writeModel } from '../write.js';
import type { Transform } from './fit-transform.js';
import { transpose as transposed } from './linear-algebra.js';
import { gridOf, type MapLayout } from './maps.js';

export interface TransformModels {
  encoder: Uint8Array;
  decoder: Uint8Array;
}

export interface TransformModelOptions {
  tensor: CutTensor;
  layout: MapLayout;
  transform: Transform;
  /** Of the channels; not used where they are only scaled. */
  means: Float64Array;
  /** Components are multiplied with it. */
  scale: number;
  /** Reconstructed values are clipped to what was seen, where it ends at zero or at another hard limit. */
  low: number | undefined;
  high: number | undefined;
}

const opset = 17;

/**
 * The transform and its inverse as ONNX models: a convolution whose kernel is a block and whose stride is the
 * kernel's size, and the transposed one. Weights are stored as float16, which halves what a device fetches; the
 * rounding is some 60 dB below the components.
 */
export function transformModels(options: TransformModelOptions): TransformModels {
  return { encoder: encoderModel(options), decoder: decoderModel(options) };
}

function encoderModel({ tensor, layout, transform, means, scale }: TransformModelOptions): Uint8Array {
  const { channels, height, width, block } = layout;
  const { numComponents, forward } = transform;
  const { size } = gridOf(layout);
  const graph = createGraphBuilder({ name: 'encoder', opset });
  let x = graph.input('x', 'float32', tensor.shape);
  if (layout.channelsLast) x = graph.node('Transpose', [x], { perm: [0, 2, 1] });
  x = reshape(graph, x, [1, channels, height, width], 'maps');
  if (transform.isDiagonal) {
    const factors = float32Tensor(
      forward.map((value) => value * scale),
      [1, channels, 1, 1],
    );
    graph.output(graph.node('Mul', [x, graph.constant('factors', factors)], {}, { output: 'y' }), 'float32');
    return writeModel(graph.build());
  }
  const { weights, factor } = halfWeights(graph, forward, [numComponents, channels, block, block]);
  const bias = new Float64Array(numComponents);
  for (let k = 0; k < numComponents; k++) {
    for (let i = 0; i < size; i++)
      bias[k]! -= (forward[k * size + i]! / factor) * means[Math.floor(i / (block * block))]!;
  }
  const biasName = graph.constant('bias', float32Tensor(bias));
  x = graph.node('Conv', [x, weights, biasName], { kernel_shape: [block, block], strides: [block, block] });
  x = graph.node(
    'Mul',
    [x, graph.constant('scale', float32Tensor([factor * scale], []))],
    {},
    { output: 'y' },
  );
  graph.output(x, 'float32');
  return writeModel(graph.build());
}

function decoderModel(options: TransformModelOptions): Uint8Array {
  const { tensor, layout, transform, means, scale, low, high } = options;
  const { channels, block } = layout;
  const { numComponents, backward } = transform;
  const { rows, columns, size } = gridOf(layout);
  const graph = createGraphBuilder({ name: 'decoder', opset });
  let y = graph.input('y', 'float32', [1, numComponents, rows, columns]);
  if (transform.isDiagonal) {
    const factors = float32Tensor(
      backward.map((value) => value / scale),
      [1, channels, 1, 1],
    );
    y = graph.node('Mul', [y, graph.constant('factors', factors)]);
  } else {
    const inverse = transposed(backward, size, numComponents);
    const { weights, factor } = halfWeights(graph, inverse, [numComponents, channels, block, block]);
    y = graph.node('Mul', [y, graph.constant('scale', float32Tensor([factor / scale], []))]);
    y = graph.node('ConvTranspose', [y, weights, graph.constant('means', float32Tensor(means))], {
      kernel_shape: [block, block],
      strides: [block, block],
    });
  }
  if (low !== undefined || high !== undefined) {
    const bound = (name: string, value: number | undefined): string =>
      value === undefined ? '' : graph.constant(name, float32Tensor([value], []));
    y = graph.node(
      'Clip',
      high === undefined ? [y, bound('low', low)] : [y, bound('low', low), bound('high', high)],
    );
  }
  if (layout.channelsLast) {
    y = reshape(graph, y, [1, channels, layout.height], 'tokens');
    y = graph.node('Transpose', [y], { perm: [0, 2, 1] });
  }
  y = reshape(graph, y, tensor.shape, 'shape', 'x');
  graph.output(y, 'float32');
  return writeModel(graph.build());
}

// Scaled so that the largest is 1, stored as float16 and cast when the model is loaded.
function halfWeights(
  graph: GraphBuilder,
  values: Float64Array,
  shape: readonly number[],
): { weights: string; factor: number } {
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
  const data = float32ToFloat16(
    Float32Array.from({ length: elementCount(shape) }, (_, i) => values[i]! / largest),
  );
  const half: Tensor<'float16'> = { type: 'float16', shape, data };
  return { weights: graph.node('Cast', [graph.constant('weights', half)], { to: 1 }), factor: largest };
}

function reshape(
  graph: GraphBuilder,
  x: string,
  shape: readonly number[],
  name: string,
  output?: string,
): string {
  return graph.node(
    'Reshape',
    [x, graph.constant(name, int64Tensor([...shape]))],
    {},
    output === undefined ? {} : { output },
  );
}
