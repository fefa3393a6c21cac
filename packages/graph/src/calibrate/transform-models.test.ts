import { createTensor, elementCount, type Runtime } from '@isthmus/core';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fitTransform, principalDirections } from './fit-transform.js';
import { gridOf, layoutOf, measureBlocks, toMaps } from './maps.js';
import { transformModels } from './transform-models.js';

let runtime: Runtime;
beforeAll(() => {
  runtime = createNodeRuntime({ threads: 1 });
});
afterAll(() => runtime.close());

// Waves of a few phases, so that channels and positions go together.
const makeData = (shape: readonly number[], seed: number): Float32Array<ArrayBuffer> =>
  Float32Array.from(
    { length: elementCount(shape) },
    (_, i) => Math.sin(seed + 0.37 * i) + 0.5 * Math.cos(i * i) + 1,
  );

describe('a transform and its inverse', () => {
  it.each([
    ['feature maps in blocks', [1, 3, 8, 16], 8],
    ['feature maps of odd size', [1, 6, 7, 5], 1],
    ['tokens', [1, 9, 12], 1],
    ['a vector', [1, 20], 1],
    ['a tensor of another rank', [2, 2, 3, 2, 1], 1],
  ])('give %s back', async (_, shape, block) => {
    const tensor = { name: 't', type: 'float32' as const, shape, batched: false, asInput: '', asOutput: '' };
    const layout = layoutOf(tensor);
    expect(layout.block).toBe(block);
    const frames = Array.from({ length: 6 }, (_, seed) =>
      createTensor('float32', shape, makeData(shape, seed)),
    );
    const statistics = measureBlocks(
      frames.map((frame) => toMaps(frame, layout)),
      layout,
    );
    const principal = principalDirections(statistics, layout);
    const { size, rows, columns } = gridOf(layout);
    const numProbed = Math.min(size, 5);
    // Very unlike sensitivities, which the inverse has to undo.
    const sensitivity = Float64Array.from({ length: numProbed ** 2 }, (_, i) =>
      i % (numProbed + 1) === 0 ? 4 ** (i % 3) : 0.1,
    );
    const transform = fitTransform({ principal, sensitivity, numProbed, shrink: 0.1 });
    const { means } = statistics;
    const models = transformModels({
      tensor,
      layout,
      transform,
      means,
      scale: 3,
      low: undefined,
      high: undefined,
    });
    const [encoder, decoder] = [await runtime.load(models.encoder), await runtime.load(models.decoder)];
    const { y } = (await encoder.run({ x: frames[0]! })).outputs;
    expect(y!.shape).toEqual([1, size, rows, columns]);
    const { x } = (await decoder.run({ y: y! })).outputs;
    expect(x!.shape).toEqual(shape);
    (x!.data as Float32Array).forEach((value, i) => {
      expect(Math.abs(value - (frames[0]!.data as Float32Array)[i]!)).toBeLessThan(0.02);
    });
  });
});
