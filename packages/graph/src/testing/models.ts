import type { Tensor } from '@isthmus/core';
import { createGraphBuilder, type Dimension, type GraphBuilder } from '../build.js';
import type { ModelProto } from '../onnx_pb.js';
import { float32Tensor } from '../tensors.js';

/** Weights that keep activations in range, the same every time. */
export function weights(shape: readonly number[], seed: number): Tensor<'float32'> {
  const fanIn = shape.slice(1).reduce((product, size) => product * size, 1);
  let state = seed * 7919 + 1;
  const values = Array.from({ length: fanIn * shape[0]! }, () => {
    state = (state * 48271) % 2147483647;
    return ((state / 2147483647) * 2 - 1) * Math.sqrt(3 / fanIn);
  });
  return float32Tensor(values, shape);
}

export interface ConvOptions {
  channels: number;
  from: number;
  kernel?: number;
  stride?: number;
  relu?: boolean;
}

/** A convolution that keeps the size (or divides it by the stride), with a bias, and a Relu unless told not to. */
export function conv(graph: GraphBuilder, input: string, name: string, options: ConvOptions): string {
  const { channels, from, kernel = 3, stride = 1, relu = true } = options;
  const seed = name.length * 31 + channels;
  const w = graph.constant(`${name}.weight`, weights([channels, from, kernel, kernel], seed));
  const b = graph.constant(`${name}.bias`, weights([channels], seed + 1));
  const pad = kernel >> 1;
  const output = graph.node(
    'Conv',
    [input, w, b],
    { kernel_shape: [kernel, kernel], strides: [stride, stride], pads: [pad, pad, pad, pad] },
    { output: relu ? `${name}.conv` : name },
  );
  return relu ? graph.node('Relu', [output], {}, { output: name }) : output;
}

const image = (batch: Dimension, size: Dimension = 32): readonly Dimension[] => [batch, 3, size, size];

/** A chain of convolutions, global pooling, and a classifier behind a Reshape with a fixed batch. */
export function chainModel(batch: Dimension = 1, opset: number = 17): ModelProto {
  const graph = createGraphBuilder({ name: 'chain', opset });
  let x = graph.input('image', 'float32', image(batch));
  let from = 3;
  for (const [index, channels] of [8, 16, 32, 32, 64].entries()) {
    x = conv(graph, x, `block${index}`, { from, channels, stride: index % 2 === 0 ? 2 : 1 });
    from = channels;
  }
  x = graph.node('GlobalAveragePool', [x], {}, { output: 'pooled' });
  const target = graph.constant('flat', { type: 'int64', shape: [2], data: BigInt64Array.of(1n, 64n) });
  x = graph.node('Reshape', [x, target], {}, { output: 'features' });
  const w = graph.constant('classifier', weights([10, 64], 5));
  x = graph.node('Gemm', [x, w], { transB: 1 }, { output: 'logits' });
  graph.output(graph.node('Softmax', [x], { axis: 1 }, { output: 'scores' }), 'float32', [batch, 10]);
  return graph.build();
}

/** Two inception-like blocks: four branches that meet in a Concat, between plain convolutions. */
export function inceptionModel(batch: Dimension = 'N', opset: number = 13): ModelProto {
  const graph = createGraphBuilder({ name: 'inception', opset });
  let x = graph.input('image', 'float32', image(batch));
  x = conv(graph, x, 'stem', { from: 3, channels: 16, stride: 2 });
  for (const [block, from] of [16, 32].entries()) {
    const name = `mixed${block}`;
    const pooled = graph.node('AveragePool', [x], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] });
    const reduced = conv(graph, x, `${name}.b2a`, { from, channels: 8, kernel: 1 });
    const branches = [
      conv(graph, x, `${name}.b1`, { from, channels: 8, kernel: 1 }),
      conv(graph, reduced, `${name}.b2b`, { from: 8, channels: 8 }),
      conv(graph, x, `${name}.b3`, { from, channels: 8, kernel: 5 }),
      conv(graph, pooled, `${name}.b4`, { from, channels: 8, kernel: 1 }),
    ];
    const joined = graph.node('Concat', branches, { axis: 1 }, { output: `${name}.joined` });
    x = graph.node('MaxPool', [joined], { kernel_shape: [2, 2], strides: [2, 2] }, { output: `${name}.out` });
  }
  x = conv(graph, x, 'head', { from: 32, channels: 12, kernel: 1, relu: false });
  graph.output(graph.node('GlobalAveragePool', [x], {}, { output: 'result' }), 'float32', [batch, 12, 1, 1]);
  return graph.build();
}

/** A U-Net: every cut through the middle also carries the skips around it. */
export function unetModel(batch: Dimension = 1, opset: number = 21): ModelProto {
  const graph = createGraphBuilder({ name: 'unet', opset });
  const x = graph.input('image', 'float32', image(batch));
  const pool = (value: string): string =>
    graph.node('MaxPool', [value], { kernel_shape: [2, 2], strides: [2, 2] });
  const up = (value: string, size: number, channels: number): string => {
    const sizes = graph.constant(`sizes${size}`, {
      type: 'int64',
      shape: [4],
      data: BigInt64Array.from([1, channels, size, size], BigInt),
    });
    return graph.node('Resize', [value, '', '', sizes], { mode: 'nearest' });
  };
  const down1 = conv(graph, x, 'down1', { from: 3, channels: 8 });
  const down2 = conv(graph, pool(down1), 'down2', { from: 8, channels: 16 });
  const middle = conv(graph, pool(down2), 'middle', { from: 16, channels: 16 });
  const join2 = graph.node('Concat', [up(middle, 16, 16), down2], { axis: 1 });
  const up2 = conv(graph, join2, 'up2', { from: 32, channels: 8 });
  const join1 = graph.node('Concat', [up(up2, 32, 8), down1], { axis: 1 });
  const up1 = conv(graph, join1, 'up1', { from: 16, channels: 8 });
  const mask = conv(graph, up1, 'mask', { from: 8, channels: 1, kernel: 1, relu: false });
  graph.output(graph.node('Sigmoid', [mask], {}, { output: 'probability' }), 'float32', [batch, 1, 32, 32]);
  return graph.build();
}
