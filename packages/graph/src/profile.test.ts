import { describe, expect, it } from 'vitest';
import { createGraphBuilder } from './build.js';
import { findCuts } from './cuts.js';
import { indexFlow } from './flow.js';
import { divide } from './fragments.js';
import { normalizeModel } from './normalize.js';
import type { ModelProto } from './onnx_pb.js';
import { profileSegments } from './profile.js';
import { inferShapes, resolveInputShapes } from './shapes.js';
import { weights } from './testing/models.js';

function profile(model: ModelProto, cutTensor?: string): ReturnType<typeof profileSegments> {
  const flow = indexFlow(normalizeModel(model));
  const infos = inferShapes(flow, resolveInputShapes(flow.model.graph!.input));
  const cuts = findCuts(flow, infos).filter((cut) => cut.tensors.join() === cutTensor);
  return profileSegments(flow, infos, divide(flow, cuts), cuts);
}

describe('profileSegments', () => {
  it('counts a convolution, a matrix product and a Gemm exactly', () => {
    const graph = createGraphBuilder({ name: 'flops', opset: 17 });
    const x = graph.input('x', 'float32', [1, 4, 10, 12]);
    const w = graph.constant('w', weights([6, 2, 3, 5], 1));
    const b = graph.constant('b', weights([6], 2));
    const y = graph.node('Conv', [x, w, b], { group: 2, strides: [1, 2] }, { output: 'conv' });
    const flat = graph.node('Flatten', [y], {}, { output: 'flat' });
    const m = graph.node(
      'MatMul',
      [flat, graph.constant('m', weights([192, 7], 3))],
      {},
      { output: 'product' },
    );
    const g = graph.constant('g', weights([5, 7], 4));
    graph.output(graph.node('Gemm', [m, g], { transB: 1 }, { output: 'gemm' }), 'float32');
    const [first, second] = profile(graph.build(), 'product');
    // The convolution gives 6 × 8 × 4 values, each of 2 × 3 × 5 products, and a bias.
    expect(first!.flops).toBe(192 * (2 * 30 + 1) + 2 * 192 * 7);
    expect(second!.flops).toBe(2 * 7 * 5);
    expect(first!.parameters).toBe(180 + 6 + 192 * 7);
    expect(first!.weightBytes).toBe(4 * (180 + 6 + 192 * 7));
    expect(first!.activationBytes).toBe(4 * (192 + 192 + 7));
    expect(second).toMatchObject({ parameters: 35, activationBytes: 20, peakActivationBytes: 4 * (7 + 5) });
  });

  it('finds the largest sum of tensors alive at once', () => {
    const graph = createGraphBuilder({ name: 'peak', opset: 17 });
    const x = graph.input('x', 'float32', [1, 100]);
    const kept = graph.node('Exp', [x], {}, { output: 'kept' });
    const wide = graph.node('Concat', [kept, kept, kept], { axis: 1 }, { output: 'wide' });
    const sum = graph.node('ReduceSum', [wide], {}, { output: 'sum' });
    graph.output(graph.node('Add', [sum, kept], {}, { output: 'y' }), 'float32');
    // While Concat runs: kept (100) and wide (300), x is gone. ReduceSum adds one.
    expect(profile(graph.build())[0]!.peakActivationBytes).toBe(4 * 401);
  });
});
