import { float32Tensor } from '@isthmus/graph';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import type { Draft } from './draft.js';
import { expectGradients } from './testing/differences.js';
import { seededRandom, uniformValues } from './testing/random.js';

// Smooth operators that keep values small, on tensors of [2, 3, 4]; each takes what is there and adds to it.
type Growth = (draft: Draft, a: string, b: string) => string;

const mixing = float32Tensor(uniformValues(16, seededRandom(8)), [4, 4]);
const growths: Readonly<Record<string, Growth>> = {
  add: (draft, a, b) => draft.node('Add', [a, b]),
  multiply: (draft, a, b) => draft.node('Mul', [draft.node('Tanh', [a]), draft.node('Sigmoid', [b])]),
  divide: (draft, a, b) => draft.node('Div', [a, draft.node('Exp', [draft.node('Sigmoid', [b])])]),
  softmax: (draft, a, b) => draft.node('Mul', [draft.node('Softmax', [a], { axis: 1 }), b]),
  soften: (draft, a) => draft.node('Softplus', [a]),
  mix: (draft, a) => draft.node('Tanh', [draft.node('MatMul', [a, draft.constant(mixing)])]),
  centre: (draft, a) => draft.node('Sub', [a, draft.node('ReduceMean', [a], { axes: [2], keepdims: 1 })]),
  join: (draft, a, b) => {
    const both = draft.node('Concat', [a, b], { axis: 0 });
    const ranges = [[1], [4], [0], [2]].map((values) => draft.integers(values));
    return draft.node('Sin', [draft.node('Slice', [both, ...ranges])]);
  },
  turn: (draft, a, b) => {
    const turned = draft.node('Transpose', [draft.node('Reshape', [a, draft.integers([2, 4, 3])])], {
      perm: [0, 2, 1],
    });
    return draft.node('Mul', [draft.node('Tanh', [turned]), draft.node('Tanh', [b])]);
  },
  halve: (draft, a, b) => {
    const size = draft.integers([1, 2]);
    const [head = '', tail = ''] = draft.multiNode(
      'Split',
      [a, size],
      [draft.unique('head'), draft.unique('tail')],
      {
        axis: 1,
      },
    );
    const swapped = draft.node('Concat', [draft.node('Tanh', [tail]), draft.node('Cos', [head])], {
      axis: 1,
    });
    return draft.node('Add', [swapped, b]);
  },
};

const steps = fc.array(
  fc.record({
    growth: fc.constantFrom(...Object.keys(growths)),
    a: fc.nat({ max: 20 }),
    b: fc.nat({ max: 20 }),
  }),
  { minLength: 1, maxLength: 8 },
);

describe('graphs at random', () => {
  it('have the gradients that differences give, whatever is used how often', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (plan) => {
        await expectGradients(
          { x: { shape: [2, 3, 4] }, y: { shape: [3, 1] } },
          (draft) => {
            const found = ['x', draft.node('Expand', ['y', draft.integers([2, 3, 4])])];
            for (const { growth, a, b } of plan) {
              const at = (index: number): string => found[index % found.length] ?? 'x';
              const grown = growths[growth]?.(draft, at(a), at(b));
              if (grown !== undefined) found.push(grown);
            }
            // The last, one from the middle, and x: several paths lead to the loss, and never none.
            return [...new Set([found.at(-1) ?? 'x', found[found.length >> 1] ?? 'x', 'x'])];
          },
          { tolerance: 4e-3 },
        );
      }),
      { numRuns: 40 },
    );
  });
});
