import { clearField, create } from '@bufbuild/protobuf';
import { IsthmusError } from '@isthmus/core';
import { nestedGraphs } from './attributes.js';
import { nodeInputs } from './flow.js';
import {
  AttributeProto_AttributeType as A,
  type FunctionProto,
  GraphProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  type TensorProto,
  TensorProto_DataType,
  TensorProtoSchema,
} from './onnx_pb.js';
import { isExternal } from './tensors.js';

/**
 * The same model in the form that the other stages expect:
 *
 * - the graph's inputs are only what changes from run to run, initializers listed among them are not;
 * - `Constant` nodes are initializers;
 * - nodes are topologically sorted, have distinct names, and all lead to an output;
 * - initializers and local functions that nothing uses are gone, and so are declared intermediate shapes,
 *   comments and metadata.
 *
 * A node with nested graphs (If, Loop, Scan) stays one node. Weights are shared with `model`, which is not
 * changed.
 *
 * @throws IsthmusError `model/invalid` if a name is defined twice or not at all, or nodes form a circle;
 * `model/unsupported` for inputs that are not tensors and models whose weights are still in other files.
 */
export function normalizeModel(model: ModelProto): ModelProto {
  const graph = model.graph;
  if (graph === undefined) throw invalid('The model holds no graph.');
  const { nodes: withoutConstants, constants } = extractConstants(graph.node);
  const initializers = [...graph.initializer, ...constants];
  const external = initializers.find(isExternal);
  if (external !== undefined) {
    throw new IsthmusError(
      'model/unsupported',
      `The weights of ${external.name} are in another file. Read the model with readModel and readExternal.`,
    );
  }

  const stored = new Set<string>();
  for (const name of [...initializers.map(({ name }) => name), ...graph.sparseInitializer.map(sparseName)]) {
    if (stored.has(name)) throw invalid(`Two initializers are called ${name}.`);
    stored.add(name);
  }
  const inputs = graph.input.filter(({ name }) => !stored.has(name));
  for (const input of inputs) {
    if (input.type?.value.case !== 'tensorType') {
      throw new IsthmusError('model/unsupported', `The model's input ${input.name} is not a tensor.`);
    }
  }
  const available = new Set([...stored, ...inputs.map(({ name }) => name)]);
  const outputs = graph.output.filter(
    ({ name }, index) => graph.output.findIndex((other) => other.name === name) === index,
  );
  if (outputs.length === 0) throw invalid('The graph has no outputs.');

  const sorted = sortNodes(withoutConstants, available);
  const wanted = new Set(outputs.map(({ name }) => name));
  const nodes: NodeProto[] = [];
  for (const node of sorted.toReversed()) {
    if (!node.output.some((name) => wanted.has(name))) continue;
    nodes.unshift(node);
    for (const name of nodeInputs(node)) wanted.add(name);
  }
  const made = new Set([...available, ...nodes.flatMap((node) => node.output)]);
  for (const { name } of outputs) {
    if (!made.has(name)) throw invalid(`Nothing makes the graph's output ${name}.`);
  }

  return create(ModelProtoSchema, {
    // Before IR version 4 every initializer had to be an input too.
    irVersion: model.irVersion < 4n ? 4n : model.irVersion,
    opsetImport: model.opsetImport,
    functions: usedFunctions(model, nodes),
    graph: create(GraphProtoSchema, {
      name: graph.name === '' ? 'graph' : graph.name,
      node: nameNodes(nodes),
      initializer: initializers.filter(({ name }) => wanted.has(name)),
      sparseInitializer: graph.sparseInitializer.filter((sparse) => wanted.has(sparseName(sparse))),
      input: inputs,
      output: outputs,
    }),
  });
}

/** The name of a sparse initializer is that of its values. */
export function sparseName(sparse: { values?: TensorProto | undefined }): string {
  return sparse.values?.name ?? '';
}

/** A shallow copy of a node, with other fields. */
export function copyNode(
  node: NodeProto,
  changes: Partial<Pick<NodeProto, 'name' | 'input' | 'attribute'>>,
): NodeProto {
  const copy = create(NodeProtoSchema);
  Object.assign(copy, node, changes);
  clearField(copy, NodeProtoSchema.field.docString);
  return copy;
}

// A shallow copy of a tensor under another name.
function renameTensor(tensor: TensorProto, name: string): TensorProto {
  const copy = create(TensorProtoSchema);
  Object.assign(copy, tensor, { name });
  return copy;
}

function extractConstants(nodes: readonly NodeProto[]): { nodes: NodeProto[]; constants: TensorProto[] } {
  const constants: TensorProto[] = [];
  const rest = nodes.filter((node) => {
    const tensor = isOnnx(node) && node.opType === 'Constant' ? constantTensor(node) : undefined;
    if (tensor !== undefined) constants.push(tensor);
    return tensor === undefined;
  });
  return { nodes: rest, constants };
}

