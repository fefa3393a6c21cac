export { Draft, type DraftNodeOptions, type Parameter } from './draft.js';
export type { CompositeContext, CompositeRule } from './gradient-context.js';
export { addGradients, type GradientsOptions } from './gradients.js';
export { type GraftOptions, graft } from './graft.js';
