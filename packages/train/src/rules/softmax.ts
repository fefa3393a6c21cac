import type { GradientRules } from '../gradient-context.js';
import { positiveAxis } from '../ops.js';

/** Softmax and its logarithm, along one axis. */
export const softmaxRules: GradientRules = {
  Softmax: ({ ops, outputs: [y = ''], gradient, attributes, shape }) => {
    const axis = positiveAxis(attributes.int('axis', -1), shape(0).length);
    const weighted = ops.mul(gradient, y);
    return [ops.sub(weighted, ops.mul(y, ops.reduceSum(weighted, [axis])))];
  },
  LogSoftmax: ({ ops, outputs: [y = ''], gradient, attributes, shape }) => {
    const axis = positiveAxis(attributes.int('axis', -1), shape(0).length);
    return [ops.sub(gradient, ops.mul(ops.unary('Exp', y), ops.reduceSum(gradient, [axis])))];
  },
};
