import { createTensor, elementCount, float16ToFloat32, float32ToFloat16, type Tensor } from '@isthmus/core';
import {
  createGraphBuilder,
  float32Tensor,
  type ModelProto,
  type NodeProto,
  readTensor,
  tensorProto,
} from '@isthmus/graph';

// Of smaller ones a cast takes as much as it saves.
const leastElements = 256;
/** The largest of half precision. */
const largest = 65_504;

/** Whether a tensor is worth being stored in half precision, and can be. */
function isHalvable(tensor: Tensor): tensor is Tensor<'float32'> {
  return (
    tensor.type === 'float32' &&
    elementCount(tensor.shape) >= leastElements &&
    (tensor.data as Float32Array).every((value) => Math.abs(value) <= largest)
  );
}

/** A weight as it will be when it was stored in half precision. */
export function asHalf(tensor: Tensor<'float32'>): Tensor<'float32'> {
  if (!isHalvable(tensor)) return tensor;
  return float32Tensor(float16ToFloat32(float32ToFloat16(tensor.data)), tensor.shape);
}

/** Stores a model's large weights in half precision, to be cast to single when it is loaded. Changes the model. */
export function storeHalves(model: ModelProto, isWeight: (name: string) => boolean): ModelProto {
  const { graph } = model;
  if (graph === undefined) return model;
  const casts: typeof graph.node = [];
  graph.initializer = graph.initializer.map((proto) => {
    if (!isWeight(proto.name)) return proto;
    const tensor = readTensor(proto);
    if (!isHalvable(tensor)) return proto;
    const stored = `${proto.name}/half`;
    casts.push(...castNodes(stored, proto.name));
    return tensorProto(stored, createTensor('float16', tensor.shape, float32ToFloat16(tensor.data)));
  });
  graph.node.unshift(...casts);
  return model;
}

function castNodes(from: string, to: string): NodeProto[] {
  const builder = createGraphBuilder({ name: 'cast', opset: 17 });
  builder.input(from, 'float16', [1]);
  builder.node('Cast', [from], { to: 1 }, { output: to });
  builder.output(to, 'float32', [1]);
  return builder.build().graph?.node ?? [];
}
