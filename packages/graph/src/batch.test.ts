import type { Runtime } from '@isthmus/core';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openBatch } from './batch.js';
import { createGraphBuilder, type GraphBuilder } from './build.js';
import { type FlowGraph, indexFlow } from './flow.js';
import { relativeDifference, seededFrame, stackFrames } from './frames.js';
import { normalizeModel } from './normalize.js';
import { runForTensors } from './observe.js';
import type { ModelProto } from './onnx_pb.js';
import { inferShapes, resolveInputShapes, type TensorInfos } from './shapes.js';
import { float32Tensor, int64Tensor } from './tensors.js';
import { unetModel, weights } from './testing/models.js';
import { batchMixingModel } from './testing/odd-models.js';

let runtime: Runtime;
beforeAll(() => {
  runtime = createNodeRuntime({ threads: 1 });
});
afterAll(() => runtime.close());

function analyse(model: ModelProto): { flow: FlowGraph; infos: TensorInfos } {
  const flow = indexFlow(normalizeModel(model));
  return { flow, infos: inferShapes(flow, resolveInputShapes(flow.model.graph!.input)) };
}

function build(fill: (graph: GraphBuilder) => void): ModelProto {
  const graph = createGraphBuilder({ name: 'batch', opset: 17 });
  fill(graph);
  return graph.build();
}

/** Self-attention with four heads, exported for a batch of one: every Reshape names that one. */
function attentionModel(): ModelProto {
  return build((graph) => {
    const x = graph.input('x', 'float32', [1, 6, 16]);
    const toHeads = graph.constant('toHeads', int64Tensor([1, 6, 4, 4]));
    const fromHeads = graph.constant('fromHeads', int64Tensor([1, -1, 16]));
    const heads = (name: string, perm: number[]): string => {
      const projected = graph.node('MatMul', [
        x,
        graph.constant(name, weights([16, 16], name.charCodeAt(0))),
      ]);
      return graph.node('Transpose', [graph.node('Reshape', [projected, toHeads])], { perm });
    };
    const scores = graph.node('MatMul', [heads('q', [0, 2, 1, 3]), heads('k', [0, 2, 3, 1])]);
    const mixed = graph.node('MatMul', [
      graph.node('Softmax', [scores], { axis: -1 }),
      heads('v', [0, 2, 1, 3]),
    ]);
    const joined = graph.node('Reshape', [
      graph.node('Transpose', [mixed], { perm: [0, 2, 1, 3] }),
      fromHeads,
    ]);
    graph.output(graph.node('Add', [joined, x], {}, { output: 'y' }), 'float32', [1, 6, 16]);
  });
}

describe('openBatch', () => {
  it.each([
    ['attention', attentionModel(), 'y'],
    ['a U-Net with Resize to sizes', unetModel(), 'probability'],
  ])('makes %s take three frames, each as if alone', async (_, model, output) => {
    const { flow, infos } = analyse(model);
    const open = await openBatch(flow, infos, [...flow.inputNames, output], runtime);
    expect(open?.batched).toEqual(new Set([...flow.inputNames, output]));
    const inputs = new Map(flow.inputNames.map((name) => [name, infos.get(name)!]));
    const frames = [7, 8, 9].map((seed) => seededFrame(inputs, seed));
    const input = flow.inputNames[0]!;
    const all = { [input]: stackFrames(frames.map((frame) => frame[input]!)) };
    const alone = await runForTensors(flow.model, runtime, [output], frames);
    const [together] = await runForTensors(open!.flow.model, runtime, [output], [all]);
    const expected = stackFrames(alone.map((outputs) => outputs[output]!));
    expect(relativeDifference(expected, together![output]!)).toBeLessThan(1e-5);
  });

  it('leaves alone what does not depend on the frame', async () => {
    const { flow, infos } = analyse(
      build((graph) => {
        const x = graph.input('x', 'float32', ['n', 3]);
        const size = graph.input('size', 'float32', [2]);
        graph.output(graph.node('ReduceMax', [size], { keepdims: 0 }, { output: 'limit' }), 'float32', []);
        graph.output(graph.node('Mul', [x, 'limit'], {}, { output: 'y' }), 'float32', ['n', 3]);
      }),
    );
    const open = await openBatch(flow, infos, ['x', 'size', 'limit', 'y'], runtime);
    expect(open?.batched).toEqual(new Set(['x', 'y']));
  });

  it.each([
    ['frames influence each other', batchMixingModel(), 'c1'],
    [
      'a constant is joined to the frame along another axis',
      build((graph) => {
        const x = graph.input('x', 'float32', [1, 2, 3]);
        const token = graph.constant('token', float32Tensor([1, 2, 3], [1, 1, 3]));
        graph.output(graph.node('Concat', [token, x], { axis: 1 }, { output: 'y' }), 'float32');
      }),
      'y',
    ],
    [
      'the batch is moved away from the first axis',
      build((graph) => {
        const x = graph.input('x', 'float32', [1, 4]);
        graph.output(graph.node('Transpose', [x], { perm: [1, 0] }, { output: 'y' }), 'float32', [4, 1]);
      }),
      'y',
    ],
    [
      'the first axis is not the batch',
      build((graph) => {
        graph.output(
          graph.node('Exp', [graph.input('x', 'float32', [3])], {}, { output: 'y' }),
          'float32',
          [3],
        );
      }),
      'y',
    ],
  ])('declines where %s', async (_, model, output) => {
    const { flow, infos } = analyse(model);
    expect(await openBatch(flow, infos, [...flow.inputNames, output], runtime)).toBeUndefined();
  });
});
