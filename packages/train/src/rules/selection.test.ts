import fc from 'fast-check';
import { describe, it } from 'vitest';
import { expectGradients } from '../testing/differences.js';

const options = { step: 0.5 };

describe('Slice', () => {
  const slices = fc
    .record({
      size: fc.integer({ min: 1, max: 7 }),
      start: fc.integer({ min: -9, max: 9 }),
      end: fc.integer({ min: -9, max: 9 }),
      step: fc.constantFrom(-3, -2, -1, 1, 2, 3),
    })
    .filter(({ size, start, end, step }) => taken(size, start, end, step) > 0);

  // As numpy counts.
  function taken(size: number, start: number, end: number, step: number): number {
    const at = (position: number): number => (position < 0 ? position + size : position);
    const from = Math.min(Math.max(at(start), 0), step > 0 ? size : size - 1);
    const to = Math.min(Math.max(at(end), step > 0 ? 0 : -1), step > 0 ? size : size - 1);
    return Math.ceil((to - from) / step);
  }

  it('any range of an axis', async () => {
    await fc.assert(
      fc.asyncProperty(slices, async ({ size, start, end, step }) => {
        await expectGradients(
          { x: { shape: [2, size] } },
          (draft) =>
            draft.node('Slice', ['x', ...[[start], [end], [-1], [step]].map((v) => draft.integers(v))]),
          options,
        );
      }),
      { numRuns: 60 },
    );
  });

  it('several axes, without a step', async () => {
    await expectGradients(
      { x: { shape: [3, 4, 2] } },
      (draft) => draft.node('Slice', ['x', draft.integers([1, -3]), draft.integers([3, 100])]),
      options,
    );
  });
});

describe('Pad', () => {
  it.each([
    { mode: 'constant', pads: [0, 1, 2, 0] },
    { mode: 'constant', pads: [0, -1, 1, -1] },
    { mode: 'reflect', pads: [1, 2, 2, 3] },
    { mode: 'edge', pads: [1, 0, 2, 3] },
  ])('%o', async ({ mode, pads }) => {
    await expectGradients(
      { x: { shape: [3, 4] } },
      (draft) => draft.node('Pad', ['x', draft.integers(pads)], { mode }),
      options,
    );
  });

  it('of chosen axes', async () => {
    await expectGradients(
      { x: { shape: [2, 3, 4] } },
      (draft) => draft.node('Pad', ['x', draft.integers([1, 2]), '', draft.integers([-2])]),
      { ...options, opset: 18 },
    );
  });
});

describe('Gather', () => {
  it.each([
    { axis: 0, indices: [1, 0, 1, -1], shape: [4] },
    { axis: 1, indices: [3, 3, 0, 2], shape: [2, 2] },
    { axis: -1, indices: [1], shape: [] },
  ])('%o', async ({ axis, indices, shape }) => {
    await expectGradients(
      { x: { shape: [3, 4, 2] } },
      (draft) => {
        const data = BigInt64Array.from(indices, BigInt);
        return draft.node('Gather', ['x', draft.constant({ type: 'int64', shape, data })], { axis });
      },
      options,
    );
  });
});
