import type { GradientRule } from '../gradient-context.js';
import { activationRules } from './activations.js';
import { arithmeticRules } from './arithmetic.js';
import { convolutionRules } from './convolution.js';
import { matrixRules } from './matrix.js';
import { normalizationRules } from './normalization.js';
import { poolingRules } from './pooling.js';
import { reductionRules } from './reductions.js';
import { resizeRules } from './resize.js';
import { roundingRules } from './rounding.js';
import { selectionRules } from './selection.js';
import { shapeRules } from './shape.js';
import { softmaxRules } from './softmax.js';
import { unaryRules } from './unary.js';

/** Every operator that a gradient flows through. */
export const gradientRules: ReadonlyMap<string, GradientRule> = new Map(
  Object.entries({
    ...activationRules,
    ...arithmeticRules,
    ...convolutionRules,
    ...matrixRules,
    ...normalizationRules,
    ...poolingRules,
    ...reductionRules,
    ...resizeRules,
    ...roundingRules,
    ...selectionRules,
    ...shapeRules,
    ...softmaxRules,
    ...unaryRules,
  }),
);
