import type { Tensor } from '@isthmus/core';
import { createGraphBuilder, type ModelProto, type NodeProto, normalizeModel } from '@isthmus/graph';
import type { KnownTensor } from './infer.js';

/** A graph as a draft holds it. */
export interface GraphParts {
  opset: number;
  /** Everything that the names stand for; constants are the model's initializers. */
  tensors: ReadonlyMap<string, KnownTensor>;
  inputs: readonly string[];
  /** Further initializers. */
  constants: ReadonlyMap<string, Tensor>;
  nodes: readonly NodeProto[];
  outputs: readonly ({ readonly name: string } & KnownTensor)[];
}

/** The model that computes the outputs, with only the nodes, constants and inputs that they need. */
export function buildModel({ opset, tensors, inputs, constants, nodes, outputs }: GraphParts): ModelProto {
  const builder = createGraphBuilder({ name: 'draft', opset });
  for (const name of inputs) {
    const { type = 'float32', shape = [] } = tensors.get(name) ?? {};
    builder.input(name, type, shape);
  }
  for (const [name, { constant }] of tensors) if (constant !== undefined) builder.constant(name, constant);
  for (const [name, tensor] of constants) builder.constant(name, tensor);
  for (const { opType, domain, input, output } of nodes)
    builder.multiNode(opType, input, output, {}, { domain });
  for (const { name, type, shape } of outputs) builder.output(name, type, shape);
  const model = builder.build();
  model.graph?.node.forEach((node, index) => {
    node.attribute = nodes[index]?.attribute ?? [];
  });
  const normalized = normalizeModel(model);
  // Inputs that the outputs do not need would have to be fed for nothing.
  const needed = new Set([
    ...(normalized.graph?.node.flatMap(({ input }) => input) ?? []),
    ...outputs.map(({ name }) => name),
  ]);
  if (normalized.graph !== undefined) {
    normalized.graph.input = normalized.graph.input.filter(({ name }) => needed.has(name));
  }
  return normalized;
}
