import { create } from '@bufbuild/protobuf';
import { elementCount, type Runtime } from '@isthmus/core';
import { nestedGraphs } from './attributes.js';
import { type FlowGraph, indexFlow } from './flow.js';
import { seededFrame } from './frames.js';
import { isOnnx, normalizeModel } from './normalize.js';
import { runForTensors } from './observe.js';
import { GraphProtoSchema, ModelProtoSchema, type NodeProto, type TensorProto } from './onnx_pb.js';
import { slicedShape } from './shape-rules.js';
import { completeShapes, type TensorInfos } from './shapes.js';
import { fromOnnxType, int64Tensor, tensorProto, tensorShape } from './tensors.js';

// Shapes, axes, pads and scales are short. Longer things (a transposed weight, a grid of anchors) stay computed,
// by nodes that depend on no input, rather than be stored a second time.
const longestFolded = 64;

/**
 * Replaces what depends on the shapes of tensors, and not on what they hold, by constants: `Shape` and `Size` of
 * tensors whose shape is known, and the arithmetic behind them. Exporters write such chains in front of
 * Reshape and Resize; left in, they would tie far apart places of the graph together, and every cut between
 * those would have to carry them.
 *
 * @param infos Completed with what folding makes known.
 * @returns `flow` itself if there is nothing to fold.
 *
 * @throws IsthmusError the runtime's, which computes the arithmetic.
 */
export async function foldShapes(flow: FlowGraph, infos: TensorInfos, runtime: Runtime): Promise<FlowGraph> {
  const shapeNodes = flow.nodes.filter(
    ({ proto, isFlow }) =>
      isFlow &&
      isOnnx(proto) &&
      (proto.opType === 'Shape' || proto.opType === 'Size') &&
      infos.get(proto.input[0]!)?.shape !== undefined,
  );
  const constants = shapeNodes.map(({ proto }) => {
    const shape = infos.get(proto.input[0]!)!.shape!;
    const tensor =
      proto.opType === 'Shape'
        ? int64Tensor(slicedShape(proto, shape))
        : { ...int64Tensor([elementCount(shape)]), shape: [] };
    return tensorProto(proto.output[0]!, tensor);
  });
  const withoutShapes = replaceNodes(flow, new Set(shapeNodes.map(({ proto }) => proto)), constants, infos);
  return foldSmall(withoutShapes, infos, runtime);
}

// Runs the arithmetic once, for the results that flow nodes read.
async function foldSmall(flow: FlowGraph, infos: TensorInfos, runtime: Runtime): Promise<FlowGraph> {
  const random = new Set<string>();
  const wanted = new Set<NodeProto>();
  for (const { proto, inputs, outputs, isFlow } of flow.nodes) {
    if (isFlow) continue;
    if (isRandom(proto) || inputs.some((name) => random.has(name)))
      for (const name of outputs) random.add(name);
    const name = outputs[0]!;
    const isRead = flow.consumers.get(name)?.some((consumer) => consumer.isFlow) === true;
    if (isRead && outputs.length === 1 && !random.has(name) && isFoldable(infos, name)) wanted.add(proto);
  }
  if (wanted.size === 0) return flow;
  const inputs = new Map(flow.inputNames.map((name) => [name, infos.get(name)!]));
  const names = [...wanted].map((node) => node.output[0]!);
  const [values] = await runForTensors(flow.model, runtime, names, [seededFrame(inputs, 1)]);
  const small = new Set([...wanted].filter((node) => values![node.output[0]!]!.data.length <= longestFolded));
  const constants = [...small].map(({ output }) => tensorProto(output[0]!, values![output[0]!]!));
  return replaceNodes(flow, small, constants, infos);
}

function isFoldable(infos: TensorInfos, name: string): boolean {
  const info = infos.get(name);
  return (
    typeof info?.elementType === 'number' &&
    fromOnnxType(info.elementType) !== undefined &&
    (info.shape === undefined || elementCount(info.shape) <= longestFolded)
  );
}

function replaceNodes(
  flow: FlowGraph,
  replaced: ReadonlySet<NodeProto>,
  constants: readonly TensorProto[],
  infos: TensorInfos,
): FlowGraph {
  if (replaced.size === 0) return flow;
  for (const tensor of constants) {
    infos.set(tensor.name, { elementType: tensor.dataType, shape: tensorShape(tensor) });
  }
  const graph = flow.model.graph!;
  // Normalizing once more drops what led only to the replaced nodes.
  const model = normalizeModel(
    Object.assign(create(ModelProtoSchema), flow.model, {
      graph: Object.assign(create(GraphProtoSchema), graph, {
        node: graph.node.filter((node) => !replaced.has(node)),
        initializer: [...graph.initializer, ...constants],
      }),
    }),
  );
  const result = indexFlow(model);
  completeShapes(result, infos);
  return result;
}

function isRandom(node: NodeProto): boolean {
  return (
    /^(Random|Multinomial|Bernoulli)/.test(node.opType) ||
    nestedGraphs(node).some((graph) => graph.node.some(isRandom))
  );
}
