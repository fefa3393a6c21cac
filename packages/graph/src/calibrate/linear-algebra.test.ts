import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cholesky, invertLower, multiply, solve, symmetricEigen, transpose } from './linear-algebra.js';

const entry = fc.double({ min: -2, max: 2, noNaN: true });
const square = fc
  .integer({ min: 1, max: 12 })
  .chain((n) =>
    fc
      .array(entry, { minLength: n * n, maxLength: n * n })
      .map((values) => ({ n, a: Float64Array.from(values) })),
  );
// a·aᵀ: symmetric, no negative eigenvalues, often singular.
const gram = square.map(({ n, a }) => ({ size: n, data: multiply(a, transpose(a, n, n), n, n, n) }));

function expectClose(actual: Float64Array, expected: ArrayLike<number>): void {
  actual.forEach((value, i) => {
    expect(Math.abs(value - expected[i]!)).toBeLessThan(1e-8);
  });
}

const identity = (n: number): number[] =>
  Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0));

describe('linear algebra', () => {
  it('finds eigenvectors that are orthonormal, in falling order, and make up the matrix', () => {
    fc.assert(
      fc.property(gram, (matrix) => {
        const n = matrix.size;
        const { values, vectors } = symmetricEigen(matrix);
        const rows = vectors.data;
        expectClose(multiply(rows, transpose(rows, n, n), n, n, n), identity(n));
        const scaled = rows.map((value, i) => value * values[Math.floor(i / n)]!);
        expectClose(multiply(transpose(rows, n, n), scaled, n, n, n), matrix.data);
        expect(Array.from(values)).toEqual([...values].sort((a, b) => b - a));
      }),
    );
  });

  it('takes entries that are nothing beside the others for nothing', () => {
    const data = Float64Array.of(0, 5e-324, 5e-324, 0.25);
    const { values, vectors } = symmetricEigen({ size: 2, data });
    expect(Array.from(values)).toEqual([0.25, 0]);
    expectClose(multiply(vectors.data, transpose(vectors.data, 2, 2), 2, 2, 2), identity(2));
  });

  it('factors and inverts', () => {
    fc.assert(
      fc.property(gram, ({ size: n, data }) => {
        const regular = { size: n, data: data.map((value, i) => value + (i % (n + 1) === 0 ? 0.1 : 0)) };
        const lower = cholesky(regular, 1e-12);
        expectClose(multiply(lower.data, transpose(lower.data, n, n), n, n, n), regular.data);
        expectClose(multiply(lower.data, invertLower(lower).data, n, n, n), identity(n));
        const x = Float64Array.from({ length: n }, (_, i) => i - 1);
        expectClose(solve(regular.data, multiply(regular.data, x, n, n, 1)), x);
      }),
    );
  });

  it('answers a singular system with zeros', () => {
    expect(solve(Float64Array.of(1, 1, 1, 1), Float64Array.of(1, 2))).toEqual(new Float64Array(2));
  });
});
