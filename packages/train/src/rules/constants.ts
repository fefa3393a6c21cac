import type { GradientContext } from '../gradient-context.js';
import { noGradient } from '../no-gradient.js';

/** The elements of a constant input as numbers; undefined if the input is left out. */
export function constantNumbers(
  { draft, node, inputs }: GradientContext,
  index: number,
  what: string,
): number[] | undefined {
  const name = inputs[index] ?? '';
  if (name === '') return undefined;
  const constant = draft.constantOf(name);
  if (constant === undefined) throw noGradient(node, `its ${what} are not constant`);
  return Array.from(constant.data as ArrayLike<number | bigint>, Number);
}
