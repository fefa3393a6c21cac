import { createGraphBuilder, float32Tensor, int64Tensor, type ModelProto } from '@isthmus/graph';
import { describe, expect, it } from 'vitest';
import { Draft } from './draft.js';
import { addGradients } from './gradients.js';
import { graft } from './graft.js';
import { loadModel } from './testing/run.js';

function linearModel(opset: number): ModelProto {
  const graph = createGraphBuilder({ name: 'linear', opset });
  const x = graph.input('x', 'float32', ['batch', 2]);
  const w = graph.constant('w', float32Tensor([1, 2, 3, 4], [2, 2]));
  const b = graph.constant('b', float32Tensor([5, 6]));
  graph.output(graph.node('Add', [graph.node('MatMul', [x, w]), b], {}, { output: 'y' }), 'float32');
  return graph.build();
}

describe('graft', () => {
  it.each([13, 17])('adds a model of operator set %i, with new shapes and names', async (opset) => {
    const draft = new Draft();
    const x = draft.input('frames', 'float32', [3, 2]);
    const doubled = draft.node('Add', [x, x]);
    const outputs = graft(draft, linearModel(opset), { inputs: { x: doubled }, prefix: 'tail/' });
    expect([...outputs]).toEqual([['y', 'tail/y']]);
    expect(draft.shapeOf('tail/y')).toEqual([3, 2]);
    expect(draft.parameters).toEqual([]);
    const loss = draft.node('ReduceSum', ['tail/y'], { keepdims: 0 });
    const gradient = addGradients(draft, { loss, of: [x] }).get(x) ?? '';
    const run = await loadModel(draft.build([gradient, 'tail/y']));
    const found = await run({ frames: float32Tensor([1, 1, 0, 0, 2, 1], [3, 2]) });
    expect(found['tail/y']).toEqual(Float32Array.of(13, 18, 5, 6, 15, 22));
    expect(found[gradient]).toEqual(Float32Array.of(6, 14, 6, 14, 6, 14));
  });

  it('makes parameters of the weights that are to be trained', () => {
    const draft = new Draft();
    const x = draft.input('x', 'float32', [3, 2]);
    graft(draft, linearModel(17), { inputs: { x }, prefix: 'head/', trains: () => true });
    expect(draft.parameters.map(({ name, decays }) => ({ name, decays }))).toEqual([
      { name: 'head/w', decays: true },
      { name: 'head/b', decays: false },
    ]);
  });

  it('does not take limits, statistics and lone factors for weights', () => {
    const graph = createGraphBuilder({ name: 'constants', opset: 17 });
    let y = graph.input('x', 'float32', [1, 2, 2, 2]);
    const constant = (name: string, values: number[], shape = [values.length]): string =>
      graph.constant(name, float32Tensor(values, shape));
    y = graph.node('Conv', [y, constant('kernel', [1, 2, 3, 4], [2, 2, 1, 1]), constant('bias', [1, 2])]);
    const variance = constant('variance', [1, 1]);
    const affine = [constant('scale', [1, 1]), constant('shift', [1, 1])];
    y = graph.node('BatchNormalization', [y, ...affine, constant('mean', [0, 0]), variance]);
    y = graph.node('Clip', [y, constant('low', [0], []), constant('high', [6], [])]);
    y = graph.node('Mul', [y, constant('half', [0.5])]);
    y = graph.node('Add', [y, constant('offsets', [1, 2], [2, 1, 1])]);
    // Used as a weight once, and once as something else.
    y = graph.node('Sub', [
      y,
      graph.node('Reshape', [variance, graph.constant('as', int64Tensor([2, 1, 1]))]),
    ]);
    graph.output(graph.node('Resize', [y, '', constant('scales', [1, 1, 2, 2])]), 'float32');
    const draft = new Draft();
    const asked: string[] = [];
    const x = draft.input('x', 'float32', [3, 2, 2, 2]);
    graft(draft, graph.build(), {
      inputs: { x },
      prefix: 'm/',
      trains: (name) => {
        asked.push(name);
        return name !== 'bias';
      },
    });
    expect(asked).toEqual(['kernel', 'bias', 'scale', 'shift', 'offsets']);
    expect(draft.parameters.map(({ name }) => name)).toEqual(['m/kernel', 'm/scale', 'm/shift', 'm/offsets']);
  });

  it('refuses operator sets that it cannot mix', () => {
    const add = (model: number, draft: number) => () => {
      const target = new Draft({ opset: draft });
      graft(target, linearModel(model), { inputs: { x: target.input('x', 'float32', [1, 2]) } });
    };
    expect(add(12, 17)).toThrow(expect.objectContaining({ code: 'model/unsupported' }));
    expect(add(18, 17)).toThrow(/opset: 18/);
    expect(add(17, 18)).toThrow(expect.objectContaining({ code: 'model/unsupported' }));
    expect(add(18, 18)).not.toThrow();
  });

  it('says which input is missing', () => {
    expect(() => graft(new Draft(), linearModel(17), { inputs: {} })).toThrow(/input x/);
  });
});
