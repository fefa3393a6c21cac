import { describe, it } from 'vitest';
import { expectGradients } from '../testing/differences.js';
import { seededRandom, uniformValues } from '../testing/random.js';

const pairs = [
  { a: [2, 3], b: [2, 3] },
  { a: [2, 3, 4], b: [3, 1] },
  { a: [4], b: [2, 3, 1] },
  { a: [2, 1, 3], b: [1, 4, 1] },
  { a: [2, 3], b: [] },
];
const size = (shape: readonly number[]): number => shape.reduce((count, length) => count * length, 1);
const positive = (shape: readonly number[], seed: number) => ({
  shape,
  values: uniformValues(size(shape), seededRandom(seed), 0.6, 1.8),
});

describe.each(pairs)('of [$a] and [$b]', ({ a, b }) => {
  it.each(['Add', 'Sub', 'Mul', 'Div', 'Pow'])('%s', async (op) => {
    await expectGradients({ a: positive(a, 1), b: positive(b, 2) }, (draft) => draft.node(op, ['a', 'b']));
  });

  it.each(['Max', 'Min'])('%s', async (op) => {
    // Multiples of 0.3 with an offset: never closer to each other than 0.15, so that no step changes who wins.
    const values = (shape: readonly number[], offset: number, seed: number) =>
      uniformValues(size(shape), seededRandom(seed), -4, 4).map((value) => Math.round(value) * 0.3 + offset);
    await expectGradients(
      { a: { shape: a, values: values(a, 0, 3) }, b: { shape: b, values: values(b, 0.15, 4) } },
      (draft) => draft.node(op, ['a', 'b']),
    );
  });
});

describe('functions of several tensors', () => {
  it.each(['Sum', 'Mean', 'Max', 'Min'])('%s of three', async (op) => {
    const c = { shape: [3], values: [0.05, 0.36, -0.42] };
    await expectGradients(
      { a: { shape: [2, 3], values: [0.5, -0.5, 0.2, -0.3, 0.8, 0.1] }, b: { shape: [], values: [-0.2] }, c },
      (draft) => draft.node(op, ['a', 'b', 'c']),
    );
  });

  it('Pow with a constant power, whole or not', async () => {
    await expectGradients({ x: positive([2, 3], 5) }, (draft) => draft.node('Pow', ['x', draft.scalar(2)]));
    await expectGradients({ x: positive([2, 3], 5) }, (draft) =>
      draft.node('Pow', ['x', draft.scalar(-1.5)]),
    );
    await expectGradients({ x: positive([2, 3], 5) }, (draft) =>
      draft.node('Pow', ['x', draft.constant({ type: 'int64', shape: [], data: BigInt64Array.of(3n) })]),
    );
  });

  it('the same tensor twice', async () => {
    await expectGradients({ x: { shape: [4] } }, (draft) => draft.node('Mul', ['x', 'x']));
  });

  it('Where, broadcasting', async () => {
    await expectGradients({ a: { shape: [2, 3] }, b: { shape: [3, 1, 1] } }, (draft) => {
      const condition = draft.constant({ type: 'bool', shape: [2, 1], data: Uint8Array.of(1, 0) });
      return draft.node('Where', [condition, 'a', 'b']);
    });
  });
});
