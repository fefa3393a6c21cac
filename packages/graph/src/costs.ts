import { elementCount, tensorBytes } from '@isthmus/core';
import { intAttribute, intsAttribute } from './attributes.js';
import type { FlowGraph, FlowNode } from './flow.js';
import { isOnnx } from './normalize.js';
import type { TensorInfo, TensorInfos } from './shapes.js';
import { fromOnnxType, storedBytes } from './tensors.js';

/**
 * Floating-point operations of a node for one frame; a multiply-add counts as two. Exact for convolutions and
 * matrix products (bias included), one per window element for pooling, one per element read or written, the
 * larger, for everything else. Operators that only rename or move data count nothing.
 */
export function nodeFlops(node: FlowNode, infos: TensorInfos): number {
  const { proto } = node;
  const shape = (name: string | undefined): readonly number[] => infos.get(name ?? '')?.shape ?? [];
  const output = elementCount(shape(proto.output[0]));
  const inputs = proto.input.map((name) => (name === '' ? 0 : elementCount(shape(name))));
  if (!isOnnx(proto)) return Math.max(output, ...inputs);
  switch (proto.opType) {
    case 'Conv':
    case 'ConvInteger':
    case 'QLinearConv': {
      const weights = shape(proto.input[proto.opType === 'QLinearConv' ? 3 : 1]);
      const hasBias = proto.opType === 'Conv' && (proto.input[2] ?? '') !== '';
      return output * (2 * elementCount(weights.slice(1)) + (hasBias ? 1 : 0));
    }
    case 'ConvTranspose': {
      const hasBias = (proto.input[2] ?? '') !== '';
      return 2 * inputs[0]! * elementCount(shape(proto.input[1]).slice(1)) + (hasBias ? output : 0);
    }
    case 'Gemm': {
      const a = shape(proto.input[0]);
      const inner = intAttribute(proto, 'transA') === 1 ? a[0] : a[1];
      return output * (2 * (inner ?? 1) + ((proto.input[2] ?? '') === '' ? 0 : 1));
    }
    case 'MatMul':
    case 'MatMulInteger':
    case 'QLinearMatMul':
      return 2 * output * (shape(proto.input[0]).at(-1) ?? 1);
    case 'MaxPool':
    case 'AveragePool':
    case 'LpPool':
      return output * elementCount(intsAttribute(proto, 'kernel_shape') ?? []);
    case 'Identity':
    case 'Reshape':
    case 'Flatten':
    case 'Squeeze':
    case 'Unsqueeze':
    case 'Dropout':
    case 'Shape':
    case 'Size':
    case 'Transpose':
    case 'Concat':
    case 'Slice':
    case 'Split':
    case 'Gather':
    case 'Expand':
    case 'DepthToSpace':
    case 'SpaceToDepth':
      return 0;
    default:
      return Math.max(output, inputs[0] ?? 0);
  }
}

/** Bytes of one frame of a tensor; 0 if its type or shape is not known. */
export function infoBytes(info: TensorInfo | undefined): number {
  const type = typeof info?.elementType === 'number' ? fromOnnxType(info.elementType) : undefined;
  return type === undefined || info?.shape === undefined ? 0 : tensorBytes(type, info.shape);
}

/** What every flow node adds to a prefix: operations, and the weights nobody before it needed. */
export interface NodeCost {
  flops: number;
  weightBytes: number;
}

/** Costs by node index. The work of nodes that compute constants counts for the first node that needs it. */
export function nodeCosts(flow: FlowGraph, infos: TensorInfos): NodeCost[] {
  const seen = new Set<string>();
  const costOf = (node: FlowNode): NodeCost => {
    const cost: NodeCost = { flops: nodeFlops(node, infos), weightBytes: 0 };
    for (const name of node.inputs) {
      if (seen.has(name) || flow.flowTensors.has(name)) continue;
      seen.add(name);
      const tensor = flow.initializers.get(name);
      if (tensor !== undefined) cost.weightBytes += storedBytes(tensor);
      const producer = flow.producers.get(name);
      if (producer === undefined) continue;
      const behind = costOf(producer);
      cost.flops += behind.flops;
      cost.weightBytes += behind.weightBytes;
    }
    return cost;
  };
  return flow.nodes.map((node) => (node.isFlow ? costOf(node) : { flops: 0, weightBytes: 0 }));
}
