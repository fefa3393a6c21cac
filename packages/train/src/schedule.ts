import { IsthmusError } from '@isthmus/core';

/** A learning rate that warms up linearly and then falls along half a cosine. */
export interface CosineSchedule {
  /** The rate at the end of the warm-up. */
  peakRate: number;
  /** The rate at the last step. @default 0 */
  finalRate?: number;
  numSteps: number;
  /** @default 0 */
  numWarmupSteps?: number;
}

/**
 * The learning rate of a step, counted from 0 (Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm
 * Restarts, 2017, without the restarts).
 *
 * @throws IsthmusError `usage/invalid` if the warm-up is as long as the training, or longer.
 *
 * @example
 * ```ts
 * const rate = cosineRate({ peakRate: 1e-3, numSteps: 10_000, numWarmupSteps: 500 }, trainer.state.step);
 * ```
 */
export function cosineRate(schedule: CosineSchedule, step: number): number {
  const { peakRate, finalRate = 0, numSteps, numWarmupSteps = 0 } = schedule;
  if (!(numWarmupSteps >= 0 && numWarmupSteps < numSteps)) {
    throw new IsthmusError(
      'usage/invalid',
      `A warm-up of ${numWarmupSteps} steps has to be shorter than the training of ${numSteps}.`,
    );
  }
  // The first step is taken at a rate above zero.
  if (step < numWarmupSteps) return peakRate * ((step + 1) / numWarmupSteps);
  const last = Math.max(1, numSteps - 1 - numWarmupSteps);
  const progress = Math.min(1, (step - numWarmupSteps) / last);
  return finalRate + ((peakRate - finalRate) * (1 + Math.cos(Math.PI * progress))) / 2;
}
