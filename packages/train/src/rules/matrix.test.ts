import { describe, it } from 'vitest';
import { expectGradients } from '../testing/differences.js';

describe('MatMul', () => {
  it.each([
    [
      [3, 4],
      [4, 2],
    ],
    [
      [2, 3, 4],
      [4, 2],
    ],
    [
      [3, 4],
      [2, 4, 2],
    ],
    [
      [2, 3, 4],
      [2, 4, 2],
    ],
    [
      [2, 1, 3, 4],
      [3, 4, 2],
    ],
    [[4], [4]],
    [[4], [4, 2]],
    [[3, 4], [4]],
    [[2, 3, 4], [4]],
    [[4], [2, 4, 3]],
  ])('of [%j] and [%j]', async (a, b) => {
    await expectGradients({ a: { shape: a }, b: { shape: b } }, (draft) => draft.node('MatMul', ['a', 'b']), {
      step: 0.2,
    });
  });
});

describe('Gemm', () => {
  const transposes = [0, 1].flatMap((transA) => [0, 1].map((transB) => ({ transA, transB })));

  it.each(transposes)('%o', async ({ transA, transB }) => {
    const inputs = {
      a: { shape: transA ? [4, 3] : [3, 4] },
      b: { shape: transB ? [2, 4] : [4, 2] },
      c: { shape: [2] },
    };
    const scales = { alpha: { float: 0.5 }, beta: { float: 2 } };
    await expectGradients(
      inputs,
      (draft) => draft.node('Gemm', ['a', 'b', 'c'], { transA, transB, ...scales }),
      { step: 0.2 },
    );
  });

  it('without a bias', async () => {
    await expectGradients({ a: { shape: [3, 4] }, b: { shape: [4, 2] } }, (draft) =>
      draft.node('Gemm', ['a', 'b']),
    );
  });
});
