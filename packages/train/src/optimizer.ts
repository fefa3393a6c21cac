import { IsthmusError } from '@isthmus/core';
import type { Draft } from './draft.js';
import type { ParameterLayout } from './layout.js';
import { Ops } from './ops.js';

export interface OptimizerOptions {
  /** Share of the mean gradient that a step keeps. @default 0.9 */
  beta1?: number;
  /** Share of the mean squared gradient that a step keeps. @default 0.999 */
  beta2?: number;
  /** @default 1e-8 */
  epsilon?: number;
  /** Share of a decaying weight that goes at learning rate 1. @default 0 */
  weightDecay?: number;
  /** Length to which the gradient of all parameters together is cut down. @default none */
  clipNorm?: number;
  /** Share of the averaged weights that a step keeps. @default no average */
  averageDecay?: number;
  /** Share of a statistic, such as a running mean, that a step keeps. @default 0.9 */
  statisticsDecay?: number;
}

/** The vectors that training carries from step to step. */
const stateVectors = ['weights', 'firstMoment', 'secondMoment', 'average'] as const;
export type StateVector = (typeof stateVectors)[number];

/** The vectors that an optimizer of these options has. */
export function vectorsOf(options: OptimizerOptions): readonly StateVector[] {
  return stateVectors.filter((name) => name !== 'average' || options.averageDecay !== undefined);
}

/** Inputs of a training step that the trainer feeds. */
export const optimizerInputs = {
  learningRate: 'optimizer/learning-rate',
  /** 1 / (1 − beta1^step), which makes up for moments that begin at zero. */
  firstCorrection: 'optimizer/first-correction',
  secondCorrection: 'optimizer/second-correction',
} as const;

/** Output of a training step: the length of the gradient before it was cut down. */
export const gradientNormOutput = 'optimizer/gradient-norm';

/** @throws IsthmusError `usage/invalid` */
export function checkOptimizer(options: OptimizerOptions): void {
  const {
    beta1 = 0.9,
    beta2 = 0.999,
    epsilon = 1e-8,
    weightDecay = 0,
    clipNorm = 1,
    averageDecay = 0,
    statisticsDecay = 0,
  } = options;
  const isShare = (value: number): boolean => value >= 0 && value < 1;
  if (![beta1, beta2, averageDecay, statisticsDecay].every(isShare)) {
    throw new IsthmusError(
      'usage/invalid',
      'beta1, beta2, averageDecay and statisticsDecay are at least 0 and below 1.',
    );
  }
  if (!(epsilon > 0 && weightDecay >= 0 && clipNorm > 0)) {
    throw new IsthmusError('usage/invalid', 'epsilon and clipNorm are above 0, weightDecay at least 0.');
  }
}

/**
 * Adds one step of AdamW to a draft (Kingma and Ba, Adam, 2015; Loshchilov and Hutter, Decoupled Weight Decay
 * Regularization, 2019), after cutting the gradient down to a length where that is asked for; and the exponential
 * moving average of the weights.
 *
 * @param state The names of the vectors before the step.
 * @param given The gradient of all parameters, and behind it what statistics follow.
 * @returns The names of the vectors after it.
 */
export function addOptimizer(
  draft: Draft,
  layout: ParameterLayout,
  state: Readonly<Record<StateVector, string>>,
  given: string,
  options: OptimizerOptions,
): ReadonlyMap<StateVector, string> {
  const { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0, statisticsDecay = 0.9 } = options;
  const { numElements, numTrained, numFollowing } = layout;
  const ops = new Ops(draft);
  const rate = draft.input(optimizerInputs.learningRate, 'float32', []);
  const firstCorrection = draft.input(optimizerInputs.firstCorrection, 'float32', []);
  const secondCorrection = draft.input(optimizerInputs.secondCorrection, 'float32', []);
  const part = (name: string, start: number, end: number): string =>
    ops.slice(name, { starts: [start], ends: [end], axes: [0] });
  const trained = clipped(ops, part(given, 0, numTrained), options.clipNorm);
  // Statistics have no gradient, and so none of the optimizer's steps moves them.
  const gradient = ops.pad(trained, [0, numElements - numTrained]);
  const first = blend(ops, state.firstMoment, gradient, beta1);
  const second = blend(ops, state.secondMoment, ops.square(gradient), beta2);
  const size = ops.shift(ops.unary('Sqrt', ops.mul(second, secondCorrection)), epsilon);
  const direction = ops.div(ops.mul(first, ops.mul(firstCorrection, rate)), size);
  let weights = ops.sub(state.weights, direction);
  if (weightDecay > 0 && layout.numDecaying > 0) {
    const decaying = part(state.weights, 0, layout.numDecaying);
    const decay = ops.mul(decaying, ops.scale(rate, weightDecay));
    weights = ops.sub(weights, ops.pad(decay, [0, numElements - layout.numDecaying]));
  }
  if (numFollowing > 0) {
    const end = numTrained + numFollowing;
    const distance = ops.sub(part(given, numTrained, end), part(state.weights, numTrained, end));
    const moved = ops.scale(distance, 1 - statisticsDecay);
    weights = ops.add(weights, ops.pad(moved, [numTrained, numElements - end]));
  }
  const after = new Map<StateVector, string>([
    ['weights', weights],
    ['firstMoment', first],
    ['secondMoment', second],
  ]);
  if (options.averageDecay !== undefined) {
    after.set('average', blend(ops, state.average, weights, options.averageDecay));
  }
  return after;
}

// old · kept + new · (1 − kept)
function blend(ops: Ops, old: string, fresh: string, kept: number): string {
  return ops.add(ops.scale(old, kept), ops.scale(fresh, 1 - kept));
}

// Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks, 2013.
function clipped(ops: Ops, gradient: string, clipNorm: number | undefined): string {
  const { draft } = ops;
  const squares = draft.node('ReduceSumSquare', [gradient], { keepdims: 0 });
  const norm = draft.node('Sqrt', [squares], {}, { output: gradientNormOutput });
  if (clipNorm === undefined) return gradient;
  // A gradient of zero stays as it is.
  const longest = draft.node('Max', [norm, draft.scalar(clipNorm)]);
  return ops.mul(gradient, ops.div(draft.scalar(clipNorm), longest));
}
