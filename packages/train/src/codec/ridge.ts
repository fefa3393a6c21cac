/** Least squares of many outputs over the same features, in double precision. */
export interface Ridge {
  /** Adds one sample. */
  add(features: Float64Array, outputs: Float64Array): void;
  readonly numSamples: number;
  /**
   * The weights, features × outputs, that make the mean squared error and `penalties[i]` times the square of each
   * feature's weights least (Hoerl and Kennard, Ridge Regression, 1970).
   */
  solve(penalties: ArrayLike<number>): Float64Array;
}

// So many samples at a time go over the matrices.
const numTogether = 4;

export function createRidge(numFeatures: number, numOutputs: number): Ridge {
  const [n, m] = [numFeatures, numOutputs];
  const gram = new Float64Array(n * n);
  const cross = new Float64Array(n * m);
  const empty = (size: number): Float64Array[] =>
    Array.from({ length: numTogether }, () => new Float64Array(size));
  const [xs, ys] = [empty(n), empty(m)];
  let waiting = 0;
  let numSamples = 0;
  const flush = (): void => {
    if (waiting === 0) return;
    for (let at = waiting; at < numTogether; at++) {
      xs[at]?.fill(0);
      ys[at]?.fill(0);
    }
    for (let i = 0; i < n; i++) addRow(gram, i * n, i, xs, xs, i);
    for (let i = 0; i < n; i++) addRow(cross, i * m, 0, xs, ys, i);
    waiting = 0;
  };
  return {
    get numSamples() {
      return numSamples;
    },
    add(features, outputs) {
      xs[waiting]?.set(features);
      ys[waiting]?.set(outputs);
      waiting += 1;
      numSamples += 1;
      if (waiting === numTogether) flush();
    },
    solve(penalties) {
      flush();
      const lower = new Float64Array(n * n);
      for (let i = 0; i < n; i++) {
        for (let j = 0; j <= i; j++) lower[i * n + j] = gram[j * n + i] ?? 0;
        lower[i * n + i] = (lower[i * n + i] ?? 0) + numSamples * (penalties[i] ?? 0);
      }
      factorize(lower, n);
      return substitute(lower, n, cross.slice(), m);
    },
  };
}

// row[j] += Σ_s a_s[i] · b_s[j] from j = first on.
function addRow(
  into: Float64Array,
  row: number,
  first: number,
  a: readonly Float64Array[],
  b: readonly Float64Array[],
  i: number,
): void {
  const [b0, b1, b2, b3] = b;
  if (b0 === undefined || b1 === undefined || b2 === undefined || b3 === undefined) return;
  const [a0 = 0, a1 = 0, a2 = 0, a3 = 0] = a.map((values) => values[i] ?? 0);
  if (a0 === 0 && a1 === 0 && a2 === 0 && a3 === 0) return;
  for (let j = first; j < b0.length; j++) {
    into[row + j] =
      (into[row + j] ?? 0) + a0 * (b0[j] ?? 0) + a1 * (b1[j] ?? 0) + a2 * (b2[j] ?? 0) + a3 * (b3[j] ?? 0);
  }
}

// Of a pivot, as a share of what it was: below is rounding.
const leastPivot = 1e-10;

// A = L·Lᵀ in place, below the diagonal (Cholesky).
function factorize(a: Float64Array, n: number): void {
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a[i * n + j] ?? 0;
      for (let k = 0; k < j; k++) sum -= (a[i * n + k] ?? 0) * (a[j * n + k] ?? 0);
      if (i === j) a[i * n + i] = Math.sqrt(Math.max(sum, leastPivot * (a[i * n + i] ?? 0))) || 1;
      else a[i * n + j] = sum / (a[j * n + j] ?? 1);
    }
  }
}

// L·Lᵀ·X = B for all columns of B at once, in place.
function substitute(lower: Float64Array, n: number, b: Float64Array, m: number): Float64Array {
  const subtract = (to: number, from: number, factor: number): void => {
    if (factor === 0) return;
    for (let c = 0; c < m; c++) b[to * m + c] = (b[to * m + c] ?? 0) - factor * (b[from * m + c] ?? 0);
  };
  const divide = (row: number): void => {
    const pivot = lower[row * n + row] ?? 1;
    for (let c = 0; c < m; c++) b[row * m + c] = (b[row * m + c] ?? 0) / pivot;
  };
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) subtract(i, k, lower[i * n + k] ?? 0);
    divide(i);
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) subtract(i, k, lower[k * n + i] ?? 0);
    divide(i);
  }
  return b;
}
