import { describe, expect, it } from 'vitest';
import { createGraphBuilder, type GraphBuilder } from './build.js';
import { indexFlow } from './flow.js';
import { normalizeModel } from './normalize.js';
import { float32Tensor, readTensor } from './tensors.js';
import { branchingModel, functionModel, oldStyleModel } from './testing/odd-models.js';
import { writeModel } from './write.js';

function build(fill: (graph: GraphBuilder) => void): ReturnType<GraphBuilder['build']> {
  const graph = createGraphBuilder({ name: 'test', opset: 17 });
  fill(graph);
  return graph.build();
}

describe('normalizeModel', () => {
  it('sorts nodes, names them, and drops what no output needs', () => {
    const original = oldStyleModel();
    const before = writeModel(original);
    const { graph, irVersion } = normalizeModel(original);
    expect(graph!.node.map(({ name, opType }) => `${opType} ${name}`)).toEqual([
      'Conv c0.conv',
      'Relu c0',
      'Conv c1.conv',
      'Relu c1',
    ]);
    expect(graph!.input.map(({ name }) => name)).toEqual(['image']);
    expect(irVersion).toBe(4n);
    expect(writeModel(original)).toEqual(before);
  });

  it('makes names of nodes distinct', () => {
    const model = build((graph) => {
      const x = graph.input('x', 'float32', [1]);
      const y = graph.node('Exp', [x], {}, { name: 'same' });
      graph.output(graph.node('Exp', [y], {}, { name: 'same' }), 'float32');
    });
    expect(normalizeModel(model).graph!.node.map(({ name }) => name)).toEqual(['same', 'same_1']);
  });

  it('turns Constant nodes of every numeric kind into initializers', () => {
    const model = build((graph) => {
      const x = graph.input('x', 'float32', [2]);
      const values = [
        graph.node('Constant', [], { value: float32Tensor([1, 2]) }, { output: 'tensor' }),
        graph.node('Constant', [], { value_float: { float: 0.5 } }, { output: 'float' }),
        graph.node('Constant', [], { value_floats: { floats: [3, 4] } }, { output: 'floats' }),
      ];
      graph.node('Constant', [], { value_int: 7 }, { output: 'int' });
      graph.node('Constant', [], { value_ints: [7, 8] }, { output: 'ints' });
      graph.output(graph.node('Sum', [x, ...values]), 'float32');
      graph.output('int', 'int64');
      graph.output('ints', 'int64');
    });
    const { graph } = normalizeModel(model);
    expect(graph!.node.map(({ opType }) => opType)).toEqual(['Sum']);
    const stored = Object.fromEntries(graph!.initializer.map((tensor) => [tensor.name, readTensor(tensor)]));
    expect(stored.tensor).toEqual(float32Tensor([1, 2]));
    expect(stored.float).toEqual(float32Tensor([0.5], []));
    expect(stored.floats).toEqual(float32Tensor([3, 4]));
    expect(stored.int).toEqual({ type: 'int64', shape: [], data: BigInt64Array.of(7n) });
    expect(stored.ints).toEqual({ type: 'int64', shape: [2], data: BigInt64Array.of(7n, 8n) });
  });

  it('counts what nested graphs read as inputs of the node that carries them', () => {
    const flow = indexFlow(normalizeModel(branchingModel()));
    const node = flow.nodes.find(({ proto }) => proto.opType === 'If')!;
    expect(node.inputs).toEqual([node.proto.input[0], 'c0', 'limit']);
    expect(flow.consumers.get('c0')!.map(({ proto }) => proto.opType)).toEqual(['Conv', 'If']);
  });

  it('keeps the local functions that are used', () => {
    const model = functionModel();
    const [used] = model.functions;
    model.functions.push({ ...used!, name: 'Unused' });
    expect(normalizeModel(model).functions.map(({ name }) => name)).toEqual(['SquareSigmoid']);
  });

  it('tells flow from constants', () => {
    const model = build((graph) => {
      const x = graph.input('x', 'float32', [2]);
      const two = graph.node('Exp', [graph.constant('one', float32Tensor([1, 1]))], {}, { output: 'two' });
      graph.output(graph.node('Add', [x, two], {}, { output: 'y' }), 'float32');
    });
    const flow = indexFlow(normalizeModel(model));
    expect([...flow.flowTensors]).toEqual(['x', 'y']);
  });

  it.each([
    [
      'a circle',
      (graph: GraphBuilder) => {
        const x = graph.input('x', 'float32', [1]);
        graph.node('Add', [x, 'b'], {}, { output: 'a', name: 'first' });
        graph.output(graph.node('Exp', ['a'], {}, { output: 'b' }), 'float32');
      },
      /circle/,
    ],
    [
      'a tensor nothing makes',
      (graph: GraphBuilder) => graph.output(graph.node('Exp', ['ghost'], {}, { name: 'n1' }), 'float32'),
      /Exp node "n1" needs ghost/,
    ],
    [
      'an output nothing makes',
      (graph: GraphBuilder) => {
        graph.node('Exp', [graph.input('x', 'float32', [1])]);
        graph.output('ghost', 'float32');
      },
      /ghost/,
    ],
    ['no outputs', (graph: GraphBuilder) => graph.input('x', 'float32', [1]), /no outputs/],
  ])('refuses %s', (_, fill, message) => {
    expect(() => normalizeModel(build(fill))).toThrow(
      expect.objectContaining({ code: 'model/invalid', message: expect.stringMatching(message) }),
    );
  });

  it('refuses a tensor that two nodes make', () => {
    const model = build((graph) => {
      const x = graph.input('x', 'float32', [1]);
      graph.node('Exp', [x], {}, { output: 'a' });
      graph.output(graph.node('Log', [x], {}, { output: 'b' }), 'float32');
    });
    model.graph!.node[1]!.output = ['a'];
    expect(() => normalizeModel(model)).toThrow(expect.objectContaining({ code: 'model/invalid' }));
  });
});
