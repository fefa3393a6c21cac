import { type CurvePoint, fitTradeoff, type TrainingTerm } from '@isthmus/train';
import type { FramePoint } from './batch.js';
import type { Evaluation } from './evaluate.js';

/** What training aims at, measured before it begins. */
export interface TrainingTarget {
  numSteps: number;
  /** Variances of tensors, by name. */
  powers: Readonly<Record<string, number>>;
  /** The quantizer's steps at the codec's levels, from the finest. */
  steps: readonly number[];
  /** What each term of the distortion counts; the price of a bit is another at every step. */
  prices: Readonly<Record<string, number>>;
  /** Where training begins: rate in bits and distortion. */
  curve: readonly CurvePoint[];
}

const numLevels = 10;
/** Steps tried: from 1/64 of the components' root mean square to 128 times. */
export const triedSteps: readonly number[] = Array.from({ length: 14 }, (_, index) => 2 ** (index - 6));
// Shares of what a latent that says nothing costs.
const faithfulShare = 0.001;
const uselessShare = 0.15;
// How much errors at cuts weigh beside those of the outputs: they have less noise, but are not what counts.
const featureShare = 0.25;
const laterShare = 0.5;

/**
 * The range of steps to train for, from nearly faithful to nearly useless, and what the terms count, from what the
 * codec does at {@link triedSteps} before training.
 */
export function chooseTarget(
  tried: readonly Evaluation[],
): Pick<TrainingTarget, 'steps' | 'prices' | 'curve'> {
  const costs = tried.map(({ terms }) => terms.outputs);
  const most = costs.reduce((a, b) => Math.max(a, b), 0);
  const lastFaithful = costs.findLastIndex((cost) => cost <= faithfulShare * most);
  const first = Math.min(Math.max(0, lastFaithful), triedSteps.length - 3);
  const firstUseless = costs.findIndex((cost, index) => index >= first + 2 && cost > uselessShare * most);
  const last = firstUseless < 0 ? triedSteps.length - 1 : firstUseless;
  const range = tried.slice(first, last + 1);
  const middle = range[range.length >> 1]?.terms;
  const share = (term: TrainingTerm, of: number): number =>
    middle !== undefined && middle[term] > 0 ? (of * middle.outputs) / middle[term] : 0;
  const prices = {
    outputs: 1,
    features: share('features', featureShare),
    later: share('later', laterShare),
  };
  const curve = range.map(({ terms }, index) => ({
    step: triedSteps[first + index] ?? 1,
    rate: terms.rate,
    distortion: terms.outputs + prices.features * terms.features + prices.later * terms.later,
  }));
  const [low, high] = [Math.log2(curve[0]?.step ?? 1), Math.log2(curve.at(-1)?.step ?? 1)];
  const steps = Array.from(
    { length: numLevels },
    (_, level) => 2 ** (low + ((high - low) * level) / (numLevels - 1)),
  );
  return { steps, prices, curve };
}

/** The step of a level between 0 and 1, and what the terms count there. */
export function createPoints(
  target: Pick<TrainingTarget, 'steps' | 'prices' | 'curve'>,
): (level: number, rateFactor: number) => FramePoint {
  const { steps, prices, curve } = target;
  const [finest, roughest] = [steps[0] ?? 1, steps.at(-1) ?? 1];
  const tradeoff = fitTradeoff(curve);
  return (level, rateFactor) => {
    const step = finest * (roughest / finest) ** level;
    const unit = 1 / tradeoff.loss(step);
    const weights = {
      rate: unit * rateFactor * tradeoff.lambda(step),
      features: unit * (prices.features ?? 0),
      later: unit * (prices.later ?? 0),
      outputs: unit * (prices.outputs ?? 1),
    };
    return { step, level, weights };
  };
}
