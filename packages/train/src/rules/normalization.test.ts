import { float32Tensor } from '@isthmus/graph';
import { describe, it } from 'vitest';
import { expectGradients } from '../testing/differences.js';

describe('normalizations', () => {
  it('BatchNormalization with fixed statistics', async () => {
    const inputs = { x: { shape: [2, 3, 2, 2] }, scale: { shape: [3] }, bias: { shape: [3] } };
    await expectGradients(inputs, (draft) =>
      draft.node(
        'BatchNormalization',
        [
          ...['x', 'scale', 'bias'],
          draft.constant(float32Tensor([0.1, -0.4, 0.2])),
          draft.constant(float32Tensor([0.5, 1.2, 2])),
        ],
        { epsilon: { float: 0.01 } },
      ),
    );
  });

  it.each([
    { axis: -1, scale: [4] },
    { axis: 1, scale: [3, 4] },
  ])('LayerNormalization %o', async ({ axis, scale }) => {
    const inputs = { x: { shape: [2, 3, 4] }, scale: { shape: scale }, bias: { shape: scale } };
    await expectGradients(inputs, (draft) =>
      draft.node('LayerNormalization', ['x', 'scale', 'bias'], { axis, epsilon: { float: 0.001 } }),
    );
  });

  it('LayerNormalization without a bias', async () => {
    await expectGradients({ x: { shape: [2, 6] }, scale: { shape: [6] } }, (draft) =>
      draft.node('LayerNormalization', ['x', 'scale']),
    );
  });

  it.each([
    { opset: 18, groups: 2, scale: [2] },
    { opset: 21, groups: 2, scale: [4] },
    { opset: 21, groups: 4, scale: [4] },
  ])('GroupNormalization %o', async ({ opset, groups, scale }) => {
    const inputs = { x: { shape: [2, 4, 2, 3] }, scale: { shape: scale }, bias: { shape: scale } };
    await expectGradients(
      inputs,
      (draft) => draft.node('GroupNormalization', ['x', 'scale', 'bias'], { num_groups: groups }),
      { opset },
    );
  });

  it('InstanceNormalization', async () => {
    const inputs = { x: { shape: [2, 3, 2, 3] }, scale: { shape: [3] }, bias: { shape: [3] } };
    await expectGradients(inputs, (draft) => draft.node('InstanceNormalization', ['x', 'scale', 'bias']));
  });
});
