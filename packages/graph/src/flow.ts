import { nestedGraphs } from './attributes.js';
import type { GraphProto, ModelProto, NodeProto, TensorProto } from './onnx_pb.js';

/** A node with its place in the graph. */
export interface FlowNode {
  /** Position in {@link FlowGraph.nodes}. */
  index: number;
  proto: NodeProto;
  /** Distinct names of everything the node reads, outer tensors that its nested graphs capture included. */
  inputs: string[];
  outputs: string[];
  /** Whether the node depends on a graph input; the others compute constants. */
  isFlow: boolean;
}

/** Who makes and who reads every tensor of a normalized model. */
export interface FlowGraph {
  model: ModelProto;
  /** In topological order. */
  nodes: FlowNode[];
  inputNames: string[];
  outputNames: string[];
  initializers: ReadonlyMap<string, TensorProto>;
  /** The node that makes a tensor; absent for graph inputs and initializers. */
  producers: ReadonlyMap<string, FlowNode>;
  consumers: ReadonlyMap<string, readonly FlowNode[]>;
  /** Tensors that depend on a graph input: the inputs themselves and the outputs of flow nodes. */
  flowTensors: ReadonlySet<string>;
}

/** Indexes a model that {@link normalizeModel} returned. */
export function indexFlow(model: ModelProto): FlowGraph {
  const graph = model.graph!;
  const inputNames = graph.input.map(({ name }) => name);
  const flowTensors = new Set(inputNames);
  const producers = new Map<string, FlowNode>();
  const consumers = new Map<string, FlowNode[]>();
  const nodes = graph.node.map((proto, index): FlowNode => {
    const inputs = nodeInputs(proto);
    const node: FlowNode = {
      index,
      proto,
      inputs,
      outputs: proto.output.filter((name) => name !== ''),
      isFlow: inputs.some((name) => flowTensors.has(name)),
    };
    for (const name of inputs) consumers.set(name, [...(consumers.get(name) ?? []), node]);
    for (const name of node.outputs) {
      producers.set(name, node);
      if (node.isFlow) flowTensors.add(name);
    }
    return node;
  });
  return {
    model,
    nodes,
    inputNames,
    outputNames: graph.output.map(({ name }) => name),
    initializers: new Map(graph.initializer.map((tensor) => [tensor.name, tensor])),
    producers,
    consumers,
    flowTensors,
  };
}

/** Distinct names of everything a node reads, outer tensors that its nested graphs capture included. */
export function nodeInputs(node: NodeProto): string[] {
  const names = new Set(node.input.filter((name) => name !== ''));
  for (const graph of nestedGraphs(node)) for (const name of captures(graph)) names.add(name);
  return [...names];
}

// Names that a nested graph uses and does not define.
function captures(graph: GraphProto): Set<string> {
  const defined = new Set([
    ...graph.input.map(({ name }) => name),
    ...graph.initializer.map(({ name }) => name),
    ...graph.sparseInitializer.map(({ values }) => values?.name ?? ''),
    ...graph.node.flatMap((node) => node.output),
  ]);
  const used = [...graph.node.flatMap(nodeInputs), ...graph.output.map(({ name }) => name)];
  return new Set(used.filter((name) => !defined.has(name)));
}
