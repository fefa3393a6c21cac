import type { Runtime } from '@isthmus/core';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AttributeValue, createGraphBuilder, type GraphBuilder } from './build.js';
import { indexFlow } from './flow.js';
import { seededFrame } from './frames.js';
import { normalizeModel } from './normalize.js';
import { observeShapes, runForTensors } from './observe.js';
import { inferShapes, resolveInputShapes } from './shapes.js';
import { float32Tensor, int64Tensor, toOnnxType } from './tensors.js';
import { inceptionModel, unetModel, weights } from './testing/models.js';
import { mixedTypesModel, opset9Model, shapeChainModel, unsendableModel } from './testing/odd-models.js';

let runtime: Runtime;
beforeAll(() => {
  runtime = createNodeRuntime({ threads: 1 });
});
afterAll(() => runtime.close());

type Case = [opType: string, inputs: string[], attributes?: Record<string, AttributeValue>, outputs?: number];

// Nodes over x [1, 4, 9, 8], y [4, 9, 1], m [6, 8] and the constants below.
const cases: Case[] = [
  ['Conv', ['x', 'w'], { kernel_shape: [3, 3] }],
  ['Conv', ['x', 'w'], { auto_pad: 'SAME_UPPER', strides: [2, 3] }],
  ['Conv', ['x', 'w'], { auto_pad: 'VALID', dilations: [2, 2] }],
  ['Conv', ['x', 'depthwise'], { group: 4, pads: [1, 2, 0, 1] }],
  ['ConvTranspose', ['x', 'up'], { strides: [2, 2], pads: [1, 1, 1, 1], output_padding: [1, 0] }],
  ['ConvTranspose', ['x', 'up'], { strides: [2, 2], group: 2 }],
  ['MaxPool', ['x'], { kernel_shape: [3, 2], strides: [2, 2], pads: [1, 0, 1, 0] }, 2],
  ['AveragePool', ['x'], { kernel_shape: [2, 2], auto_pad: 'SAME_LOWER', strides: [2, 2] }],
  ['MaxPool', ['x'], { kernel_shape: [2, 2], strides: [2, 2], ceil_mode: 1 }],
  ['GlobalAveragePool', ['x']],
  ['Gemm', ['m', 'm'], { transB: 1 }],
  ['Gemm', ['m', 'm'], { transA: 1 }],
  ['MatMul', ['x', 'square']],
  ['MatMul', ['vector', 'square']],
  ['MatMul', ['m', 'vector']],
  ['Add', ['x', 'y']],
  ['Where', ['mask', 'x', 'y']],
  ['Less', ['x', 'y']],
  ['Reshape', ['x', 'target']],
  ['Reshape', ['m', 'flat']],
  ['Flatten', ['x'], { axis: 2 }],
  ['Flatten', ['x'], { axis: -1 }],
  ['Transpose', ['x'], { perm: [0, 2, 3, 1] }],
  ['Transpose', ['m']],
  ['Concat', ['x', 'x'], { axis: -3 }],
  ['Slice', ['x', 'starts', 'ends', 'axes']],
  ['Slice', ['x', 'starts', 'ends', 'axes', 'steps']],
  ['Slice', ['x', 'backFrom', 'backTo', 'axes', 'backSteps']],
  ['Split', ['x', 'parts'], { axis: 1 }, 2],
  ['Split', ['x'], { axis: 3, num_outputs: 3 }, 3],
  ['Squeeze', ['x', 'zero']],
  ['Squeeze', ['x']],
  ['Unsqueeze', ['m', 'axes']],
  ['Pad', ['x', 'pads']],
  ['Resize', ['x', '', 'scales'], { mode: 'linear' }],
  ['Resize', ['x', '', '', 'sizes'], { axes: [2, 3] }],
  ['ReduceMean', ['x', 'axes']],
  ['ReduceSum', ['x', 'axes'], { keepdims: 0 }],
  ['ReduceMax', ['x'], { keepdims: 0 }],
  ['ReduceMin', ['x'], { noop_with_empty_axes: 1 }],
  ['ArgMax', ['x'], { axis: 1, keepdims: 0 }],
  ['Gather', ['x', 'axes'], { axis: 2 }],
  ['GatherND', ['m', 'pairs']],
  ['GatherElements', ['m', 'pairs'], { axis: 1 }],
  ['Expand', ['y', 'wide']],
  ['Tile', ['m', 'axes']],
  ['TopK', ['x', 'three'], {}, 2],
  ['OneHot', ['axes', 'depth', 'onOff'], { axis: 0 }],
  ['DepthToSpace', ['x'], { blocksize: 2 }],
  ['SpaceToDepth', ['even'], { blocksize: 2 }],
  ['Softmax', ['x'], { axis: 1 }],
  ['LayerNormalization', ['x', 'eight'], {}],
  ['InstanceNormalization', ['x', 'four', 'four']],
  ['BatchNormalization', ['x', 'four', 'four', 'four', 'four']],
  ['PRelu', ['x', 'slope']],
  ['Cast', ['x'], { to: 10 }],
  ['Cast', ['x'], { to: 7 }],
  ['Shape', ['x'], { start: 1, end: -1 }],
  ['Size', ['x']],
  ['GridSample', ['x', 'grid']],
  ['HardSwish', ['x']],
  ['Dropout', ['x'], {}, 2],
  ['QuantizeLinear', ['x', 'step', 'offset']],
  ['DynamicQuantizeLinear', ['x'], {}, 3],
  ['NonZero', ['m']],
  ['Einsum', ['m', 'm'], { equation: 'ij,kj->ik' }],
  ['LSTM', ['sequence', 'lstmW', 'lstmR'], { hidden_size: 3 }, 3],
];

