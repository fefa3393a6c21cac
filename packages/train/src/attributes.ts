import type { NodeProto } from '@isthmus/graph';

/** The attributes of a node, with the defaults that ONNX gives them. */
export interface Attributes {
  has(name: string): boolean;
  int(name: string, fallback: number): number;
  float(name: string, fallback: number): number;
  ints(name: string): number[] | undefined;
  text(name: string, fallback: string): string;
}

/** The attributes of a node. */
export function readAttributes(node: NodeProto): Attributes {
  const find = (name: string): NodeProto['attribute'][number] | undefined =>
    node.attribute.find((attribute) => attribute.name === name);
  return {
    has: (name) => find(name) !== undefined,
    int: (name, fallback) => Number(find(name)?.i ?? fallback),
    float: (name, fallback) => find(name)?.f ?? fallback,
    ints: (name) => find(name)?.ints.map(Number),
    text(name, fallback) {
      const attribute = find(name);
      return attribute === undefined ? fallback : new TextDecoder().decode(attribute.s);
    },
  };
}
