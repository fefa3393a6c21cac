import { type CurvePoint, fitTradeoff, type TrainingTerm } from '@isthmus/train';
import type { FramePoint } from './batch.js';
import type { Evaluation } from './evaluate.js';

/** What training aims at, measured before it begins. */
export interface TrainingTarget {
  numSteps: number;
  /** Of these, the first in which only features are compared. */
  numFeatureSteps: number;
  /** Variances of tensors, by name. */
  powers: Readonly<Record<string, number>>;
  /** The quantizer's steps at the codec's levels, from the finest; none where pictures are sent. */
  steps: readonly number[];
  /** What each term of the distortion counts; the price of a bit is another at every step. */
  prices: Readonly<Record<string, number>>;
  /** Where training begins: rate in bits and distortion. Of pictures, `step` counts the qualities from 1. */
  curve: readonly CurvePoint[];
}

/** What is measured before training begins. */
type Aims = Pick<TrainingTarget, 'steps' | 'prices' | 'curve'>;

const numLevels = 10;
/** Steps tried: from 1/64 of the components' root mean square to 128 times. */
export const triedSteps: readonly number[] = Array.from({ length: 14 }, (_, index) => 2 ** (index - 6));
/** How much of what a latent that says nothing costs a range of steps begins and ends with. */
export interface StepRange {
  faithfulShare: number;
  uselessShare: number;
}

const exactRange: StepRange = { faithfulShare: 0.001, uselessShare: 0.15 };
/** Of a decoder that loses something itself: finer steps would be wasted on it. */
export const landingRange: StepRange = { faithfulShare: 0.01, uselessShare: 0.25 };
// How much errors at cuts weigh beside those of the outputs: they have less noise, but are not what counts.
const featureShare = 0.25;
const laterShare = 0.5;
const leastPictureShare = 0.1;

/**
 * The range of steps to train for, from nearly faithful to nearly useless, and what the terms count, from what the
 * codec does at {@link triedSteps} before training.
 */
export function chooseTarget(
  tried: readonly Evaluation[],
  { faithfulShare, uselessShare }: StepRange = exactRange,
): Aims {
  const costs = tried.map(({ terms }) => terms.outputs);
  const most = costs.reduce((a, b) => Math.max(a, b), 0);
  const lastFaithful = costs.findLastIndex((cost) => cost <= faithfulShare * most);
  const first = Math.min(Math.max(0, lastFaithful), triedSteps.length - 3);
  const firstUseless = costs.findIndex((cost, index) => index >= first + 2 && cost > uselessShare * most);
  const last = firstUseless < 0 ? triedSteps.length - 1 : firstUseless;
  const range = tried.slice(first, last + 1);
  const prices = choosePrices(range, featureShare);
  const curve = range.map(({ terms }, index) => ({
    step: triedSteps[first + index] ?? 1,
    rate: terms.rate,
    distortion: distortionOf(terms, prices),
  }));
  const [low, high] = [Math.log2(curve[0]?.step ?? 1), Math.log2(curve.at(-1)?.step ?? 1)];
  const steps = Array.from(
    { length: numLevels },
    (_, level) => 2 ** (low + ((high - low) * level) / (numLevels - 1)),
  );
  return { steps, prices, curve };
}

/** The same for pictures: what the terms count at each quality. That pixels come close is no aim of its own. */
export function choosePictureTarget(tried: readonly Evaluation[]): Aims {
  const prices = choosePrices(tried, 0);
  const curve = tried.map(({ terms }, index) => ({
    step: index + 1,
    rate: terms.rate,
    distortion: distortionOf(terms, prices),
  }));
  return { steps: [], prices, curve };
}

type Prices = Record<'outputs' | 'features' | 'later', number>;

function choosePrices(range: readonly Evaluation[], shareOfFeatures: number): Prices {
  const middle = range[range.length >> 1]?.terms;
  const share = (term: TrainingTerm, of: number): number =>
    middle !== undefined && middle[term] > 0 ? (of * middle.outputs) / middle[term] : 0;
  return { outputs: 1, features: share('features', shareOfFeatures), later: share('later', laterShare) };
}

function distortionOf(terms: Evaluation['terms'], prices: Prices): number {
  return prices.outputs * terms.outputs + prices.features * terms.features + prices.later * terms.later;
}

/** How much a point counts beside others of its kind. */
export interface PointOptions {
  /** Of the price of a bit. */
  rateFactor: number;
  /** Where only features are compared, they stand for the outputs as well. @default 'outputs' */
  stage?: 'features' | 'outputs';
}

/** What stands for the outputs where only features are compared: all shares over theirs. */
const featureStageFactor = (1 + featureShare + laterShare) / (featureShare + laterShare);

/** The step of a level between 0 and 1, or the quality next to it, and what the terms count there. */
export function createPoints(target: Aims): (level: number, options: PointOptions) => FramePoint {
  const { steps, prices, curve } = target;
  const [finest, roughest] = [steps[0], steps.at(-1)];
  const weigh = (
    unit: number,
    ofRate: number,
    { rateFactor, stage }: PointOptions,
  ): FramePoint['weights'] => {
    const factor = stage === 'features' ? featureStageFactor : 1;
    return {
      rate: unit * rateFactor * ofRate,
      features: unit * factor * (prices.features ?? 0),
      later: unit * factor * (prices.later ?? 0),
      outputs: unit * (prices.outputs ?? 1),
    };
  };
  if (finest === undefined || roughest === undefined) {
    // The finest qualities change next to nothing; what little they do must not count as much as all others.
    const worst = curve.reduce((most, { distortion }) => Math.max(most, distortion), 1e-6);
    return (level, options) => {
      const index = Math.min(curve.length - 1, Math.floor(level * curve.length));
      const distortion = Math.max(curve[index]?.distortion ?? 0, leastPictureShare * worst);
      const place = curve.length > 1 ? index / (curve.length - 1) : 0;
      return { step: index + 1, level: place, weights: weigh(1 / distortion, 0, options) };
    };
  }
  const tradeoff = fitTradeoff(curve);
  return (level, options) => {
    const step = finest * (roughest / finest) ** level;
    const weights = weigh(1 / tradeoff.loss(step), tradeoff.lambda(step), options);
    return { step, level, weights };
  };
}
