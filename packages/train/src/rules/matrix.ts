import { elementCount } from '@isthmus/core';
import type { GradientContext, GradientRule, GradientRules } from '../gradient-context.js';

const gemm: GradientRule = (context) => {
  const { draft, ops, inputs, attributes, shape, wants } = context;
  const [a = '', b = ''] = inputs;
  const transA = attributes.int('transA', 0) === 1;
  const transB = attributes.int('transB', 0) === 1;
  const gradient = ops.scale(context.gradient, attributes.float('alpha', 1));
  const product = (left: string, right: string, transLeft: boolean, transRight: boolean): string =>
    draft.node('Gemm', [left, right], { transA: transLeft ? 1 : 0, transB: transRight ? 1 : 0 });
  const ofA = (): string =>
    transA ? product(b, gradient, transB, true) : product(gradient, b, false, !transB);
  const ofB = (): string =>
    transB ? product(gradient, a, true, transA) : product(a, gradient, !transA, false);
  return [
    wants(0) ? ofA() : undefined,
    wants(1) ? ofB() : undefined,
    wants(2) ? ops.scale(ops.sumTo(context.gradient, shape(2)), attributes.float('beta', 1)) : undefined,
  ];
};

// Vectors are matrices of one row or one column.
const matMul: GradientRule = (context) => {
  const { draft, ops, shape, wants } = context;
  const [a, b] = [shape(0), shape(1)];
  const left = a.length === 1 ? [1, ...a] : a;
  const right = b.length === 1 ? [...b, 1] : b;
  const result = draft.shapeOf(context.outputs[0] ?? '');
  const batch = result.slice(0, result.length - (a.length > 1 ? 1 : 0) - (b.length > 1 ? 1 : 0));
  const whole = [...batch, left.at(-2) ?? 1, right.at(-1) ?? 1];
  const gradient = ops.reshape(context.gradient, whole);
  const x = ops.reshape(context.inputs[0] ?? '', left);
  const w = ops.reshape(context.inputs[1] ?? '', right);
  const ofLeft = (): string => ops.sumTo(ops.matMul(gradient, ops.matrixTranspose(w)), left);
  return [
    wants(0) ? ops.reshape(ofLeft(), a) : undefined,
    wants(1) ? ops.reshape(ofRight(context, x, gradient, right), b) : undefined,
  ];
};

function ofRight(
  { draft, ops }: GradientContext,
  x: string,
  gradient: string,
  shape: readonly number[],
): string {
  const left = draft.shapeOf(x);
  const result = draft.shapeOf(gradient);
  if (shape.length > 2 || left.length < result.length) {
    return ops.sumTo(ops.matMul(ops.matrixTranspose(x), gradient), shape);
  }
  // One matrix for the whole batch: one long product, in place of many and their sum.
  const rows = elementCount(result.slice(0, -1));
  const tall = ops.reshape(x, [rows, left.at(-1) ?? 1]);
  return ops.matMul(ops.matrixTranspose(tall), ops.reshape(gradient, [rows, result.at(-1) ?? 1]));
}

/** Products of matrices. */
export const matrixRules: GradientRules = { Gemm: gemm, MatMul: matMul };
