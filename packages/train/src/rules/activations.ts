import type { GradientContext, GradientRule, GradientRules } from '../gradient-context.js';

const clip: GradientRule = ({ draft, ops, inputs: [x = ''], outputs: [y = ''], gradient }) =>
  // What was not clipped is what is unchanged.
  [ops.where(draft.node('Equal', [x, y]), gradient, 0)];

const gelu: GradientRule = ({ ops, inputs: [x = ''], gradient, attributes }) => {
  if (attributes.text('approximate', 'none') === 'tanh') return [ops.mul(gradient, tanhGeluSlope(ops, x))];
  // d(x Φ(x)) = Φ(x) + x φ(x)
  const below = ops.scale(ops.shift(ops.unary('Erf', ops.scale(x, Math.SQRT1_2)), 1), 0.5);
  const bell = ops.scale(ops.unary('Exp', ops.scale(ops.square(x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
  return [ops.mul(gradient, ops.add(below, ops.mul(x, bell)))];
};

// Of x/2 (1 + tanh u) with u = √(2/π) (x + 0.044715 x³).
function tanhGeluSlope(ops: GradientContext['ops'], x: string): string {
  const rate = Math.sqrt(2 / Math.PI);
  const xx = ops.square(x);
  const tanh = ops.unary('Tanh', ops.mul(x, ops.shift(ops.scale(xx, 0.044715 * rate), rate)));
  const innerSlope = ops.shift(ops.scale(xx, 3 * 0.044715 * rate), rate);
  const tanhSlope = ops.sub(ops.draft.scalar(1), ops.square(tanh));
  const left = ops.scale(ops.shift(tanh, 1), 0.5);
  return ops.add(left, ops.mul(ops.scale(x, 0.5), ops.mul(tanhSlope, innerSlope)));
}

/** Activations, element by element, with their parameters. */
export const activationRules: GradientRules = {
  // By a product: ONNX Runtime takes half as long again for a Where.
  Relu: ({ ops, outputs: [y = ''], gradient }) => [
    ops.mul(gradient, ops.toFloat(ops.compare('Greater', y, 0))),
  ],
  LeakyRelu: ({ ops, inputs: [x = ''], gradient, attributes }) => [
    ops.where(
      ops.compare('Less', x, 0),
      ops.scale(gradient, attributes.float('alpha', Math.fround(0.01))),
      gradient,
    ),
  ],
  PRelu: ({ ops, inputs: [x = '', slope = ''], gradient, wants, shape }) => {
    const isNegative = ops.compare('Less', x, 0);
    return [
      wants(0) ? ops.where(isNegative, ops.mul(gradient, slope), gradient) : undefined,
      wants(1) ? ops.sumTo(ops.where(isNegative, ops.mul(gradient, x), 0), shape(1)) : undefined,
    ];
  },
  Elu: ({ ops, inputs: [x = ''], outputs: [y = ''], gradient, attributes }) => [
    ops.where(
      ops.compare('Less', x, 0),
      ops.mul(gradient, ops.shift(y, attributes.float('alpha', 1))),
      gradient,
    ),
  ],
  Clip: clip,
  HardSigmoid: ({ ops, outputs: [y = ''], gradient, attributes }) => {
    const inside = ops.draft.node('And', [ops.compare('Greater', y, 0), ops.compare('Less', y, 1)]);
    return [ops.where(inside, ops.scale(gradient, attributes.float('alpha', Math.fround(0.2))), 0)];
  },
  HardSwish: ({ ops, inputs: [x = ''], gradient }) => {
    // x · clip(x/6 + ½, 0, 1): the slope is x/3 + ½ in between, and that of 0 and x outside.
    const middle = ops.mul(gradient, ops.shift(ops.scale(x, 1 / 3), 0.5));
    const right = ops.where(ops.compare('Less', x, 3), middle, gradient);
    return [ops.where(ops.compare('Greater', x, -3), right, 0)];
  },
  Gelu: gelu,
};
