import { create } from '@bufbuild/protobuf';
import { createGraphBuilder, valueInfo } from '../build.js';
import {
  FunctionProtoSchema,
  type ModelProto,
  NodeProtoSchema,
  SparseTensorProtoSchema,
} from '../onnx_pb.js';
import { float32Tensor, int64Tensor, tensorProto } from '../tensors.js';
import { conv, weights } from './models.js';

/** Residual blocks; the first block's result is an output too, long before the end. */
export function earlyOutputModel(): ModelProto {
  const graph = createGraphBuilder({ name: 'early', opset: 15 });
  let x = conv(graph, graph.input('image', 'float32', [1, 3, 16, 16]), 'stem', { from: 3, channels: 8 });
  for (const block of ['res0', 'res1', 'res2', 'res3']) {
    const inner = conv(graph, x, `${block}.a`, { from: 8, channels: 8 });
    const outer = conv(graph, inner, `${block}.b`, { from: 8, channels: 8, relu: false });
    x = graph.node('Relu', [graph.node('Add', [outer, x])], {}, { output: block });
  }
  graph.output('res0', 'float32', [1, 8, 16, 16]);
  graph.output(graph.node('ReduceMean', [x], { axes: [2, 3], keepdims: 0 }, { output: 'mean' }), 'float32');
  return graph.build();
}

/** Operator set 9: Upsample with scales as an input, Squeeze, Slice and Pad with attributes, a Constant node. */
export function opset9Model(): ModelProto {
  const graph = createGraphBuilder({ name: 'opset9', opset: 9 });
  let x = conv(graph, graph.input('image', 'float32', ['n', 3, 16, 16]), 'stem', {
    from: 3,
    channels: 8,
    stride: 2,
  });
  x = graph.node('Pad', [x], { pads: [0, 0, 1, 1, 0, 0, 1, 1], mode: 'reflect' }, { output: 'padded' });
  x = graph.node('Slice', [x], { axes: [2, 3], starts: [1, -9], ends: [9, 9] }, { output: 'sliced' });
  const scales = graph.node('Constant', [], { value: float32Tensor([1, 1, 2, 2]) }, { output: 'scales' });
  x = graph.node('Upsample', [x, scales], { mode: 'nearest' }, { output: 'large' });
  x = conv(graph, x, 'after', { from: 8, channels: 4 });
  x = graph.node('GlobalMaxPool', [x], {}, { output: 'pooled' });
  x = graph.node('Squeeze', [x], { axes: [2, 3] }, { output: 'features' });
  graph.output(x, 'float32', ['n', 4]);
  return graph.build();
}

/** As PyTorch exports `x.view(x.size(0), -1)`: the target of Reshape is computed from the input's shape. */
export function shapeChainModel(): ModelProto {
  const graph = createGraphBuilder({ name: 'shapes', opset: 13 });
  const input = graph.input('image', 'float32', ['batch', 3, 'height', 'width']);
  let x = conv(graph, input, 'c0', { from: 3, channels: 8, stride: 2 });
  x = conv(graph, x, 'c1', { from: 8, channels: 8 });
  const zero = graph.constant('zero', int64Tensor([0]));
  const minusOne = graph.constant('minusOne', int64Tensor([-1]));
  const size = graph.node('Gather', [graph.node('Shape', [input]), zero], { axis: 0 }, { output: 'size' });
  const target = graph.node('Concat', [size, minusOne], { axis: 0 }, { output: 'target' });
  x = conv(graph, x, 'c2', { from: 8, channels: 4, stride: 2 });
  x = graph.node('Reshape', [x, target], {}, { output: 'flat' });
  const w = graph.constant('w', weights([5, 64], 3));
  graph.output(graph.node('Gemm', [x, w], { transB: 1 }, { output: 'y' }), 'float32', ['batch', 5]);
  return graph.build();
}

/** One weight used at both ends of the model, directly at one and transposed by a node at the other. */
export function sharedWeightsModel(): ModelProto {
  const graph = createGraphBuilder({ name: 'tied', opset: 17 });
  let x = graph.input('x', 'float32', ['n', 32]);
  const tied = graph.constant('tied', weights([32, 32], 1));
  x = graph.node('MatMul', [x, tied], {}, { output: 'first' });
  for (const name of ['a', 'b', 'c']) {
    x = graph.node('MatMul', [x, graph.constant(`w.${name}`, weights([32, 32], name.charCodeAt(0)))]);
    x = graph.node('Tanh', [x], {}, { output: name });
  }
  const transposed = graph.node('Transpose', [tied], { perm: [1, 0] }, { output: 'tied.T' });
  graph.output(graph.node('MatMul', [x, transposed], {}, { output: 'last' }), 'float32', ['n', 32]);
  return graph.build();
}

/** Float16 in the middle, with int64 class indices beside it to the end. */
export function mixedTypesModel(): ModelProto {
  const graph = createGraphBuilder({ name: 'types', opset: 17 });
  let x = conv(graph, graph.input('image', 'float32', [1, 3, 8, 8]), 'stem', { from: 3, channels: 4 });
  const best = graph.node('ArgMax', [x], { axis: 1, keepdims: 1 }, { output: 'best' });
  x = graph.node('Cast', [x], { to: 10 }, { output: 'half' });
  x = graph.node('Cast', [graph.node('Sqrt', [x], {}, { output: 'root' })], { to: 1 }, { output: 'full' });
  x = conv(graph, x, 'late', { from: 4, channels: 4 });
  const index = graph.node('Cast', [best], { to: 1 }, { output: 'index' });
  graph.output(graph.node('Add', [x, index], {}, { output: 'sum' }), 'float32', [1, 4, 8, 8]);
  graph.output('best', 'int64', [1, 1, 8, 8]);
  return graph.build();
}

