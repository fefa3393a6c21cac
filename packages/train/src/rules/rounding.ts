import type { GradientRules } from '../gradient-context.js';

/**
 * Rounding, whose true gradient is zero wherever it has one: taken for the identity, as is usual where a quantizer
 * is trained through (the straight-through estimator of Bengio, Léonard and Courville, 2013).
 */
export const roundingRules: GradientRules = {
  Round: ({ gradient }) => [gradient],
  Floor: ({ gradient }) => [gradient],
};
