import { createTensor, isIsthmusError, type Tensor } from '@isthmus/core';
import { describe, expect, it } from 'vitest';
import { checkReference, findRecipe, type ReferenceFigures, recipes, referenceInput } from './index.js';

describe('recipes', () => {
  it.each(recipes.map((recipe) => [recipe.name, recipe] as const))('%s is complete', (name, recipe) => {
    expect(findRecipe(name)).toBe(recipe);
    // As the manifest of a bundle demands.
    expect(name).toMatch(/^[a-z0-9][a-z0-9._-]{0,99}$/);
    expect(recipe.package.integrity).toMatch(/^sha512-[A-Za-z0-9+/]{86}==$/);
    expect(recipe.package.version).toMatch(/^\d+\.\d+\.\d+$/);
    expect(new Set(recipe.files).size).toBe(recipe.files.length);
    expect(recipe.reference.first8).toHaveLength(8);
    expect(recipe.reference.top5).toHaveLength(5);
    const { preprocess } = recipe;
    expect(referenceInput(preprocess).shape).toEqual([1, 3, preprocess.height, preprocess.width]);
  });

  it('say which file a package lacks', () => {
    for (const recipe of recipes) {
      expect(() => recipe.convert(new Map())).toThrow(/does not hold (example|ResNet50)\//);
    }
  });

  it('are listed when another is asked for', () => {
    try {
      findRecipe('yolo-v9');
      throw new Error('It was found.');
    } catch (error) {
      expect(isIsthmusError(error, 'pull/unknown-model')).toBe(true);
      expect(String(error)).toContain('mobilenet-v1, resnet-50, tiny-yolo-v2');
    }
  });
});

describe('referenceInput', () => {
  it('follows its formula, NCHW, in the colour order of the model', () => {
    const shared = { width: 60, height: 50, fit: 'fill', mean: [1, 2, 3], std: [2, 4, 8] } as const;
    const plane = 60 * 50;
    const at = (channel: number, row: number, column: number) => channel * plane + row * 60 + column;
    const mean: [number, number, number] = [...shared.mean];
    const std: [number, number, number] = [...shared.std];
    const rgb = referenceInput({ ...shared, mean, std, colorOrder: 'rgb' }).data;
    const [red, green, blue] = [(7 * 49 + 3 * 59) % 256, (2 * 49 + 5 * 59) % 256, (49 * 59) % 256];
    expect(rgb[at(0, 49, 59)]).toBe((red - 1) / 2);
    expect(rgb[at(1, 49, 59)]).toBe((green - 2) / 4);
    expect(rgb[at(2, 49, 59)]).toBe((blue - 3) / 8);
    const bgr = referenceInput({ ...shared, mean, std, colorOrder: 'bgr' }).data;
    expect(bgr[at(0, 49, 59)]).toBe((blue - 1) / 2);
    expect(bgr[at(2, 49, 59)]).toBe((red - 3) / 8);
  });
});

describe('checkReference', () => {
  const values = [0.1, 0.2, -0.3, 4, 5, 6, 7, 8, 9, 10];
  const figures: ReferenceFigures = {
    output: 'y',
    shape: [1, 10],
    first8: [0.1, 0.2, -0.3, 4, 5, 6, 7, 8],
    top5: [
      { index: 9, value: 10 },
      { index: 8, value: 9 },
      { index: 7, value: 8 },
      { index: 6, value: 7 },
      { index: 5, value: 6 },
    ],
    sum: 49,
    min: -0.3,
  };
  const tensor = (data: readonly number[]): Tensor =>
    createTensor('float32', [1, 10], Float32Array.from(data));
  const problem = (output: Tensor | undefined): string => {
    try {
      checkReference(figures, output);
    } catch (error) {
      if (isIsthmusError(error, 'model/verify-failed')) return error.message;
      throw error;
    }
    return '';
  };

  it('accepts the right answer and what rounding makes of it', () => {
    expect(problem(tensor(values))).toBe('');
    expect(problem(tensor(values.map((value) => value * 1.0005)))).toBe('');
  });

  it('names what differs', () => {
    expect(problem(tensor(values.with(1, 0.21)))).toContain('element 1 should be 0.2');
    expect(problem(tensor(values.with(8, 10.5)))).toContain('number 1 should be at 9 but is at 8');
    expect(problem(tensor(values.with(8, 9.5)))).toContain('the sum');
    expect(problem(tensor(values.with(3, Number.NaN)))).toContain('element 3');
    expect(problem(undefined)).toContain('is missing');
    expect(problem({ ...tensor(values), shape: [10] })).toContain('[10]');
  });
});
