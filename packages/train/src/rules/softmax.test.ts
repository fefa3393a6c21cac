import { describe, it } from 'vitest';
import { expectGradients } from '../testing/differences.js';

describe.each(['Softmax', 'LogSoftmax'])('%s', (op) => {
  it.each([{}, { axis: 1 }, { axis: -3 }])('%o', async (attributes) => {
    await expectGradients({ x: { shape: [2, 3, 4] } }, (draft) => draft.node(op, ['x'], attributes));
  });
});
