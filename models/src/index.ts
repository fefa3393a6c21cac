import { IsthmusError } from '@isthmus/core';
import { mobilenetV1 } from './mobilenet-v1.js';
import type { ModelRecipe } from './recipe.js';
import { resnet50 } from './resnet-50.js';
import { tinyYoloV2 } from './tiny-yolo-v2.js';

export type { ModelRecipe, PackageFiles, PackageSource } from './recipe.js';
export { checkReference, type ReferenceFigures, referenceInput } from './reference.js';

/** Every base model that `isthmus pull` knows by name. */
export const recipes: readonly ModelRecipe[] = [mobilenetV1, resnet50, tinyYoloV2];

/**
 * The recipe of that name.
 *
 * @throws IsthmusError `pull/unknown-model`, with the names there are.
 */
export function findRecipe(name: string): ModelRecipe {
  const recipe = recipes.find((candidate) => candidate.name === name);
  if (recipe === undefined) {
    const known = recipes.map((candidate) => candidate.name);
    throw new IsthmusError(
      'pull/unknown-model',
      `There is no base model called ${name}. Known are ${known.join(', ')}; anything else can be given as ` +
        'file:PATH or https://URL together with its sha256.',
      { details: { name, known } },
    );
  }
  return recipe;
}
