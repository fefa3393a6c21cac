/** A square matrix, row after row. */
export interface SquareMatrix {
  readonly size: number;
  readonly data: Float64Array;
}

function squareMatrix(size: number): SquareMatrix {
  return { size, data: new Float64Array(size * size) };
}

/** Eigenvalues from the largest to the smallest, and the eigenvectors in the same order, each a row. */
export interface Eigen {
  values: Float64Array;
  vectors: SquareMatrix;
}

/**
 * Eigenvalues and eigenvectors of a symmetric matrix: Householder reduction to tridiagonal form and the implicit QL
 * method (Bowdler, Martin, Reinsch, Wilkinson, doi 10.1007/BF02219772, as in EISPACK's tred2 and tql2), with rows and
 * columns exchanged so that inner loops run along memory. Time grows with the cube of the size: 1024 takes seconds.
 */
export function symmetricEigen({ size: n, data }: SquareMatrix): Eigen {
  const v = Float64Array.from(data);
  const d = new Float64Array(n);
  const e = new Float64Array(n);
  tridiagonalize(n, v, d, e);
  // What is nothing beside the largest entry is nothing: a quotient by it would overflow.
  const tiny =
    Number.EPSILON ** 2 * d.reduce((most, value, i) => Math.max(most, Math.abs(value), Math.abs(e[i]!)), 0);
  for (let i = 0; i < n; i++) if (Math.abs(e[i]!) <= tiny) e[i] = 0;
  diagonalize(n, v, d, e);
  const order = Array.from({ length: n }, (_, i) => i).sort((a, b) => d[b]! - d[a]!);
  const vectors = squareMatrix(n);
  order.forEach((from, to) => {
    vectors.data.set(v.subarray(from * n, (from + 1) * n), to * n);
  });
  return { values: Float64Array.from(order, (i) => d[i]!), vectors };
}

// v holds V transposed: V[row][column] of the original routine is v[column * n + row].
function tridiagonalize(n: number, v: Float64Array, d: Float64Array, e: Float64Array): void {
  for (let j = 0; j < n; j++) d[j] = v[j * n + n - 1]!;
  for (let i = n - 1; i > 0; i--) {
    let scale = 0;
    let h = 0;
    for (let k = 0; k < i; k++) scale += Math.abs(d[k]!);
    if (scale === 0) {
      e[i] = d[i - 1]!;
      for (let j = 0; j < i; j++) {
        d[j] = v[j * n + i - 1]!;
        v[j * n + i] = 0;
        v[i * n + j] = 0;
      }
    } else {
      for (let k = 0; k < i; k++) {
        d[k]! /= scale;
        h += d[k]! * d[k]!;
      }
      let f = d[i - 1]!;
      let g = f > 0 ? -Math.sqrt(h) : Math.sqrt(h);
      e[i] = scale * g;
      h -= f * g;
      d[i - 1] = f - g;
      e.fill(0, 0, i);
      for (let j = 0; j < i; j++) {
        f = d[j]!;
        v[i * n + j] = f;
        const row = j * n;
        g = e[j]! + v[row + j]! * f;
        for (let k = j + 1; k < i; k++) {
          const x = v[row + k]!;
          g += x * d[k]!;
          e[k]! += x * f;
        }
        e[j] = g;
      }
      f = 0;
      for (let j = 0; j < i; j++) {
        e[j]! /= h;
        f += e[j]! * d[j]!;
      }
      const hh = f / (h + h);
      for (let j = 0; j < i; j++) e[j]! -= hh * d[j]!;
      for (let j = 0; j < i; j++) {
        f = d[j]!;
        g = e[j]!;
        const row = j * n;
        for (let k = j; k < i; k++) v[row + k]! -= f * e[k]! + g * d[k]!;
        d[j] = v[row + i - 1]!;
        v[row + i] = 0;
      }
    }
    d[i] = h;
  }
  for (let i = 0; i < n - 1; i++) {
    v[i * n + n - 1] = v[i * n + i]!;
    v[i * n + i] = 1;
    const next = (i + 1) * n;
    const h = d[i + 1]!;
    if (h !== 0) {
      for (let k = 0; k <= i; k++) d[k] = v[next + k]! / h;
      for (let j = 0; j <= i; j++) {
        const row = j * n;
        let g = 0;
        for (let k = 0; k <= i; k++) g += v[next + k]! * v[row + k]!;
        for (let k = 0; k <= i; k++) v[row + k]! -= g * d[k]!;
      }
    }
    v.fill(0, next, next + i + 1);
  }
  for (let j = 0; j < n; j++) {
    d[j] = v[j * n + n - 1]!;
    v[j * n + n - 1] = 0;
  }
  v[n * n - 1] = 1;
  e[0] = 0;
}