/** Every initializer is an input too, as IR version 3 wanted; nodes are nameless and in the wrong order; one is
 * dead. */
export function oldStyleModel(): ModelProto {
  const graph = createGraphBuilder({ name: 'old', opset: 9 });
  const x = conv(graph, graph.input('image', 'float32', [1, 3, 8, 8]), 'c0', { from: 3, channels: 4 });
  graph.node('Exp', [x], {}, { output: 'unused' });
  graph.output(conv(graph, x, 'c1', { from: 4, channels: 2 }), 'float32', [1, 2, 8, 8]);
  const model = graph.build();
  model.irVersion = 3n;
  for (const { name, dims } of model.graph!.initializer) {
    model.graph!.input.push(valueInfo(name, 'float32', dims.map(Number)));
  }
  model.graph!.node.reverse();
  for (const node of model.graph!.node) node.name = '';
  return model;
}

/** An If whose branches read tensors of the outer graph, behind a condition computed from the frame. */
export function branchingModel(): ModelProto {
  const graph = createGraphBuilder({ name: 'if', opset: 17 });
  const x = conv(graph, graph.input('image', 'float32', [1, 3, 8, 8]), 'c0', { from: 3, channels: 4 });
  const y = conv(graph, x, 'c1', { from: 4, channels: 4 });
  const mean = graph.node('ReduceMean', [y], { keepdims: 0 });
  const limit = graph.constant('limit', { type: 'float32', shape: [], data: Float32Array.of(0.1) });
  const branch = (name: string, opType: string) => {
    const nested = createGraphBuilder({ name, opset: 17 });
    nested.output(nested.node(opType, [x, limit], {}, { output: `${name}.y` }), 'float32', [1, 4, 8, 8]);
    return nested.buildGraph();
  };
  const chosen = graph.node(
    'If',
    [graph.node('Greater', [mean, limit])],
    { then_branch: branch('then', 'Add'), else_branch: branch('else', 'Mul') },
    { output: 'chosen' },
  );
  graph.output(conv(graph, chosen, 'c2', { from: 4, channels: 2 }), 'float32', [1, 2, 8, 8]);
  return graph.build();
}

/** A local function, and a sparse initializer. */
export function functionModel(): ModelProto {
  const graph = createGraphBuilder({ name: 'function', opset: 17 });
  let x = graph.input('x', 'float32', ['n', 16]);
  for (const name of ['a', 'b', 'c', 'd']) {
    x = graph.node('MatMul', [x, graph.constant(`w.${name}`, weights([16, 16], name.charCodeAt(0)))]);
    x = graph.node('SquareSigmoid', [x], {}, { output: name, domain: 'example' });
  }
  graph.output(graph.node('Add', [x, 'sparse'], {}, { output: 'y' }), 'float32', ['n', 16]);
  const model = graph.build();
  model.functions.push(
    create(FunctionProtoSchema, {
      name: 'SquareSigmoid',
      domain: 'example',
      input: ['x'],
      output: ['y'],
      opsetImport: [{ domain: '', version: 17n }],
      node: [
        create(NodeProtoSchema, { opType: 'Mul', input: ['x', 'x'], output: ['square'] }),
        create(NodeProtoSchema, { opType: 'Sigmoid', input: ['square'], output: ['y'] }),
      ],
    }),
  );
  model.graph!.sparseInitializer.push(
    create(SparseTensorProtoSchema, {
      dims: [16n],
      values: tensorProto('sparse', float32Tensor([0.5, -0.5])),
      indices: tensorProto('', int64Tensor([2, 11])),
    }),
  );
  return model;
}

/** The frames of a batch are mixed: each is centred by the mean over all. */
export function batchMixingModel(): ModelProto {
  const graph = createGraphBuilder({ name: 'mixing', opset: 17 });
  let x = conv(graph, graph.input('image', 'float32', ['n', 3, 8, 8]), 'c0', { from: 3, channels: 4 });
  const shift = graph.node('ReduceMax', [x], { axes: [0, 1, 2, 3], keepdims: 1 });
  x = graph.node('Sub', [x, shift], {}, { output: 'centred' });
  graph.output(conv(graph, x, 'c1', { from: 4, channels: 2 }), 'float32', ['n', 2, 8, 8]);
  return graph.build();
}

/** The number of results depends on what is in the frame. */
export function dataDependentModel(): ModelProto {
  const graph = createGraphBuilder({ name: 'nonzero', opset: 17 });
  const x = conv(graph, graph.input('image', 'float32', [1, 3, 8, 8]), 'c0', { from: 3, channels: 4 });
  graph.output(graph.node('NonZero', [x], {}, { output: 'where', name: 'select' }), 'int64');
  return graph.build();
}

/** A sequence and a string tensor inside, which can be in no cut. */
export function unsendableModel(): ModelProto {
  const graph = createGraphBuilder({ name: 'sequence', opset: 17 });
  let x = conv(graph, graph.input('image', 'float32', [1, 4, 8, 8]), 'c0', { from: 4, channels: 4 });
  const half = graph.constant('half', int64Tensor([2, 2]));
  const pieces = graph.node('SplitToSequence', [x, half], { axis: 1 }, { output: 'pieces' });
  x = graph.node('ConcatFromSequence', [pieces], { axis: 1 }, { output: 'joined' });
  const text = graph.node('Cast', [x], { to: 8 }, { output: 'text' });
  x = graph.node('Cast', [text], { to: 1 }, { output: 'numbers' });
  graph.output(conv(graph, x, 'c1', { from: 4, channels: 2 }), 'float32', [1, 2, 8, 8]);
  return graph.build();
}
