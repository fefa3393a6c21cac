import type { Attributes } from '../attributes.js';

/** How a convolution or a pool goes over its input; one entry a spatial axis. */
export interface Window {
  kernel: readonly number[];
  strides: readonly number[];
  dilations: readonly number[];
  /** Zeros before and after the input. */
  before: readonly number[];
  after: readonly number[];
}

/** The window of a node, with `auto_pad` turned into zeros before and after. */
export function readWindow(
  attributes: Attributes,
  kernel: readonly number[],
  input: readonly number[],
  output: readonly number[],
): Window {
  const strides = attributes.ints('strides') ?? kernel.map(() => 1);
  const dilations = attributes.ints('dilations') ?? kernel.map(() => 1);
  const pads = attributes.ints('pads') ?? kernel.flatMap(() => [0, 0]);
  const autoPad = attributes.text('auto_pad', 'NOTSET');
  const at = (values: readonly number[], axis: number): number => values[axis] ?? 0;
  if (!autoPad.startsWith('SAME')) {
    const given = autoPad === 'VALID' ? kernel.flatMap(() => [0, 0]) : pads;
    const [before, after] = [given.slice(0, kernel.length), given.slice(kernel.length)];
    return { kernel, strides, dilations, before, after };
  }
  const missing = kernel.map((size, axis) => {
    const reach = at(dilations, axis) * (size - 1) + 1;
    return Math.max(0, (at(output, axis) - 1) * at(strides, axis) + reach - at(input, axis));
  });
  const less = missing.map((count) => Math.floor(count / 2));
  const more = missing.map((count) => Math.ceil(count / 2));
  return autoPad === 'SAME_UPPER'
    ? { kernel, strides, dilations, before: less, after: more }
    : { kernel, strides, dilations, before: more, after: less };
}

/** How far a window reaches along an axis, gaps included. */
export function reachOf(window: Window, axis: number): number {
  return (window.dilations[axis] ?? 1) * ((window.kernel[axis] ?? 1) - 1) + 1;
}