function diagonalize(n: number, v: Float64Array, d: Float64Array, e: Float64Array): void {
  for (let i = 1; i < n; i++) e[i - 1] = e[i]!;
  e[n - 1] = 0;
  let f = 0;
  let largest = 0;
  for (let l = 0; l < n; l++) {
    largest = Math.max(largest, Math.abs(d[l]!) + Math.abs(e[l]!));
    let m = l;
    while (m < n - 1 && Math.abs(e[m]!) > Number.EPSILON * largest) m++;
    // A bound on steps: it converges in two or three; what remains after sixty is beyond double precision.
    for (let step = 0; m > l && step < 60; step++) {
      let g = d[l]!;
      let p = (d[l + 1]! - g) / (2 * e[l]!);
      let r = p < 0 ? -Math.hypot(p, 1) : Math.hypot(p, 1);
      d[l] = e[l]! / (p + r);
      d[l + 1] = e[l]! * (p + r);
      const dl1 = d[l + 1]!;
      let h = g - d[l]!;
      for (let i = l + 2; i < n; i++) d[i]! -= h;
      f += h;
      p = d[m]!;
      let c = 1;
      let c2 = c;
      let c3 = c;
      const el1 = e[l + 1]!;
      let s = 0;
      let s2 = 0;
      for (let i = m - 1; i >= l; i--) {
        c3 = c2;
        c2 = c;
        s2 = s;
        g = c * e[i]!;
        h = c * p;
        r = Math.hypot(p, e[i]!);
        e[i + 1] = s * r;
        s = e[i]! / r;
        c = p / r;
        p = c * d[i]! - s * g;
        d[i + 1] = h + s * (c * g + s * d[i]!);
        rotate(n, v, i * n, c, s);
      }
      p = (-s * s2 * c3 * el1 * e[l]!) / dl1;
      e[l] = s * p;
      d[l] = c * p;
      if (Math.abs(e[l]!) <= Number.EPSILON * largest) break;
    }
    d[l]! += f;
    e[l] = 0;
  }
}

function rotate(n: number, v: Float64Array, row: number, c: number, s: number): void {
  for (let k = row, end = row + n; k < end; k++) {
    const h = v[k + n]!;
    v[k + n] = s * v[k]! + c * h;
    v[k] = c * v[k]! - s * h;
  }
}

/** The lower triangular L with L·Lᵀ = the matrix; pivots below `least` are raised to it. */
export function cholesky({ size: n, data }: SquareMatrix, least: number): SquareMatrix {
  const lower = squareMatrix(n);
  const l = lower.data;
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = data[i * n + j]!;
      for (let k = 0; k < j; k++) sum -= l[i * n + k]! * l[j * n + k]!;
      l[i * n + j] = i === j ? Math.sqrt(Math.max(sum, least)) : sum / l[j * n + j]!;
    }
  }
  return lower;
}

/** The inverse of a lower triangular matrix. */
export function invertLower({ size: n, data: l }: SquareMatrix): SquareMatrix {
  const inverse = squareMatrix(n);
  const x = inverse.data;
  for (let i = 0; i < n; i++) {
    const scale = 1 / l[i * n + i]!;
    for (let k = 0; k < i; k++) {
      const factor = -l[i * n + k]! * scale;
      for (let j = 0; j <= k; j++) x[i * n + j]! += factor * x[k * n + j]!;
    }
    x[i * n + i] = scale;
  }
  return inverse;
}

/** a · b of row-major matrices, `rows` × `inner` and `inner` × `columns`. */
export function multiply(
  a: Float64Array,
  b: Float64Array,
  rows: number,
  inner: number,
  columns: number,
): Float64Array {
  const product = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    const out = product.subarray(i * columns, (i + 1) * columns);
    for (let k = 0; k < inner; k++) {
      const factor = a[i * inner + k]!;
      if (factor === 0) continue;
      const from = k * columns;
      for (let j = 0; j < columns; j++) out[j]! += factor * b[from + j]!;
    }
  }
  return product;
}

export function transpose(a: Float64Array, rows: number, columns: number): Float64Array {
  const result = new Float64Array(a.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) result[j * rows + i] = a[i * columns + j]!;
  return result;
}

/** Solves the small symmetric system a·x = b by Gaussian elimination with pivoting; zeros where it is singular. */
export function solve(a: Float64Array, b: Float64Array): Float64Array {
  const n = b.length;
  const m = Float64Array.from(a);
  const x = Float64Array.from(b);
  const largest = m.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  for (let column = 0; column < n; column++) {
    let pivot = column;
    for (let row = column + 1; row < n; row++) {
      if (Math.abs(m[row * n + column]!) > Math.abs(m[pivot * n + column]!)) pivot = row;
    }
    if (Math.abs(m[pivot * n + column]!) <= 1e-12 * largest) return new Float64Array(n);
    for (let k = 0; k < n; k++) {
      [m[column * n + k], m[pivot * n + k]] = [m[pivot * n + k]!, m[column * n + k]!];
    }
    [x[column], x[pivot]] = [x[pivot]!, x[column]!];
    for (let row = 0; row < n; row++) {
      if (row === column) continue;
      const factor = m[row * n + column]! / m[column * n + column]!;
      for (let k = column; k < n; k++) m[row * n + k]! -= factor * m[column * n + k]!;
      x[row]! -= factor * x[column]!;
    }
  }
  return x.map((value, i) => value / m[i * n + i]!);
}
