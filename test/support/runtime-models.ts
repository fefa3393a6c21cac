import { createTensor, type Tensor, type TensorType } from '@isthmus/core';
import { createGraphBuilder, float32Tensor, writeModel } from '@isthmus/graph';

/** `outputs.y` is `inputs.x`, whatever it holds. */
export function identityModel(type: TensorType): Uint8Array {
  const graph = createGraphBuilder({ name: 'identity', opset: 17 });
  const x = graph.input('x', type, ['n', 2]);
  graph.output(graph.node('Identity', [x], {}, { output: 'y' }), type, ['n', 2]);
  return writeModel(graph.build());
}

/** `length` matrix products, one after the other: work that grows with length and with the input's size. */
export function powerModel(length: number): Uint8Array {
  const graph = createGraphBuilder({ name: 'power', opset: 17 });
  const x = graph.input('x', 'float32', ['n', 'n']);
  let power = x;
  for (let step = 1; step < length; step++) power = graph.node('MatMul', [power, x]);
  graph.output(graph.node('MatMul', [power, x], {}, { output: 'y' }), 'float32', ['n', 'n']);
  return writeModel(graph.build());
}

/** A small convolutional network with two outputs, `features` and `scores`. */
export function convModel(): Uint8Array {
  const graph = createGraphBuilder({ name: 'conv', opset: 17 });
  const weights = (...shape: number[]): Tensor =>
    float32Tensor(
      Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i * 12.9898) / 4),
      shape,
    );
  const x = graph.input('x', 'float32', ['batch', 3, 16, 16]);
  const w1 = graph.constant('w1', weights(8, 3, 3, 3));
  const conv = graph.node('Conv', [x, w1], { kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [2, 2] });
  const features = graph.node('Relu', [conv], {}, { output: 'features' });
  const pooled = graph.node('Flatten', [graph.node('GlobalAveragePool', [features])], { axis: 1 });
  const w2 = graph.constant('w2', weights(8, 5));
  const scores = graph.node('MatMul', [pooled, w2], {}, { output: 'scores' });
  graph.output(features, 'float32', ['batch', 8, 8, 8]);
  graph.output(scores, 'float32', ['batch', 5]);
  return writeModel(graph.build());
}

/** A square matrix whose powers stay within [0, 1]. */
export function averagingMatrix(size: number): Tensor<'float32'> {
  return createTensor('float32', [size, size], new Float32Array(size * size).fill(1 / size));
}

/** One 2 × 2 tensor of each type, with values that a wrong conversion would change. */
export const oneTensorOfEachType: readonly Tensor[] = [
  createTensor('float32', [2, 2], Float32Array.of(0.1, -0, 3e38, -1e-40)),
  createTensor('float16', [2, 2], Uint16Array.of(0x3c00, 0xc000, 0x7bff, 0x0001)),
  createTensor('int64', [2, 2], BigInt64Array.of(0n, -1n, 2n ** 62n, -(2n ** 63n))),
  createTensor('int32', [2, 2], Int32Array.of(0, -1, 2 ** 31 - 1, -(2 ** 31))),
  createTensor('int8', [2, 2], Int8Array.of(0, -1, 127, -128)),
  createTensor('uint8', [2, 2], Uint8Array.of(0, 1, 128, 255)),
  createTensor('bool', [2, 2], Uint8Array.of(0, 1, 1, 0)),
];
