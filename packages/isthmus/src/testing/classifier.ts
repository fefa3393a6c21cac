import { writeFile } from 'node:fs/promises';
import { createTensor } from '@isthmus/core';
import { createGraphBuilder, writeModel } from '@isthmus/graph';

/** Writes a small convolutional classifier of pictures, 16 × 16, three classes; resolves to the path. */
export async function writeClassifier(path: string): Promise<string> {
  const graph = createGraphBuilder({ name: 'classifier', opset: 13 });
  const image = graph.input('image', 'float32', [1, 3, 16, 16]);
  const weights = (shape: number[]) => {
    const length = shape.reduce((a, b) => a * b, 1);
    return createTensor(
      'float32',
      shape,
      Float32Array.from({ length }, (_, i) => Math.sin(i * 7.3)),
    );
  };
  const a = graph.node('Conv', [image, graph.constant('a', weights([4, 3, 3, 3]))], { strides: [2, 2] });
  const b = graph.node('Relu', [a]);
  const c = graph.node('Conv', [b, graph.constant('b', weights([8, 4, 3, 3]))], { strides: [2, 2] });
  const d = graph.node('GlobalAveragePool', [graph.node('Relu', [c])]);
  const e = graph.node('Flatten', [d], { axis: 1 });
  graph.node('MatMul', [e, graph.constant('head', weights([8, 3]))], {}, { output: 'scores' });
  graph.output('scores', 'float32', [1, 3]);
  await writeFile(path, writeModel(graph.build()));
  return path;
}
