import { elementCount, type Tensor } from '@isthmus/core';
import { float32Tensor } from '@isthmus/graph';
import type { Draft } from './draft.js';

/** Short forms for the nodes that gradients are made of. Every method adds to the draft and returns a name. */
export class Ops {
  readonly draft: Draft;

  constructor(draft: Draft) {
    this.draft = draft;
  }

  add(a: string, b: string): string {
    return this.draft.node('Add', [a, b]);
  }

  sub(a: string, b: string): string {
    return this.draft.node('Sub', [a, b]);
  }

  mul(a: string, b: string): string {
    return this.draft.node('Mul', [a, b]);
  }

  div(a: string, b: string): string {
    return this.draft.node('Div', [a, b]);
  }

  /** An operator of one tensor, such as `Exp`. */
  unary(opType: string, x: string): string {
    return this.draft.node(opType, [x]);
  }

  /** x × factor. */
  scale(x: string, factor: number): string {
    if (factor === 1) return x;
    if (factor === -1) return this.draft.node('Neg', [x]);
    return this.mul(x, this.draft.scalar(factor));
  }

  /** x + offset. */
  shift(x: string, offset: number): string {
    return offset === 0 ? x : this.add(x, this.draft.scalar(offset));
  }

  square(x: string): string {
    return this.mul(x, x);
  }

  /** A comparison, such as `Greater`; `b` may be a number. */
  compare(opType: string, a: string, b: string | number): string {
    return this.draft.node(opType, [a, typeof b === 'number' ? this.draft.scalar(b) : b]);
  }

  /** `then` where the condition holds, and `otherwise` elsewhere. */
  where(condition: string, then: string | number, otherwise: string | number): string {
    const named = (value: string | number): string =>
      typeof value === 'number' ? this.draft.scalar(value) : value;
    return this.draft.node('Where', [condition, named(then), named(otherwise)]);
  }

  toFloat(x: string): string {
    return this.draft.node('Cast', [x], { to: 1 });
  }

  reshape(x: string, shape: readonly number[]): string {
    if (sameShape(this.draft.shapeOf(x), shape)) return x;
    return this.draft.node('Reshape', [x, this.draft.integers(shape)], { allowzero: 1 });
  }

  transpose(x: string, order: readonly number[]): string {
    if (order.every((axis, index) => axis === index)) return x;
    return this.draft.node('Transpose', [x], { perm: order });
  }

  /** The sum along axes; those stay, with size 1, unless told otherwise. */
  reduceSum(x: string, axes: readonly number[], keep = true): string {
    if (axes.length === 0) return x;
    return this.draft.node('ReduceSum', [x, this.draft.integers(axes)], { keepdims: keep ? 1 : 0 });
  }

  /** The mean along axes; those stay, with size 1. */
  reduceMean(x: string, axes: readonly number[]): string {
    const shape = this.draft.shapeOf(x);
    return this.scale(this.reduceSum(x, axes), 1 / elementCount(axes.map((axis) => shape[axis] ?? 1)));
  }

  expand(x: string, shape: readonly number[]): string {
    if (sameShape(this.draft.shapeOf(x), shape)) return x;
    return this.draft.node('Expand', [x, this.draft.integers(shape)]);
  }

  /** The gradient of what was broadcast: the sum over the axes that broadcasting repeated. */
  sumTo(x: string, shape: readonly number[]): string {
    const from = this.draft.shapeOf(x);
    if (sameShape(from, shape)) return x;
    const added = from.length - shape.length;
    const axes = from.flatMap((size, axis) =>
      axis < added || (shape[axis - added] === 1 && size !== 1) ? [axis] : [],
    );
    return this.reshape(this.reduceSum(x, axes), shape);
  }

  slice(
    x: string,
    range: {
      starts: readonly number[];
      ends: readonly number[];
      axes: readonly number[];
      steps?: readonly number[];
    },
  ): string {
    const shape = this.draft.shapeOf(x);
    const { starts, ends, axes, steps = axes.map(() => 1) } = range;
    const takesAll = axes.every(
      (axis, index) => starts[index] === 0 && ends[index] === shape[axis] && steps[index] === 1,
    );
    if (takesAll) return x;
    const lists = [starts, ends, axes, steps].map((values) => this.draft.integers(values));
    return this.draft.node('Slice', [x, ...lists]);
  }

  /** Elements in reverse order along axes. */
  flip(x: string, axes: readonly number[]): string {
    const shape = this.draft.shapeOf(x);
    const longer = axes.filter((axis) => (shape[axis] ?? 1) > 1);
    if (longer.length === 0) return x;
    const starts = longer.map(() => -1);
    // One before the first element: there is no other way to say so.
    const ends = longer.map((axis) => -1 - (shape[axis] ?? 1));
    return this.slice(x, { starts, ends, axes: longer, steps: starts });
  }

  /** Zeros around x; counts before every axis, then after every axis. */
  pad(x: string, pads: readonly number[]): string {
    if (pads.every((count) => count === 0)) return x;
    return this.draft.node('Pad', [x, this.draft.integers(pads)]);
  }

  concat(parts: readonly string[], axis: number): string {
    const [first] = parts;
    return parts.length === 1 && first !== undefined ? first : this.draft.node('Concat', parts, { axis });
  }

  matMul(a: string, b: string): string {
    return this.draft.node('MatMul', [a, b]);
  }

  /** The last two axes swapped. ONNX Runtime fuses it with the product that follows. */
  matrixTranspose(x: string): string {
    const rank = this.draft.shapeOf(x).length;
    return this.transpose(x, [...Array.from({ length: rank - 2 }, (_, axis) => axis), rank - 1, rank - 2]);
  }

  zeros(shape: readonly number[]): string {
    return this.expand(this.draft.scalar(0), shape);
  }

  floats(values: Tensor<'float32'>['data'], shape: readonly number[]): string {
    return this.draft.constant(float32Tensor(values, shape));
  }

  /** The sum of gradients that come by several ways. */
  sum(parts: readonly string[]): string {
    const [first, second] = parts;
    if (first === undefined || second === undefined) return first ?? this.draft.scalar(0);
    return parts.length === 2 ? this.add(first, second) : this.draft.node('Sum', parts);
  }
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

/** An axis counted from the front. */
export function positiveAxis(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}
