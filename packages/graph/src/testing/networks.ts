import { create } from '@bufbuild/protobuf';
import { type GraphProto, GraphProtoSchema, type ModelProto } from '../onnx_pb.js';

/** A model whose tensors are called otherwise: as `names` says, the rest with a prefix. */
export function renameTensors(
  model: ModelProto,
  names: Readonly<Record<string, string>>,
  prefix: string,
): ModelProto {
  const graph = model.graph!;
  const rename = (name: string): string => (name === '' ? '' : (names[name] ?? prefix + name));
  const renamed = <Value extends { name: string }>(values: readonly Value[]): Value[] =>
    values.map((value) => ({ ...value, name: rename(value.name) }));
  return {
    ...model,
    graph: create(GraphProtoSchema, {
      name: graph.name,
      node: graph.node.map((node) => ({
        ...node,
        name: prefix + node.name,
        input: node.input.map(rename),
        output: node.output.map(rename),
      })),
      initializer: renamed(graph.initializer),
      input: renamed(graph.input),
      output: renamed(graph.output),
    }),
  };
}

/** Two models as one, the first's outputs being the second's inputs; both of one operator set, no name twice. */
export function chainModels(first: ModelProto, second: ModelProto): ModelProto {
  const [a, b] = [first.graph!, second.graph!];
  const graph: GraphProto = {
    ...b,
    node: [...a.node, ...b.node],
    initializer: [...a.initializer, ...b.initializer],
    input: a.input,
  };
  return { ...second, graph };
}
