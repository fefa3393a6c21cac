import { elementCount, IsthmusError } from '@isthmus/core';
import type { Draft } from './draft.js';

/** Where a parameter lies in the one vector that holds them all. */
export interface ParameterEntry {
  readonly name: string;
  readonly shape: readonly number[];
  /** Elements before it. */
  readonly offset: number;
  readonly numElements: number;
}

/** All parameters in one vector, those that decay first: an optimizer then has few, long tensors to go over. */
export interface ParameterLayout {
  readonly entries: readonly ParameterEntry[];
  readonly numElements: number;
  /** Elements of those that decay. */
  readonly numDecaying: number;
}

/** @throws IsthmusError `usage/invalid` if there is nothing to train. */
export function layOutParameters(draft: Draft): ParameterLayout {
  const { parameters } = draft;
  const decaying = parameters.filter(({ decays }) => decays);
  const ordered = [...decaying, ...parameters.filter(({ decays }) => !decays)];
  if (ordered.length === 0) {
    throw new IsthmusError('usage/invalid', 'The draft has no parameters, so there is nothing to train.');
  }
  let offset = 0;
  const entries = ordered.map(({ name, tensor: { shape } }): ParameterEntry => {
    const numElements = elementCount(shape);
    offset += numElements;
    return { name, shape, offset: offset - numElements, numElements };
  });
  const numDecaying = decaying.reduce((sum, { tensor }) => sum + elementCount(tensor.shape), 0);
  return { entries, numElements: offset, numDecaying };
}
