import { findRecipe } from '@isthmus/models';
import { parseSource } from './locator.js';
import { pullFile } from './pull-file.js';
import type { PulledModel, PullOptions } from './pull-options.js';
import { pullRecipe } from './pull-recipe.js';

/**
 * Gets a model as ONNX: downloads it, checks its hash, converts it, verifies it, and keeps it in the cache, where
 * a second pull finds it. A cache entry is either whole or absent, whatever goes wrong; an interrupted download
 * goes on where it stopped, if the server can.
 *
 * @param source The name of a base model (`mobilenet-v1`), or `file:PATH` or `https://URL` of an .onnx or .tflite
 * file, or `file:PATH` of a TensorFlow.js layers model.json, with its `sha256`.
 * @throws IsthmusError `pull/unknown-model`, `pull/download-failed`, `pull/integrity`, `pull/disk`,
 * `model/verify-failed` if the model answers differently than it should, `model/…` if it cannot be read,
 * `usage/invalid` for a source without sha256, `request/cancelled`
 *
 * @example
 * ```ts
 * const runtime = createNodeRuntime();
 * const { modelPath, task } = await pullModel('mobilenet-v1', { runtime });
 * ```
 */
export async function pullModel(source: string, options: PullOptions): Promise<PulledModel> {
  const locator = parseSource(source, options.sha256);
  if (locator.kind !== 'recipe') return pullFile(locator, options);
  return pullRecipe(findRecipe(locator.name), options);
}
