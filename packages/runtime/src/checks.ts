import {
  createTensor,
  IsthmusError,
  isIsthmusError,
  type NamedTensors,
  type Tensor,
  type TensorType,
  tensorTypes,
} from '@isthmus/core';
import { asBitPatterns, type OrtValue, type ValueInfo } from './ort-values.js';

/**
 * Refuses feeds that do not fit the model, before anything is copied or handed to native code.
 *
 * @throws IsthmusError `runtime/run-failed` naming the input, what it takes and what it was given.
 */
export function checkFeeds(inputs: readonly ValueInfo[], feeds: NamedTensors): void {
  for (const name of Object.keys(feeds)) {
    if (!inputs.some((input) => input.name === name)) {
      throw feedError(`The model has no input "${name}"; it takes ${listNames(inputs)}.`, name);
    }
  }
  for (const input of inputs) {
    const tensor = Object.hasOwn(feeds, input.name) ? feeds[input.name] : undefined;
    if (tensor === undefined) {
      throw feedError(
        `The input "${input.name}" is missing; the model takes ${listNames(inputs)}.`,
        input.name,
      );
    }
    checkFeed(input, tensor);
  }
}

function checkFeed(input: ValueInfo, tensor: Tensor): void {
  try {
    createTensor(tensor.type, tensor.shape, tensor.data);
  } catch (cause) {
    const reason = isIsthmusError(cause) ? cause.message : 'It is not a tensor.';
    throw feedError(`The input "${input.name}" is malformed. ${reason}`, input.name, cause);
  }
  // An empty declared shape means a scalar or "any"; only ONNX Runtime knows which.
  const declared = input.shape ?? [];
  const fits =
    declared.length === 0 ||
    (declared.length === tensor.shape.length &&
      declared.every((size, axis) => typeof size === 'string' || size === tensor.shape[axis]));
  if (tensor.type !== input.type || !fits) {
    throw feedError(
      `The input "${input.name}" takes ${input.type ?? 'something that is not a tensor'}[${declared.join(', ')}], ` +
        `not ${tensor.type}[${tensor.shape.join(', ')}].`,
      input.name,
    );
  }
}

/**
 * The wanted outputs: all if not said.
 *
 * @throws IsthmusError `runtime/run-failed` for a name the model does not have.
 */
export function checkFetches(
  outputNames: readonly string[],
  fetches: readonly string[] | undefined,
): readonly string[] {
  for (const name of fetches ?? []) {
    if (!outputNames.includes(name)) {
      throw new IsthmusError(
        'runtime/run-failed',
        `The model has no output "${name}"; it gives ${outputNames.map((output) => `"${output}"`).join(', ')}.`,
        { details: { output: name } },
      );
    }
  }
  return fetches ?? outputNames;
}

/**
 * What ONNX Runtime gave as Isthmus tensors; shares the data.
 *
 * @throws IsthmusError `runtime/run-failed` for an output whose type cannot cross a cut (strings, doubles).
 */
export function toNamedTensors(outputs: Readonly<Record<string, OrtValue>>): NamedTensors {
  return Object.fromEntries(
    Object.entries(outputs).map(([name, { type, dims, data }]) => {
      if (!(tensorTypes as readonly string[]).includes(type)) {
        throw new IsthmusError(
          'runtime/run-failed',
          `The output "${name}" is of type ${type}; Isthmus carries ${tensorTypes.join(', ')}.`,
          { details: { output: name, type } },
        );
      }
      return [name, createTensor(type as TensorType, dims, asBitPatterns(type, data) as Tensor['data'])];
    }),
  );
}

function listNames(inputs: readonly ValueInfo[]): string {
  return inputs.map((input) => `"${input.name}"`).join(', ') || 'none';
}

function feedError(message: string, input: string, cause?: unknown): IsthmusError {
  return new IsthmusError('runtime/run-failed', message, { cause, details: { input } });
}
