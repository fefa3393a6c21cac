import { describe, it } from 'vitest';
import { expectGradients } from '../testing/differences.js';
import { seededRandom, uniformValues } from '../testing/random.js';

// A permutation of multiples of 0.2: no step changes which element of a window is the largest.
function apart(count: number): Float32Array {
  const keys = uniformValues(count, seededRandom(count));
  const order = [...keys.keys()].sort((a, b) => (keys[a] ?? 0) - (keys[b] ?? 0));
  return Float32Array.from({ length: count }, (_, index) => order.indexOf(index) * 0.2 - 3);
}

const windows: { size: number[]; attributes: Record<string, number | number[] | string> }[] = [
  { size: [1, 2, 4, 4], attributes: { kernel_shape: [2, 2], strides: [2, 2] } },
  { size: [2, 2, 5, 6], attributes: { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] } },
  { size: [1, 2, 4, 5], attributes: { kernel_shape: [3, 2] } },
  { size: [1, 1, 5, 5], attributes: { kernel_shape: [3, 3], pads: [1, 0, 1, 1] } },
  { size: [1, 2, 5, 4], attributes: { kernel_shape: [2, 2], strides: [2, 2], auto_pad: 'SAME_UPPER' } },
  { size: [2, 2, 7], attributes: { kernel_shape: [3], strides: [2] } },
];

describe.each(windows)('$size, $attributes', ({ size, attributes }) => {
  const values = apart(size.reduce((product, length) => product * length, 1));

  it('MaxPool', async () => {
    await expectGradients({ x: { shape: size, values } }, (draft) =>
      draft.node('MaxPool', ['x'], attributes),
    );
  });

  it.each([0, 1])('AveragePool, count_include_pad %i', async (include) => {
    await expectGradients(
      { x: { shape: size, values } },
      (draft) => draft.node('AveragePool', ['x'], { ...attributes, count_include_pad: include }),
      { step: 0.5 },
    );
  });
});

describe('MaxPool', () => {
  it('with gaps', async () => {
    await expectGradients({ x: { shape: [1, 1, 5, 6], values: apart(30) } }, (draft) =>
      draft.node('MaxPool', ['x'], { kernel_shape: [2, 2], dilations: [2, 2] }),
    );
  });
});
