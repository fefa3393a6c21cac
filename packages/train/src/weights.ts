import { elementCount } from '@isthmus/core';
import { type NodeProto, type TensorProto, tensorShape } from '@isthmus/graph';

// Inputs of operators that are weights. What an operator takes besides, such as the limits of a Clip, the scales of a
// Resize or the statistics of a normalization, is part of what it does.
const weightInputs: ReadonlyMap<string, readonly number[]> = new Map([
  ['Conv', [1, 2]],
  ['ConvTranspose', [1, 2]],
  ['Gemm', [0, 1, 2]],
  ['MatMul', [0, 1]],
  ['PRelu', [1]],
  ...['BatchNormalization', 'LayerNormalization', 'GroupNormalization', 'InstanceNormalization'].map(
    (operator): [string, number[]] => [operator, [1, 2]],
  ),
]);

// Biases and scales where a model spells them out.
const elementwise: ReadonlySet<string> = new Set(['Add', 'Sub', 'Mul', 'Div']);

/**
 * The initializers that are weights: those that are only used where an operator takes weights. A single number that
 * something is multiplied with or that is added is not one.
 */
export function findWeights(
  nodes: readonly NodeProto[],
  initializers: readonly TensorProto[],
): ReadonlySet<string> {
  const single = new Set(
    initializers.filter((proto) => elementCount(tensorShape(proto)) === 1).map(({ name }) => name),
  );
  const used = new Set<string>();
  const refused = new Set<string>();
  for (const { opType, input } of nodes) {
    input.forEach((name, index) => {
      const isWeight = elementwise.has(opType)
        ? !single.has(name)
        : (weightInputs.get(opType)?.includes(index) ?? false);
      (isWeight ? used : refused).add(name);
    });
  }
  const names = initializers.map(({ name }) => name);
  return new Set(names.filter((name) => used.has(name) && !refused.has(name)));
}
