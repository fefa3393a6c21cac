import { describe, it } from 'vitest';
import { expectGradients } from '../testing/differences.js';

const x = { shape: [2, 3, 4] };
const options = { step: 0.5 };

describe('operators that only move data', () => {
  it.each([
    ['Reshape', [2, 1, 4], [4, -1]],
    ['Reshape', [2, 1, 4], [0, 4]],
    ['Squeeze', [2, 1, 4], [1]],
    ['Unsqueeze', [2, 4], [0, 3]],
    ['Expand', [2, 1, 4], [5, 2, 3, 4]],
    ['Tile', [2, 1, 3], [2, 3, 1]],
  ])('%s of %j, %j', async (op, shape, numbers) => {
    await expectGradients(
      { x: { shape } },
      (draft) => draft.node(op, ['x', draft.integers(numbers)]),
      options,
    );
  });

  it('Flatten', async () => {
    await expectGradients({ x }, (draft) => draft.node('Flatten', ['x'], { axis: 2 }), options);
  });

  it('Transpose, with an order and without', async () => {
    await expectGradients({ x }, (draft) => draft.node('Transpose', ['x'], { perm: [2, 0, 1] }), options);
    await expectGradients({ x }, (draft) => draft.node('Transpose', ['x']), options);
  });

  it('Concat of three, one twice', async () => {
    await expectGradients(
      { x, y: { shape: [2, 1, 4] } },
      (draft) => draft.node('Concat', ['x', 'y', 'x'], { axis: -2 }),
      options,
    );
  });

  it('Split, of which a part is not used', async () => {
    await expectGradients(
      { x: { shape: [2, 6] } },
      (draft) => {
        const sizes = draft.integers([1, 3, 2]);
        const [first = '', , last = ''] = draft.multiNode('Split', ['x', sizes], ['a', 'b', 'c'], {
          axis: 1,
        });
        return [last, first];
      },
      options,
    );
  });

  it.each(['DCR', 'CRD'])('DepthToSpace %s', async (mode) => {
    await expectGradients(
      { x: { shape: [2, 8, 2, 3] } },
      (draft) => draft.node('DepthToSpace', ['x'], { blocksize: 2, mode }),
      options,
    );
  });

  it('SpaceToDepth', async () => {
    await expectGradients(
      { x: { shape: [1, 2, 4, 6] } },
      (draft) => draft.node('SpaceToDepth', ['x'], { blocksize: 2 }),
      options,
    );
  });
});
