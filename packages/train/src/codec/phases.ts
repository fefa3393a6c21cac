import { cosineRate } from '../schedule.js';

/** A part of the training in which the same is asked. */
export interface Phase {
  /** Share of all steps at which it ends. */
  until: number;
  /** 0: the decoder sees noise in place of rounding; 1: rounding, with gradients that pass through it. */
  hardness: number;
  /** Of the price of a bit: at first less, lest latents shrink before the decoder knows what to do with them. */
  rateFactor: number;
}

/**
 * Training that starts from a transform: the latents are sound from the start, so the decoder may see what it will
 * see in the end at once. Noise as large as a rough step would drown the many components that are rounded to zero.
 */
export const bottleneckPhases: readonly Phase[] = [
  { until: 0.1, hardness: 1, rateFactor: 0.7 },
  { until: 1, hardness: 1, rateFactor: 1 },
];

/**
 * How a training of a codec that lands deeper is divided: at first only features are compared, in a graph that ends where
 * they are, so that steps are several times cheaper; then the outputs as well, through the whole rest of the model.
 */
export interface Stages {
  /** Share of the time in which only features are compared. */
  timeShare: number;
  /** The same as a share of the steps, where their number is given. */
  stepShare: number;
}

/** A decoder that starts far off learns fastest from what is nearest. */
export const landingStages: Stages = { timeShare: 0.4, stepShare: 0.6 };
/** What starts close needs no preparation. */
export const singleStage: Stages = { timeShare: 0, stepShare: 0 };

/** A decoder that starts far off is no judge of what bits are worth: they are cheap until it has learned. */
export const landingPhases: readonly Phase[] = [
  { until: 0.2, hardness: 1, rateFactor: 0.3 },
  { until: 0.5, hardness: 1, rateFactor: 0.7 },
  { until: 1, hardness: 1, rateFactor: 1 },
];

/** The phase of a step, counted from 0. */
export function phaseAt(phases: readonly Phase[], step: number, numSteps: number): Phase {
  const progress = step / Math.max(1, numSteps);
  return (
    phases.find(({ until }) => progress < until) ?? phases.at(-1) ?? { until: 1, hardness: 1, rateFactor: 1 }
  );
}

/** Warm-up over a twentieth of the steps, then half a cosine to a fiftieth of the peak. */
export function learningRateAt(peakRate: number, step: number, numSteps: number): number {
  const numWarmupSteps = Math.min(100, Math.floor(numSteps / 20));
  return cosineRate({ peakRate, finalRate: peakRate / 50, numSteps, numWarmupSteps }, step);
}
