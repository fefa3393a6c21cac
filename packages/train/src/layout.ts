import { elementCount, IsthmusError } from '@isthmus/core';
import type { Draft } from './draft.js';

/** Where a parameter or a statistic lies in the one vector that holds them all. */
export interface ParameterEntry {
  readonly name: string;
  readonly shape: readonly number[];
  /** Elements before it. */
  readonly offset: number;
  readonly numElements: number;
}

/**
 * All parameters and statistics in one vector, for an optimizer has then few, long tensors to go over. First the parameters
 * that decay, then the others, then statistics that move, then those that stay.
 */
export interface ParameterLayout {
  readonly entries: readonly ParameterEntry[];
  readonly numElements: number;
  /** Elements of the parameters that decay. */
  readonly numDecaying: number;
  /** Elements of all parameters. */
  readonly numTrained: number;
  /** Elements of statistics that move. */
  readonly numFollowing: number;
}

/** @throws IsthmusError `usage/invalid` if there is nothing to train. */
export function layOutParameters(draft: Draft): ParameterLayout {
  const { parameters, statistics } = draft;
  if (parameters.length === 0) {
    throw new IsthmusError('usage/invalid', 'The draft has no parameters, so there is nothing to train.');
  }
  const groups = [
    parameters.filter(({ decays }) => decays),
    parameters.filter(({ decays }) => !decays),
    statistics.filter(({ follows }) => follows !== undefined),
    statistics.filter(({ follows }) => follows === undefined),
  ];
  let offset = 0;
  const entries = groups.flat().map(({ name, tensor: { shape } }): ParameterEntry => {
    const numElements = elementCount(shape);
    offset += numElements;
    return { name, shape, offset: offset - numElements, numElements };
  });
  const [numDecaying = 0, numOthers = 0, numFollowing = 0] = groups.map((group) =>
    group.reduce((sum, { tensor }) => sum + elementCount(tensor.shape), 0),
  );
  return { entries, numElements: offset, numDecaying, numTrained: numDecaying + numOthers, numFollowing };
}
