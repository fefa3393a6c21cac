import { describe, it } from 'vitest';
import { expectGradients } from '../testing/differences.js';

// At least 0.1 away from −3, −1, 0, 1, 2.5 and 3, where these have kinks.
const x = { shape: [2, 2, 3], values: [-3.6, -2.2, -1.4, -0.6, -0.2, 0.15, 0.7, 1.3, 1.9, 2.2, 2.8, 3.7] };

describe('activations', () => {
  it.each([
    ['Relu', {}],
    ['LeakyRelu', {}],
    ['LeakyRelu', { alpha: { float: 0.3 } }],
    ['Elu', {}],
    ['Elu', { alpha: { float: 0.7 } }],
    ['HardSigmoid', {}],
    ['HardSigmoid', { alpha: { float: 0.4 }, beta: { float: 0.6 } }],
    ['HardSwish', {}],
  ])('%s %o', async (op, attributes) => {
    await expectGradients({ x }, (draft) => draft.node(op, ['x'], attributes));
  });

  it.each(['none', 'tanh'])('Gelu, approximated by %s', async (approximate) => {
    await expectGradients({ x }, (draft) => draft.node('Gelu', ['x'], { approximate }), { opset: 20 });
  });

  it('PRelu with a slope for each channel', async () => {
    await expectGradients({ x, slope: { shape: [2, 1], values: [0.2, -0.5] } }, (draft) =>
      draft.node('PRelu', ['x', 'slope']),
    );
  });

  it('Clip with both limits, one, and none', async () => {
    for (const limits of [
      [0, 6],
      [-1, 2.5],
    ]) {
      await expectGradients({ x }, (draft) =>
        draft.node('Clip', ['x', ...limits.map((limit) => draft.scalar(limit))]),
      );
    }
    await expectGradients({ x }, (draft) => draft.node('Clip', ['x', '', draft.scalar(1)]));
    await expectGradients({ x }, (draft) => draft.node('Clip', ['x']));
  });
});
