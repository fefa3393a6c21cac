import type { AttributeProto, GraphProto, NodeProto } from './onnx_pb.js';

/** An attribute by name; undefined if the node does not have it. */
export function findAttribute(node: NodeProto, name: string): AttributeProto | undefined {
  return node.attribute.find((attribute) => attribute.name === name);
}

export function intAttribute(node: NodeProto, name: string): number | undefined {
  const attribute = findAttribute(node, name);
  return attribute === undefined ? undefined : Number(attribute.i);
}

export function intsAttribute(node: NodeProto, name: string): number[] | undefined {
  return findAttribute(node, name)?.ints.map(Number);
}

export function stringAttribute(node: NodeProto, name: string): string | undefined {
  const attribute = findAttribute(node, name);
  return attribute === undefined ? undefined : new TextDecoder().decode(attribute.s);
}

/** The graphs a node carries: the branches of an If, the body of a Loop or Scan. */
export function nestedGraphs(node: NodeProto): GraphProto[] {
  return node.attribute.flatMap((attribute) =>
    attribute.g === undefined ? attribute.graphs : [attribute.g, ...attribute.graphs],
  );
}
