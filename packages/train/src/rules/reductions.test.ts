import { describe, it } from 'vitest';
import { expectGradients } from '../testing/differences.js';
import { seededRandom, uniformValues } from '../testing/random.js';

const shape = [2, 3, 4];
// All at least 0.2 apart, so that no step changes which is the extreme.
const order = uniformValues(24, seededRandom(9)).map((value, index) => value + index * 1e-6);
const apart = order.map((value) => [...order].sort((a, b) => a - b).indexOf(value) * 0.2 - 2.3);

const axesByInput = ['ReduceSum'];
const axesByAttribute = [
  ...['ReduceMean', 'ReduceMax', 'ReduceMin', 'ReduceL1'],
  ...['ReduceSumSquare', 'ReduceL2', 'ReduceLogSumExp'],
];

describe('reductions', () => {
  const choices = [{ axes: [1] }, { axes: [0, -1] }, { axes: [0, 1, 2] }];

  it.each(choices)('by attribute, operator set 17, $axes', async ({ axes }) => {
    for (const op of axesByAttribute) {
      for (const keepdims of [0, 1]) {
        await expectGradients({ x: { shape, values: apart } }, (draft) =>
          draft.node(op, ['x'], { axes, keepdims }),
        );
      }
    }
  });

  it.each(choices)('by input, operator set 18, $axes', async ({ axes }) => {
    for (const op of [...axesByInput, ...axesByAttribute]) {
      await expectGradients(
        { x: { shape, values: apart } },
        (draft) => draft.node(op, ['x', draft.integers(axes)], { keepdims: 0 }),
        { opset: 18 },
      );
    }
  });

  it('of all axes, and of none', async () => {
    await expectGradients({ x: { shape, values: apart } }, (draft) => draft.node('ReduceMean', ['x']));
    await expectGradients({ x: { shape, values: apart } }, (draft) =>
      draft.node('ReduceSum', ['x'], { noop_with_empty_axes: 1 }),
    );
  });

  it.each(['GlobalAveragePool', 'GlobalMaxPool'])('%s', async (op) => {
    await expectGradients({ x: { shape: [1, 2, 3, 4], values: apart } }, (draft) => draft.node(op, ['x']));
    await expectGradients({ x: { shape: [2, 3, 4], values: apart } }, (draft) => draft.node(op, ['x']));
  });
});
