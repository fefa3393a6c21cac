import { float32Tensor } from '@isthmus/graph';
import { describe, expect, it } from 'vitest';
import { Draft } from '../draft.js';
import { addGradients } from '../gradients.js';
import { expectGradients } from '../testing/differences.js';
import { seededRandom, uniformValues } from '../testing/random.js';
import { loadModel } from '../testing/run.js';

const positive = { shape: [3, 4], values: uniformValues(12, seededRandom(1), 0.5, 2) };
const anywhere = { shape: [3, 4], values: uniformValues(12, seededRandom(2), -2, 2) };
// Away from zero, where it kinks.
const signed = { shape: [2, 4], values: [-1, -0.7, -0.3, -0.2, 0.2, 0.4, 0.8, 1.5] };

describe('functions of one tensor', () => {
  it.each(['Log', 'Sqrt', 'Reciprocal'])('%s of what is positive', async (op) => {
    await expectGradients({ x: positive }, (draft) => draft.node(op, ['x']));
  });

  it.each(['Identity', 'Neg', 'Exp', 'Sin', 'Cos', 'Tanh', 'Sigmoid', 'Softplus', 'Erf', 'Dropout'])(
    '%s',
    async (op) => {
      await expectGradients({ x: anywhere }, (draft) => draft.node(op, ['x']));
    },
  );

  it('Abs', async () => {
    await expectGradients({ x: signed }, (draft) => draft.node('Abs', ['x']));
  });

  it('Cast from float32 to itself', async () => {
    await expectGradients({ x: anywhere }, (draft) => draft.node('Cast', ['x'], { to: 1 }));
  });

  it('Cast to float16 and back carries the gradient through', async () => {
    const draft = new Draft();
    const x = draft.input('x', 'float32', [3]);
    const half = draft.node('Cast', [x], { to: 10 });
    const back = draft.node('Mul', [draft.node('Cast', [half], { to: 1 }), draft.scalar(3)]);
    const loss = draft.node('ReduceSum', [back], { keepdims: 0 });
    const gradient = addGradients(draft, { loss, of: [x] }).get(x) ?? '';
    const run = await loadModel(draft.build([gradient]));
    expect((await run({ x: float32Tensor([1, -2, 0.5]) }))[gradient]).toEqual(Float32Array.of(3, 3, 3));
  });

  it.each(['Round', 'Floor'])('%s hands the gradient on as it is', async (op) => {
    const draft = new Draft();
    const x = draft.input('x', 'float32', [3]);
    const weighted = draft.node('Mul', [draft.node(op, [x]), draft.constant(float32Tensor([1, -2, 5]))]);
    const loss = draft.node('ReduceSum', [weighted], { keepdims: 0 });
    const gradient = addGradients(draft, { loss, of: [x] }).get(x) ?? '';
    const run = await loadModel(draft.build([gradient]));
    expect((await run({ x: float32Tensor([0.2, 1.7, -3.4]) }))[gradient]).toEqual(Float32Array.of(1, -2, 5));
  });
});
