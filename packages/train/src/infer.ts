import { elementCount, type Tensor, type TensorType } from '@isthmus/core';
import {
  type AttributeValue,
  createGraphBuilder,
  fromOnnxType,
  indexFlow,
  inferShapes,
  type NodeProto,
} from '@isthmus/graph';

/** What a draft knows of a tensor. */
export interface KnownTensor {
  readonly type: TensorType;
  /** Undefined if it depends on data. */
  readonly shape: readonly number[] | undefined;
  /** The value, where it is constant. */
  readonly constant?: Tensor;
}

export interface NodeSpec {
  opset: number;
  opType: string;
  domain: string;
  inputs: readonly { name: string; tensor: KnownTensor | undefined }[];
  outputs: readonly string[];
  attributes?: Readonly<Record<string, AttributeValue>>;
  /** Attributes as another node has them, in place of `attributes`. */
  protos?: NodeProto['attribute'];
}

// Constants longer than this are weights; no shape depends on their values.
const longestShapeConstant = 4096;

/** The node, and what is known of its outputs: by way of a graph that holds nothing else. */
export function inferNode(spec: NodeSpec): { node: NodeProto; outputs: (KnownTensor | undefined)[] } {
  const builder = createGraphBuilder({ name: 'node', opset: spec.opset });
  const shapes = new Map<string, readonly number[]>();
  const seen = new Set<string>();
  let isKnown = true;
  for (const { name, tensor } of spec.inputs) {
    if (tensor === undefined || seen.has(name)) continue;
    seen.add(name);
    if (tensor.constant !== undefined && elementCount(tensor.constant.shape) <= longestShapeConstant) {
      builder.constant(name, tensor.constant);
    } else if (tensor.shape !== undefined) {
      builder.input(name, tensor.type, tensor.shape);
      shapes.set(name, tensor.shape);
    } else {
      isKnown = false;
    }
  }
  const inputNames = spec.inputs.map(({ name }) => name);
  builder.multiNode(spec.opType, inputNames, spec.outputs, spec.attributes, { domain: spec.domain });
  const model = builder.build();
  const node = model.graph?.node[0];
  if (node === undefined) throw new TypeError('A graph builder lost its node.');
  if (spec.protos !== undefined) node.attribute = spec.protos;
  const infos = isKnown ? inferShapes(indexFlow(model), shapes) : undefined;
  const firstType = spec.inputs.find(({ tensor }) => tensor !== undefined)?.tensor?.type ?? 'float32';
  const outputs = spec.outputs.map((name): KnownTensor | undefined => {
    if (name === '') return undefined;
    const info = infos?.get(name);
    const type = typeof info?.elementType === 'number' ? fromOnnxType(info.elementType) : undefined;
    return { type: type ?? firstType, shape: info?.shape };
  });
  return { node, outputs };
}
