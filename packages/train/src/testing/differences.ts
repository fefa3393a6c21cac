import { elementCount, type NamedTensors } from '@isthmus/core';
import { float32Tensor } from '@isthmus/graph';
import { expect } from 'vitest';
import { Draft } from '../draft.js';
import { addGradients } from '../gradients.js';
import { seededRandom, uniformValues } from './random.js';
import { loadModel } from './run.js';

export interface CheckedInput {
  shape: readonly number[];
  /** @default uniform from −1 to 1 */
  values?: readonly number[] | Float32Array;
}

export interface DifferenceOptions {
  /** Step of the differences. Larger is more exact for what is linear. @default 0.02 */
  step?: number;
  /** Of the largest difference. @default 0.001 */
  tolerance?: number;
  opset?: number;
  /** Values of parameters that the draft adds, where those that it starts from will not do. */
  parameters?: Readonly<Record<string, readonly number[]>>;
}

/**
 * Holds the gradients that the rules give of Σ weight · output (with random weights) to differences of the outputs,
 * element by element of every input and parameter. The differences are of fourth order and summed up in float64; what is left of
 * float32 is its rounding of the outputs.
 */
export async function expectGradients(
  inputs: Readonly<Record<string, CheckedInput>>,
  build: (draft: Draft) => string | readonly string[],
  options: DifferenceOptions = {},
): Promise<void> {
  const { step = 0.02, tolerance = 1e-3 } = options;
  const draft = new Draft(options.opset === undefined ? {} : { opset: options.opset });
  const random = seededRandom(Object.keys(inputs).length);
  const given = Object.fromEntries(
    Object.entries(inputs).map(([name, { shape, values }]) => {
      draft.input(name, 'float32', shape);
      return [name, float32Tensor(values ?? uniformValues(elementCount(shape), random), shape)];
    }),
  );
  const built = build(draft);
  const outputs = typeof built === 'string' ? [built] : built;
  const trained = draft.parameters.map(({ name, tensor }) => {
    const values = options.parameters?.[name] ?? tensor.data;
    return [name, float32Tensor(values, tensor.shape)];
  });
  const feeds: NamedTensors = { ...given, ...Object.fromEntries(trained) };
  const weights = new Map(
    outputs.map((name) => [name, uniformValues(elementCount(draft.shapeOf(name)), random)]),
  );
  const parts = outputs.map((name) => {
    const weight = draft.constant(float32Tensor(weights.get(name) ?? [], draft.shapeOf(name)));
    return draft.node('ReduceSum', [draft.node('Mul', [name, weight])], { keepdims: 0 });
  });
  const loss = parts.length === 1 ? (parts[0] ?? '') : draft.node('Sum', parts);
  const gradients = addGradients(draft, { loss, of: Object.keys(feeds) });
  const forward = await loadModel(draft.build(outputs));
  const backward = await loadModel(draft.build([...new Set(gradients.values())]));
  const found = await backward(feeds);
  const lossOf = async (): Promise<number> => {
    const results = await forward(feeds);
    let sum = 0;
    for (const [name, weight] of weights) {
      results[name]?.forEach((value, index) => {
        sum += value * (weight[index] ?? 0);
      });
    }
    return sum;
  };
  let steepest = 0;
  for (const [name, tensor] of Object.entries(feeds)) {
    const data = tensor.data as Float32Array;
    const differences: number[] = [];
    for (const [index, original] of data.entries()) {
      const at = async (offset: number): Promise<number> => {
        data[index] = original + offset;
        const value = await lossOf();
        data[index] = original;
        return value;
      };
      const near = (await at(step)) - (await at(-step));
      const far = (await at(2 * step)) - (await at(-2 * step));
      differences.push((8 * near - far) / (12 * step));
    }
    const gradient = found[gradients.get(name) ?? ''] ?? new Float32Array();
    expect(draft.shapeOf(gradients.get(name) ?? '')).toEqual(tensor.shape);
    expect(gradient.length).toBe(data.length);
    const largest = Math.max(...differences.map(Math.abs));
    steepest = Math.max(steepest, largest);
    differences.forEach((difference, index) => {
      const error = Math.abs(difference - (gradient[index] ?? Number.NaN));
      expect(error, `${name}[${index}]: ${gradient[index]}, by differences ${difference}`).toBeLessThan(
        tolerance * largest + 1e-5,
      );
    });
  }
  // Gradients that are zero everywhere would be no test.
  expect(steepest).toBeGreaterThan(1e-2);
}
