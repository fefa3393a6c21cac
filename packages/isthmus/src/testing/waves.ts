import { createTensor, describeGeometry, IsthmusError, type Preprocess } from '@isthmus/core';
import { createGraphBuilder, writeModel } from '@isthmus/graph';
import { createRandom } from '../link-bench/random.js';
import type { Frame } from '../rd/pictures.js';

/** Of pictures of 16 × 16. */
export const wavePreprocess: Preprocess = {
  ...{ width: 16, height: 16, colorOrder: 'rgb', fit: 'cover' },
  ...{ mean: [0, 0, 0], std: [255, 255, 255] },
};

/** Waves in three colours, all from the name's number; one in 24 is broken. */
export async function readWaves(name: string): Promise<Frame> {
  const number = Number(name.split('-')[1]);
  if (number % 24 === 5) throw new IsthmusError('image/decode-failed', `${name} is broken.`);
  const random = createRandom(number + 1);
  const waves = Array.from({ length: 9 }, () => ({ x: random() * 0.9, y: random() * 0.9, at: random() * 6 }));
  const data = Float32Array.from({ length: 3 * 256 }, (_, index) => {
    const [colour, y, x] = [Math.floor(index / 256), Math.floor(index / 16) % 16, index % 16];
    const parts = waves.slice(colour * 3, colour * 3 + 3);
    return parts.reduce((sum, wave) => sum + Math.sin(wave.x * x + wave.y * y + wave.at) / 6, 0.5);
  });
  const tensors = { image: createTensor('float32', [1, 3, 16, 16], data) };
  return { tensors, geometry: describeGeometry(16, 16, wavePreprocess) };
}

/** A classifier of such pictures whose maps are 8 × 8, then 4 × 4, twice. */
export function wavesClassifier(): Uint8Array {
  const graph = createGraphBuilder({ name: 'waves', opset: 13 });
  let maps = graph.input('image', 'float32', ['batch', 3, 16, 16]);
  const weights = (shape: number[], size = 1) => {
    const length = shape.reduce((a, b) => a * b, 1);
    const values = Float32Array.from(
      { length },
      (_, i) => (size * Math.sin(i * 7.3)) / Math.sqrt(length / 40),
    );
    return graph.constant(`weights-${shape.join('-')}-${maps}`, createTensor('float32', shape, values));
  };
  for (const [channels, from, stride] of [
    [6, 3, 2],
    [12, 6, 2],
    [10, 12, 1],
  ] as const) {
    const conv = { strides: [stride, stride], pads: [1, 1, 1, 1] };
    maps = graph.node('Relu', [graph.node('Conv', [maps, weights([channels, from, 3, 3])], conv)]);
  }
  const flat = graph.node('Flatten', [graph.node('GlobalAveragePool', [maps])], { axis: 1 });
  // Pictures differ little in their means: enough to tell classes apart.
  graph.node('MatMul', [flat, weights([10, 3], 30)], {}, { output: 'scores' });
  graph.output('scores', 'float32', ['batch', 3]);
  return writeModel(graph.build());
}
