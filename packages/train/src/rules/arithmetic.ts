import type { GradientContext, GradientRule, GradientRules } from '../gradient-context.js';

/** Sums an input's gradient over what broadcasting repeated. */
function reduced(
  { ops, shape, wants }: GradientContext,
  index: number,
  make: () => string,
): string | undefined {
  return wants(index) ? ops.sumTo(make(), shape(index)) : undefined;
}

const pow: GradientRule = (context) => {
  const { draft, ops, gradient } = context;
  const [x = '', givenPower = ''] = context.inputs;
  const [y = ''] = context.outputs;
  const constant = draft.constantOf(givenPower);
  const isSquare = constant?.data.length === 1 && Number(constant.data[0]) === 2;
  // The power may be of an integer type.
  const power = draft.typeOf(givenPower) === 'float32' ? givenPower : ops.toFloat(givenPower);
  return [
    reduced(context, 0, () => {
      if (isSquare) return ops.mul(gradient, ops.scale(x, 2));
      return ops.mul(gradient, ops.mul(power, draft.node('Pow', [x, ops.shift(power, -1)])));
    }),
    reduced(context, 1, () => {
      // Where x is 0 the result does not depend on the power, and the logarithm has no value.
      const isPositive = ops.compare('Greater', x, 0);
      const logarithm = ops.unary('Log', ops.where(isPositive, x, 1));
      return ops.mul(gradient, ops.mul(y, logarithm));
    }),
  ];
};

// Where several inputs are the extreme they share the gradient.
const extreme: GradientRule = (context) => {
  const { draft, ops, inputs, gradient } = context;
  const [y = ''] = context.outputs;
  if (inputs.length === 1) return [gradient];
  const hits = inputs.map((name) => ops.toFloat(draft.node('Equal', [name, y])));
  const share = ops.div(gradient, ops.sum(hits));
  return hits.map((hit, index) => reduced(context, index, () => ops.mul(hit, share)));
};

/** Functions of several tensors, element by element, with broadcasting. */
export const arithmeticRules: GradientRules = {
  Add: (context) => [0, 1].map((index) => reduced(context, index, () => context.gradient)),
  Sub: (context) => [
    reduced(context, 0, () => context.gradient),
    reduced(context, 1, () => context.ops.unary('Neg', context.gradient)),
  ],
  Mul: (context) => {
    const [a = '', b = ''] = context.inputs;
    return [
      reduced(context, 0, () => context.ops.mul(context.gradient, b)),
      reduced(context, 1, () => context.ops.mul(context.gradient, a)),
    ];
  },
  Div: (context) => {
    const { ops, gradient } = context;
    const [, b = ''] = context.inputs;
    const [y = ''] = context.outputs;
    const quotient = ops.div(gradient, b);
    return [
      reduced(context, 0, () => quotient),
      reduced(context, 1, () => ops.unary('Neg', ops.mul(quotient, y))),
    ];
  },
  Pow: pow,
  Sum: (context) => context.inputs.map((_, index) => reduced(context, index, () => context.gradient)),
  Mean: (context) => {
    const share = context.ops.scale(context.gradient, 1 / context.inputs.length);
    return context.inputs.map((_, index) => reduced(context, index, () => share));
  },
  Max: extreme,
  Min: extreme,
  Where: (context) => {
    const { ops, gradient } = context;
    const [condition = ''] = context.inputs;
    return [
      undefined,
      reduced(context, 1, () => ops.where(condition, gradient, 0)),
      reduced(context, 2, () => ops.where(condition, 0, gradient)),
    ];
  },
};
