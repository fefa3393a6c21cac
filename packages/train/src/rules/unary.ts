import type { GradientRules } from '../gradient-context.js';

/** Functions of one tensor, element by element, with no parameters. */
export const unaryRules: GradientRules = {
  Identity: ({ gradient }) => [gradient],
  // As when the model is used: nothing is dropped.
  Dropout: ({ gradient }) => [gradient],
  Neg: ({ ops, gradient }) => [ops.unary('Neg', gradient)],
  Abs: ({ ops, inputs: [x = ''], gradient }) => [ops.mul(gradient, ops.unary('Sign', x))],
  Exp: ({ ops, outputs: [y = ''], gradient }) => [ops.mul(gradient, y)],
  Log: ({ ops, inputs: [x = ''], gradient }) => [ops.div(gradient, x)],
  Sqrt: ({ ops, outputs: [y = ''], gradient }) => [ops.div(ops.scale(gradient, 0.5), y)],
  Reciprocal: ({ ops, outputs: [y = ''], gradient }) => [ops.unary('Neg', ops.mul(gradient, ops.square(y)))],
  Sin: ({ ops, inputs: [x = ''], gradient }) => [ops.mul(gradient, ops.unary('Cos', x))],
  Cos: ({ ops, inputs: [x = ''], gradient }) => [ops.unary('Neg', ops.mul(gradient, ops.unary('Sin', x)))],
  Tanh: ({ ops, outputs: [y = ''], gradient }) => [
    ops.mul(gradient, ops.sub(ops.draft.scalar(1), ops.square(y))),
  ],
  Sigmoid: ({ ops, outputs: [y = ''], gradient }) => [
    ops.mul(gradient, ops.mul(y, ops.sub(ops.draft.scalar(1), y))),
  ],
  Softplus: ({ ops, inputs: [x = ''], gradient }) => [ops.mul(gradient, ops.unary('Sigmoid', x))],
  Erf: ({ ops, inputs: [x = ''], gradient }) => {
    const bell = ops.unary('Exp', ops.unary('Neg', ops.square(x)));
    return [ops.mul(gradient, ops.scale(bell, 2 / Math.sqrt(Math.PI)))];
  },
  Cast: ({ draft, inputs: [x = ''], gradient }) => {
    const onnxTypes: Readonly<Record<string, number>> = { float32: 1, float16: 10 };
    return [draft.node('Cast', [gradient], { to: onnxTypes[draft.typeOf(x)] ?? 1 })];
  },
};
