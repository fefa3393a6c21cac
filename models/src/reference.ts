import { createTensor, IsthmusError, type Preprocess, type Tensor } from '@isthmus/core';

/** Figures that tell a right conversion from a wrong one, in six significant digits. */
export interface ReferenceFigures {
  output: string;
  shape: readonly number[];
  first8: readonly number[];
  /** The largest values, largest first. */
  top5: readonly { index: number; value: number }[];
  sum: number;
  min: number;
}

/**
 * A picture made by formula, preprocessed: red, green and blue of the pixel in row r, column c are
 * (7r + 3c) mod 256, (2r + 5c) mod 256 and (r·c) mod 256.
 *
 * @returns float32 [1, 3, height, width]
 */
export function referenceInput(preprocess: Preprocess): Tensor<'float32'> {
  const { width, height, colorOrder, mean, std } = preprocess;
  const data = new Float32Array(3 * height * width);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const rgb = [7 * row + 3 * column, 2 * row + 5 * column, row * column];
      for (const channel of [0, 1, 2] as const) {
        const value = rgb[colorOrder === 'rgb' ? channel : 2 - channel]! % 256;
        data[(channel * height + row) * width + column] = (value - mean[channel]) / std[channel];
      }
    }
  }
  return createTensor('float32', [1, 3, height, width], data);
}

/**
 * Compares a model's answer to {@link referenceInput} with the recorded figures. Different processors round
 * differently, so values may be 0.1 % off, and those near zero by 10⁻⁴ of the first eight's root mean square.
 *
 * @throws IsthmusError `model/verify-failed` with everything that differs.
 */
export function checkReference(figures: ReferenceFigures, output: Tensor | undefined): void {
  const problems: string[] = [];
  if (output?.type !== 'float32' || `${output.shape}` !== `${figures.shape}`) {
    const actual = output === undefined ? 'missing' : `${output.type} [${output.shape}]`;
    problems.push(`it should be float32 [${figures.shape}] but is ${actual}`);
  } else {
    const data = output.data as Float32Array;
    const scale = Math.sqrt(figures.first8.reduce((sum, value) => sum + value ** 2, 0) / 8);
    const compare = (what: string, expected: number, actual: number): void => {
      // Written so that a NaN is a difference too.
      if (!(Math.abs(actual - expected) <= 1e-3 * Math.abs(expected) + 1e-4 * scale)) {
        problems.push(`${what} should be ${expected} but is ${actual}`);
      }
    };
    figures.first8.forEach((value, index) => {
      compare(`element ${index}`, value, data[index]!);
    });
    largest(data, figures.top5.length).forEach((index, rank) => {
      const { index: expected, value } = figures.top5[rank]!;
      if (index !== expected) problems.push(`number ${rank + 1} should be at ${expected} but is at ${index}`);
      compare(`element ${expected}`, value, data[expected]!);
    });
    let [sum, min] = [0, Number.POSITIVE_INFINITY];
    for (const value of data) {
      sum += value;
      min = Math.min(min, value);
    }
    compare('the sum', figures.sum, sum);
    compare('the smallest', figures.min, min);
  }
  if (problems.length > 0) {
    throw new IsthmusError(
      'model/verify-failed',
      `The converted model answers differently than it should: in ${figures.output}, ${problems.join('; ')}.`,
      { details: { output: figures.output, problems } },
    );
  }
}

function largest(data: Float32Array, count: number): number[] {
  return Array.from(data.keys())
    .sort((a, b) => data[b]! - data[a]!)
    .slice(0, count);
}
