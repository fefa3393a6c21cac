import { float32Tensor } from '@isthmus/graph';
import { describe, it } from 'vitest';
import { expectGradients } from '../testing/differences.js';

const options = { step: 0.5 };
const scales = [
  [2, 2],
  [3, 1],
  [0.5, 2],
  [1.5, 2.5],
];
const nearest = [
  { coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' },
  { coordinate_transformation_mode: 'half_pixel', nearest_mode: 'round_prefer_floor' },
  { coordinate_transformation_mode: 'asymmetric', nearest_mode: 'ceil' },
  { coordinate_transformation_mode: 'align_corners', nearest_mode: 'round_prefer_ceil' },
];
const linear = ['half_pixel', 'pytorch_half_pixel', 'align_corners', 'asymmetric'];

describe.each(scales)('Resize by %d and %d', (height, width) => {
  it.each(nearest)('to the nearest, %o', async (attributes) => {
    await expectGradients(
      { x: { shape: [1, 2, 4, 6] } },
      (draft) => {
        const factors = draft.constant(float32Tensor([1, 1, height, width]));
        return draft.node('Resize', ['x', '', factors], { mode: 'nearest', ...attributes });
      },
      options,
    );
  });

  it.each(linear)('linearly, %s', async (mode) => {
    await expectGradients(
      { x: { shape: [1, 2, 4, 6] } },
      (draft) => {
        const factors = draft.constant(float32Tensor([1, 1, height, width]));
        return draft.node('Resize', ['x', '', factors], {
          mode: 'linear',
          coordinate_transformation_mode: mode,
        });
      },
      options,
    );
  });
});

describe('Resize', () => {
  it('to sizes', async () => {
    await expectGradients(
      { x: { shape: [1, 2, 4, 3] } },
      (draft) => draft.node('Resize', ['x', '', '', draft.integers([1, 2, 7, 6])], { mode: 'linear' }),
      options,
    );
  });
});