// String and sparse constants stay nodes: they are rare, and a node that needs nothing is as good.
function constantTensor(node: NodeProto): TensorProto | undefined {
  const attribute = node.attribute[0];
  const name = node.output[0];
  if (attribute === undefined || name === undefined) return undefined;
  const make = (
    init: Partial<Pick<TensorProto, 'dataType' | 'dims' | 'floatData' | 'int64Data'>>,
  ): TensorProto => create(TensorProtoSchema, { name, ...init });
  const { FLOAT, INT64 } = TensorProto_DataType;
  switch (attribute.type) {
    case A.TENSOR:
      return attribute.t === undefined ? undefined : renameTensor(attribute.t, name);
    case A.FLOAT:
      return make({ dataType: FLOAT, floatData: [attribute.f] });
    case A.INT:
      return make({ dataType: INT64, int64Data: [attribute.i] });
    case A.FLOATS:
      return make({ dataType: FLOAT, dims: [BigInt(attribute.floats.length)], floatData: attribute.floats });
    case A.INTS:
      return make({ dataType: INT64, dims: [BigInt(attribute.ints.length)], int64Data: attribute.ints });
    default:
      return undefined;
  }
}

// Keeps the given order wherever it is already topological.
function sortNodes(nodes: readonly NodeProto[], available: ReadonlySet<string>): NodeProto[] {
  const makers = new Map<string, number>();
  nodes.forEach((node, index) => {
    for (const name of node.output) {
      if (name === '') continue;
      if (makers.has(name) || available.has(name)) {
        throw invalid(`${describeNode(node)} makes ${name}, which exists already.`);
      }
      makers.set(name, index);
    }
  });
  const inputs = nodes.map((node) => nodeInputs(node));
  const sorted: NodeProto[] = [];
  const state = new Uint8Array(nodes.length); // 0 new, 1 waiting for its inputs, 2 done
  for (let root = 0; root < nodes.length; root++) {
    const stack = [root];
    while (stack.length > 0) {
      const index = stack.at(-1)!;
      if (state[index] === 2) {
        stack.pop();
        continue;
      }
      const missing: number[] = [];
      for (const name of inputs[index]!) {
        const maker = makers.get(name);
        if (maker === undefined) {
          if (!available.has(name)) {
            throw invalid(`${describeNode(nodes[index]!)} needs ${name}, which nothing makes.`);
          }
        } else if (state[maker] !== 2) {
          if (maker === index || state[maker] === 1) {
            throw invalid(
              `${describeNode(nodes[maker]!)} needs its own output ${name}: the graph has a circle.`,
            );
          }
          missing.push(maker);
        }
      }
      state[index] = 1;
      if (missing.length === 0) {
        state[index] = 2;
        sorted.push(nodes[index]!);
        stack.pop();
      } else {
        // One at a time, so that everything marked as waiting is on the path and a circle is not imagined.
        stack.push(missing[0]!);
      }
    }
  }
  return sorted;
}

/** A node for messages, as in `Conv node "stem/conv"`. */
export function describeNode(node: NodeProto): string {
  const operator = isOnnx(node) ? node.opType : `${node.domain}.${node.opType}`;
  return `${operator} node "${node.name || node.output.find((name) => name !== '') || '(unnamed)'}"`;
}

/** Whether the node's operator is one of the standard set. */
export function isOnnx(node: NodeProto): boolean {
  return node.domain === '' || node.domain === 'ai.onnx';
}

function nameNodes(nodes: readonly NodeProto[]): NodeProto[] {
  const taken = new Set<string>();
  return nodes.map((node) => {
    const base = node.name || node.output.find((name) => name !== '') || node.opType;
    let name = base;
    for (let number = 1; taken.has(name); number++) name = `${base}_${number}`;
    taken.add(name);
    return copyNode(node, { name });
  });
}

function usedFunctions(model: ModelProto, nodes: readonly NodeProto[]): FunctionProto[] {
  const used = new Set<FunctionProto>();
  const visit = (node: NodeProto): void => {
    for (const graph of nestedGraphs(node)) graph.node.forEach(visit);
    for (const candidate of model.functions) {
      if (candidate.name !== node.opType || candidate.domain !== node.domain || used.has(candidate)) continue;
      used.add(candidate);
      candidate.node.forEach(visit);
    }
  };
  nodes.forEach(visit);
  return model.functions.filter((candidate) => used.has(candidate));
}

function invalid(message: string): IsthmusError {
  return new IsthmusError('model/invalid', message);
}
