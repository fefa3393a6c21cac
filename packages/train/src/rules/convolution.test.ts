import { describe, it } from 'vitest';
import { expectGradients } from '../testing/differences.js';

interface Case {
  input: number[];
  kernel: number[];
  attributes?: Record<string, number | number[] | string>;
}

// Linear in each input: the differences are exact with any step.
const step = 0.5;

const cases: Case[] = [
  { input: [2, 3, 5, 6], kernel: [4, 3, 3, 3], attributes: { pads: [1, 1, 1, 1] } },
  { input: [1, 3, 5, 6], kernel: [4, 3, 3, 3] },
  { input: [2, 2, 4, 4], kernel: [3, 2, 1, 1] },
  { input: [2, 2, 5, 5], kernel: [3, 2, 1, 1], attributes: { strides: [2, 2] } },
  // Small maps of many channels.
  { input: [3, 6, 1, 2], kernel: [7, 6, 1, 1] },
  { input: [2, 9, 2, 1], kernel: [8, 9, 3, 3], attributes: { pads: [1, 1, 1, 1] } },
  // The stride leaves over: none, a row, a row and two columns.
  { input: [1, 2, 5, 7], kernel: [2, 2, 3, 3], attributes: { strides: [2, 2] } },
  { input: [2, 2, 6, 7], kernel: [2, 2, 3, 3], attributes: { strides: [2, 2], pads: [1, 1, 1, 1] } },
  { input: [1, 2, 6, 8], kernel: [2, 2, 2, 3], attributes: { strides: [3, 3] } },
  { input: [1, 2, 7, 7], kernel: [2, 2, 5, 5], attributes: { strides: [2, 2], pads: [2, 2, 2, 2] } },
  // Five by five without a stride, and asymmetric zeros.
  { input: [1, 2, 5, 5], kernel: [2, 2, 5, 5], attributes: { pads: [2, 2, 2, 2] } },
  { input: [1, 2, 5, 6], kernel: [2, 2, 3, 2], attributes: { pads: [0, 1, 2, 0] } },
  { input: [1, 2, 5, 6], kernel: [2, 2, 3, 3], attributes: { pads: [0, 1, 2, 0], strides: [2, 1] } },
  { input: [1, 1, 3, 3], kernel: [1, 1, 1, 1], attributes: { pads: [1, 1, 1, 1] } },
  { input: [1, 2, 7, 7], kernel: [2, 2, 3, 3], attributes: { dilations: [2, 2], pads: [2, 2, 2, 2] } },
  { input: [1, 2, 8, 7], kernel: [2, 2, 3, 3], attributes: { dilations: [2, 1], strides: [1, 2] } },
  { input: [2, 4, 5, 5], kernel: [6, 2, 3, 3], attributes: { group: 2, pads: [1, 1, 1, 1] } },
  { input: [2, 4, 5, 6], kernel: [2, 2, 3, 3], attributes: { group: 2, strides: [2, 2] } },
  { input: [2, 3, 5, 5], kernel: [3, 1, 3, 3], attributes: { group: 3, pads: [1, 1, 1, 1] } },
  {
    input: [2, 3, 6, 5],
    kernel: [3, 1, 3, 3],
    attributes: { group: 3, pads: [1, 1, 1, 1], strides: [2, 2] },
  },
  { input: [1, 3, 5, 5], kernel: [3, 1, 5, 5], attributes: { group: 3, pads: [2, 2, 2, 2] } },
  { input: [2, 2, 5, 5], kernel: [4, 1, 3, 3], attributes: { group: 2, pads: [1, 1, 1, 1] } },
  { input: [1, 2, 5, 6], kernel: [2, 2, 3, 2], attributes: { auto_pad: 'SAME_UPPER', strides: [2, 2] } },
  { input: [1, 2, 5, 6], kernel: [2, 2, 3, 2], attributes: { auto_pad: 'SAME_LOWER' } },
  { input: [1, 2, 5, 6], kernel: [2, 2, 3, 2], attributes: { auto_pad: 'VALID' } },
  { input: [2, 2, 7], kernel: [3, 2, 3], attributes: { pads: [1, 1], strides: [2] } },
];

describe('Conv', () => {
  it.each(cases)('$input by $kernel, $attributes', async ({ input, kernel, attributes = {} }) => {
    const inputs = { x: { shape: input }, w: { shape: kernel }, b: { shape: kernel.slice(0, 1) } };
    await expectGradients(inputs, (draft) => draft.node('Conv', ['x', 'w', 'b'], attributes), { step });
  });
});

const transposed: Case[] = [
  { input: [1, 3, 4, 4], kernel: [3, 2, 3, 3], attributes: { pads: [1, 1, 1, 1] } },
  { input: [2, 2, 3, 4], kernel: [2, 3, 4, 4], attributes: { strides: [2, 2], pads: [1, 1, 1, 1] } },
  {
    input: [1, 2, 3, 3],
    kernel: [2, 2, 5, 5],
    attributes: { strides: [2, 2], pads: [2, 2, 2, 2], output_padding: [1, 1] },
  },
  { input: [1, 4, 3, 3], kernel: [4, 1, 3, 3], attributes: { strides: [2, 2], group: 2 } },
  {
    input: [1, 3, 3, 3],
    kernel: [3, 1, 3, 3],
    attributes: { strides: [2, 2], group: 3, pads: [1, 0, 0, 1] },
  },
  { input: [1, 2, 4, 4], kernel: [2, 2, 3, 3], attributes: { dilations: [2, 2] } },
];

describe('ConvTranspose', () => {
  it.each(transposed)('$input by $kernel, $attributes', async ({ input, kernel, attributes = {} }) => {
    const outputs = (kernel[1] ?? 1) * Number(attributes.group ?? 1);
    const inputs = { x: { shape: input }, w: { shape: kernel }, b: { shape: [outputs] } };
    await expectGradients(inputs, (draft) => draft.node('ConvTranspose', ['x', 'w', 'b'], attributes), {
      step,
    });
  });
});
