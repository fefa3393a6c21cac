import { IsthmusError } from '@isthmus/core';
import { float32Tensor } from '@isthmus/graph';
import { describe, expect, it } from 'vitest';
import { Draft } from './draft.js';
import { addGradients } from './gradients.js';
import { expectGradients } from './testing/differences.js';
import { loadModel } from './testing/run.js';

function sum(draft: Draft, x: string): string {
  return draft.node('ReduceSum', [x], { keepdims: 0 });
}

describe('addGradients', () => {
  it('sums what comes by several ways', async () => {
    await expectGradients({ x: { shape: [3] } }, (draft) => {
      const squared = draft.node('Mul', ['x', 'x']);
      return draft.node('Add', [draft.node('Mul', [squared, 'x']), draft.node('Sum', ['x', squared, 'x'])]);
    });
  });

  it('of a value in between', async () => {
    const draft = new Draft();
    const x = draft.input('x', 'float32', [2]);
    const middle = draft.node('Mul', [x, draft.scalar(3)]);
    const loss = sum(draft, draft.node('Mul', [middle, middle]));
    const gradients = addGradients(draft, { loss, of: [middle, x] });
    const names = [gradients.get(middle) ?? '', gradients.get(x) ?? ''];
    const run = await loadModel(draft.build(names));
    const found = await run({ x: float32Tensor([1, -2]) });
    expect(names.map((name) => [...(found[name] ?? [])])).toEqual([
      [6, -12],
      [18, -36],
    ]);
  });

  it('is zero for what the loss does not depend on', async () => {
    const draft = new Draft();
    draft.input('x', 'float32', [2]);
    const other = draft.parameter('other', float32Tensor([1, 2, 3]));
    const gradient = addGradients(draft, { loss: sum(draft, 'x'), of: [other] }).get(other) ?? '';
    const run = await loadModel(draft.build([gradient]));
    expect((await run({}))[gradient]).toEqual(new Float32Array(3));
  });

  it('adds nothing for what is frozen', () => {
    const draft = new Draft();
    const x = draft.input('x', 'float32', [1, 2, 4, 4]);
    const frozen = draft.constant(float32Tensor(new Float32Array(36), [2, 2, 3, 3]), 'frozen');
    const w = draft.parameter('w', float32Tensor(new Float32Array(4), [2, 2, 1, 1]));
    // No gradient flows through an ArgMax, but none has to.
    const hidden = draft.node('Conv', [x, frozen]);
    const index = draft.node('Cast', [draft.node('ArgMax', [hidden])], { to: 1 });
    const loss = sum(draft, draft.node('Mul', [draft.node('Conv', [hidden, w]), index]));
    const before = draft.steps.length;
    addGradients(draft, { loss, of: [w] });
    const added = draft.steps.slice(before).flatMap(({ of }) => ('opType' in of ? [of.opType] : []));
    expect(added).not.toContain('Conv');
    expect(added).toContain('MatMul');
  });

  it('names the operator and the node that have no gradient', () => {
    const draft = new Draft();
    const x = draft.input('x', 'float32', [4]);
    const sums = draft.node(
      'CumSum',
      [x, draft.constant({ type: 'int64', shape: [], data: new BigInt64Array(1) })],
      {},
      {
        output: 'running',
      },
    );
    const loss = sum(draft, sums);
    expect(() => addGradients(draft, { loss, of: [x] })).toThrow(
      expect.objectContaining({
        code: 'train/no-gradient',
        message: expect.stringMatching(/CumSum node "running".*[Ff]reeze/),
        details: { operator: 'CumSum', node: 'running' },
      }),
    );
  });

  it('refuses rather than leaving a part of the gradient out', () => {
    const draft = new Draft();
    const x = draft.input('x', 'float32', [1, 4]);
    const limit = draft.parameter('limit', float32Tensor([1], []));
    const clipped = draft.node('Clip', [x, '', limit]);
    expect(() => addGradients(draft, { loss: sum(draft, clipped), of: [limit] })).toThrow(/input limit/);
    const scale = draft.constant(float32Tensor([1, 2, 3, 4]));
    const [, mean = ''] = draft.multiNode('LayerNormalization', [x, scale], ['standard', 'mean']);
    const loss = draft.node('Identity', [mean], {}, { shape: [1, 1] });
    expect(() => addGradients(draft, { loss, of: [x] })).toThrow(/other than its first/);
  });

  it('refuses a loss that is not one number', () => {
    const draft = new Draft();
    const x = draft.input('x', 'float32', [4]);
    expect(() => addGradients(draft, { loss: x, of: [x] })).toThrow(IsthmusError);
  });

  it('takes the rule of a composite in place of its nodes', async () => {
    const draft = new Draft();
    const x = draft.input('x', 'float32', [2]);
    const [y = ''] = draft.composite(
      'doubled backwards',
      [x],
      () => [draft.node('Floor', [draft.node('Abs', [x])])],
      ({ ops, gradient }) => [ops.scale(gradient, 2)],
    );
    const gradient = addGradients(draft, { loss: sum(draft, y), of: [x] }).get(x) ?? '';
    const run = await loadModel(draft.build([gradient]));
    expect((await run({ x: float32Tensor([1, -2]) }))[gradient]).toEqual(Float32Array.of(2, 2));
  });
});

describe('Draft', () => {
  it('is not changed by what is done to a clone', () => {
    const draft = new Draft();
    const x = draft.input('x', 'float32', [1, 1, 4, 4]);
    const loss = sum(draft, draft.node('MaxPool', [x], { kernel_shape: [2, 2] }));
    const copy = draft.clone();
    addGradients(copy, { loss, of: [x] });
    const [pool] = draft.steps;
    expect(pool?.of).toMatchObject({ output: [pool?.outputs[0]] });
    expect(copy.steps.length).toBeGreaterThan(draft.steps.length);
  });

  it('shares equal small constants, and tells zero from minus zero', () => {
    const draft = new Draft();
    expect(draft.scalar(2)).toBe(draft.scalar(2));
    expect(draft.scalar(0)).not.toBe(draft.scalar(-0));
    expect(draft.scalar(2)).not.toBe(draft.constant(float32Tensor([2])));
  });

  it.each([
    ['a name twice', (draft: Draft) => draft.input('x', 'float32', [2])],
    ['an input that is not there', (draft: Draft) => draft.node('Neg', ['y'])],
  ])('refuses %s', (_, act) => {
    const draft = new Draft();
    draft.input('x', 'float32', [1]);
    expect(() => act(draft)).toThrow(expect.objectContaining({ code: 'model/invalid' }));
  });
});
