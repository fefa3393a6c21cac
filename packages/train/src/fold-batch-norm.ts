import type { Tensor } from '@isthmus/core';
import {
  float32Tensor,
  fromOnnxType,
  type ModelProto,
  type NodeProto,
  normalizeModel,
  readTensor,
  type TensorProto,
  tensorProto,
} from '@isthmus/graph';
import { readAttributes } from './attributes.js';

/**
 * The same model with every batch normalization that directly follows a convolution folded into that convolution's
 * weights and bias, computed in float64. What is used elsewhere as well, and what is no constant, stays as it is.
 *
 * @example
 * ```ts
 * const model = foldBatchNorms(draft.build([logits], stateTensors(trainer.state, 'average')));
 * await writeFile('model.onnx', writeModel(model));
 * ```
 */
export function foldBatchNorms(model: ModelProto): ModelProto {
  const normalized = normalizeModel(model);
  const { graph } = normalized;
  if (graph === undefined) return normalized;
  const constants = new Map(graph.initializer.map((proto) => [proto.name, proto]));
  const numUses = new Map<string, number>();
  for (const name of [...graph.node.flatMap(({ input }) => input), ...graph.output.map(({ name }) => name)]) {
    numUses.set(name, (numUses.get(name) ?? 0) + 1);
  }
  const makers = new Map(graph.node.map((node) => [node.output[0] ?? '', node]));
  const folded = new Set<NodeProto>();
  for (const norm of graph.node) {
    const conv = makers.get(norm.input[0] ?? '');
    if (conv === undefined || numUses.get(norm.input[0] ?? '') !== 1) continue;
    const found = fold(conv, norm, constants);
    if (found === undefined) continue;
    const [weightName, biasName] = [`${norm.name}/weight`, `${norm.name}/bias`];
    graph.initializer.push(tensorProto(weightName, found.weight), tensorProto(biasName, found.bias));
    conv.input = [conv.input[0] ?? '', weightName, biasName];
    conv.output = [norm.output[0] ?? ''];
    folded.add(norm);
  }
  graph.node = graph.node.filter((node) => !folded.has(node));
  return normalizeModel(normalized);
}

interface Folded {
  weight: Tensor<'float32'>;
  bias: Tensor<'float32'>;
}

// Undefined where the two nodes are not what can be folded.
function fold(
  conv: NodeProto,
  norm: NodeProto,
  constants: ReadonlyMap<string, TensorProto>,
): Folded | undefined {
  const hasKind = conv.opType === 'Conv' && norm.opType === 'BatchNormalization';
  if (!hasKind || [conv, norm].some(({ domain }) => domain !== '' && domain !== 'ai.onnx')) return undefined;
  const attributes = readAttributes(norm);
  if (attributes.int('training_mode', 0) !== 0) return undefined;
  const [weight, scale, shift, mean, variance] = [conv.input[1], ...norm.input.slice(1)].map((name) =>
    floats(constants.get(name ?? '')),
  );
  const biasName = conv.input[2] ?? '';
  const bias = biasName === '' ? undefined : floats(constants.get(biasName));
  if (weight === undefined || scale === undefined || shift === undefined) return undefined;
  if (mean === undefined || variance === undefined || (biasName !== '' && bias === undefined))
    return undefined;
  const epsilon = attributes.float('epsilon', Math.fround(1e-5));
  const slopes = Float64Array.from(
    variance.data,
    (value, channel) => (scale.data[channel] ?? 0) / Math.sqrt(value + epsilon),
  );
  const perChannel = weight.data.length / slopes.length;
  const weights = Float32Array.from(
    weight.data,
    (value, index) => value * (slopes[Math.floor(index / perChannel)] ?? 0),
  );
  const biases = Float32Array.from(
    slopes,
    (slope, channel) =>
      ((bias?.data[channel] ?? 0) - (mean.data[channel] ?? 0)) * slope + (shift.data[channel] ?? 0),
  );
  return { weight: float32Tensor(weights, weight.shape), bias: float32Tensor(biases) };
}

function floats(proto: TensorProto | undefined): Tensor<'float32'> | undefined {
  if (proto === undefined || fromOnnxType(proto.dataType) !== 'float32') return undefined;
  return readTensor(proto) as Tensor<'float32'>;
}