function addTensors(graph: GraphBuilder): void {
  graph.input('x', 'float32', [1, 4, 9, 8]);
  graph.input('y', 'float32', [4, 9, 1]);
  graph.input('m', 'float32', [6, 8]);
  graph.input('mask', 'bool', [9, 8]);
  graph.input('even', 'float32', [1, 2, 4, 6]);
  graph.input('grid', 'float32', [1, 5, 6, 2]);
  graph.input('sequence', 'float32', [7, 1, 4]);
  graph.constant('w', weights([5, 4, 3, 3], 1));
  graph.constant('depthwise', weights([4, 1, 3, 3], 2));
  graph.constant('up', weights([4, 3, 3, 3], 3));
  graph.constant('square', weights([8, 8], 4));
  graph.constant('vector', weights([8], 5));
  graph.constant('eight', weights([8], 6));
  graph.constant('four', float32Tensor([1, 2, 3, 4]));
  graph.constant('slope', float32Tensor([1, 2, 3, 4], [4, 1, 1]));
  graph.constant('lstmW', weights([1, 12, 4], 7));
  graph.constant('lstmR', weights([1, 12, 3], 8));
  graph.constant('scales', float32Tensor([1, 1, 1.7, 0.5]));
  graph.constant('step', float32Tensor([0.1], []));
  graph.constant('offset', { type: 'int8', shape: [], data: Int8Array.of(3) });
  graph.constant('onOff', float32Tensor([0, 1]));
  const lists: Record<string, number[]> = {
    target: [0, -1, 12],
    flat: [-1],
    starts: [1, -5],
    ends: [-1, 1000],
    axes: [2, 3],
    steps: [2, 3],
    backFrom: [-1, 5],
    backTo: [-1000, 1],
    backSteps: [-2, -1],
    parts: [1, 3],
    zero: [0],
    three: [3],
    pads: [0, 1, 2, -1, 0, 0, 3, 2],
    sizes: [5, 16],
    wide: [2, 1, 1, 3],
  };
  for (const [name, values] of Object.entries(lists)) graph.constant(name, int64Tensor(values));
  graph.constant('depth', { ...int64Tensor([5]), shape: [] });
  graph.constant('pairs', { ...int64Tensor([0, 1, 2, 3]), shape: [2, 2] });
}

describe('inferShapes', () => {
  it.each(cases)('%s(%j) %j agrees with ONNX Runtime', async (opType, inputs, attributes = {}, count = 1) => {
    const graph = createGraphBuilder({ name: 'one', opset: 18 });
    addTensors(graph);
    const outputs = Array.from({ length: count }, (_, index) => `out${index}`);
    graph.multiNode(opType, inputs, outputs, attributes);
    // Something must depend on an input for every case.
    for (const name of outputs) graph.output(name, 'float32');
    const model = graph.build();
    for (const output of model.graph!.output) delete output.type;
    const flow = indexFlow(normalizeModel(model));
    const infos = inferShapes(flow, resolveInputShapes(flow.model.graph!.input));
    const frame = seededFrame(new Map(flow.inputNames.map((name) => [name, infos.get(name)!])), 3);
    const [actual] = await runForTensors(flow.model, runtime, outputs, [frame]);
    const isLeftToTheRuntime = ['NonZero', 'Einsum', 'LSTM'].includes(opType) || attributes.ceil_mode === 1;
    for (const name of outputs) {
      const { type, shape } = actual![name]!;
      expect(infos.get(name)?.elementType).toBe(toOnnxType(type));
      expect(infos.get(name)?.shape).toEqual(isLeftToTheRuntime ? undefined : shape);
    }
  });

  it.each([
    ['inception', inceptionModel()],
    ['unet', unetModel()],
    ['opset 9', opset9Model()],
    ['types', mixedTypesModel()],
  ])('knows every tensor of %s without running it, and rightly', async (_, model) => {
    const flow = indexFlow(normalizeModel(model));
    const infos = inferShapes(flow, resolveInputShapes(flow.model.graph!.input));
    const names = flow.nodes.flatMap((node) => node.outputs);
    const frame = seededFrame(new Map(flow.inputNames.map((name) => [name, infos.get(name)!])), 3);
    const [actual] = await runForTensors(flow.model, runtime, names, [frame]);
    for (const name of names) expect([name, infos.get(name)?.shape]).toEqual([name, actual![name]!.shape]);
  });
});

describe('observeShapes', () => {
  it('runs the model for what does not follow from the graph', async () => {
    const flow = indexFlow(normalizeModel(shapeChainModel()));
    const infos = inferShapes(flow, resolveInputShapes(flow.model.graph!.input, { image: [1, 3, 16, 16] }));
    expect(infos.get('flat')?.shape).toBeUndefined();
    await observeShapes(flow, infos, runtime);
    expect(infos.get('flat')?.shape).toEqual([1, 64]);
    expect(infos.get('y')?.shape).toEqual([1, 5]);
  });

  it('leaves sequences, strings and data-dependent shapes unknown, and finds what is behind them', async () => {
    const flow = indexFlow(normalizeModel(unsendableModel()));
    const infos = inferShapes(flow, resolveInputShapes(flow.model.graph!.input));
    await observeShapes(flow, infos, runtime);
    expect(infos.get('pieces')).toEqual({ elementType: 'none', shape: undefined });
    expect(infos.get('joined')?.shape).toEqual([1, 4, 8, 8]);
    expect(infos.get('c1')?.shape).toEqual([1, 2, 8, 8]);
  });
});
