import { IsthmusError } from '../errors.js';

/**
 * What an adaptive coder has learned: for each context, how likely a 0 is. Two estimates, one quick to follow and
 * one slow and precise, are averaged (as in VVC's CABAC, ITU-T H.266 §9.3.4.3). Young contexts learn faster still,
 * by halves, quarters, eighths, so that a few values teach them most of what there is to know.
 */
export interface AdaptiveModel {
  /** Per context the slow estimate in the upper 16 bits and the quick one in the lower, in units of 2^−16. */
  readonly estimates: Int32Array;
  /** Per context how many bits it has seen, up to {@link matureCount}. */
  readonly counts: Uint8Array;
}

export const quickShift = 4;
export const slowShift = 7;
/** From here on a context is mature: its slow estimate moves by 2^−slowShift. */
export const matureCount = 63;

/** The most contexts one coder can have: five bytes each. */
const maxContexts = 1_048_576;

/**
 * A model that knows nothing: 0 and 1 are equally likely everywhere.
 *
 * @throws IsthmusError `usage/invalid` for a number of contexts beyond 1 to 2^20.
 */
export function createModel(numContexts: number): AdaptiveModel {
  if (!Number.isInteger(numContexts) || numContexts < 1 || numContexts > maxContexts) {
    throw new IsthmusError('usage/invalid', `An adaptive coder has 1 to ${maxContexts} contexts.`);
  }
  return {
    estimates: new Int32Array(numContexts).fill(-0x7fff8000),
    counts: new Uint8Array(numContexts),
  };
}

/** A context of `writeSymbol` takes so many contexts: one per node of a tree with 2^numBits leaves, and one unused. */
export function symbolContexts(numBits: number): number {
  return 2 ** numBits;
}

/**
 * A context of `writeValue` takes so many contexts: whether the value is 0 (one), its sign (one), whether its
 * magnitude exceeds 1 … 12 (twelve), and beyond, how many bits the rest has (eighteen).
 */
export const valueContexts = 32;
export const signContext = 1;
export const magnitudeContext = 2;
/** Magnitudes up to here are coded one by one. */
export const plainMagnitude = 13;
export const lengthContext: number = magnitudeContext + plainMagnitude - 1;
export const lengthContexts: number = valueContexts - lengthContext;
/** The rest of a magnitude of 2^31 has so many bits after its first. */
export const maxLength = 30;

export function noSuchContext(context: number, numContexts: number): IsthmusError {
  return new IsthmusError('usage/invalid', `There is no context ${context}, only 0 to ${numContexts - 1}.`);
}
