import { join } from 'node:path';
import { type Runtime, sha256Hex } from '@isthmus/core';
import { writeModel } from '@isthmus/graph';
import { checkReference, type ModelRecipe, referenceInput } from '@isthmus/models';
import { readCached, writeCached } from './cache.js';
import { userCacheDir } from './disk.js';
import { fetchPackage } from './fetch-package.js';
import { type PulledModel, type PullOptions, pulled, reporter, throwIfCancelled } from './pull-options.js';
import { unpackFiles } from './unpack.js';

// No recipe unpacks to more; what does is not the package that was pinned.
const maxUnpackedBytes = 1_073_741_824;

/** Pulls a base model by its recipe; see pullModel for what can go wrong. */
export async function pullRecipe(recipe: ModelRecipe, options: PullOptions): Promise<PulledModel> {
  const cacheDir = options.cacheDir ?? userCacheDir();
  const folder = join(cacheDir, 'models', `${recipe.name}-r${recipe.revision}`);
  const cached = await readCached(folder);
  if (cached !== undefined) return pulled(cached, true);

  const { package: from } = recipe;
  const report = reporter(options);
  const path = await fetchPackage(from, cacheDir, options, report);
  report('convert');
  const files = await unpackFiles(path, recipe.files, maxUnpackedBytes);
  const bytes = writeModel(recipe.convert(files));
  report('verify');
  await verify(recipe, bytes, options.runtime);
  throwIfCancelled(options.signal);
  report('store');
  const stored = await writeCached(folder, bytes, {
    format: 'isthmus-model',
    version: 1,
    name: recipe.name,
    provenance: {
      source: `${from.name}@${from.version}`,
      licence: recipe.licence,
      sha256: await sha256Hex(bytes),
      url: `npm:${from.name}@${from.version}`,
      integrity: from.integrity,
      convertedAt: (options.now?.() ?? new Date()).toISOString(),
    },
    preprocess: recipe.preprocess,
    task: recipe.readTask(files),
  });
  return pulled(stored, false);
}

async function verify(recipe: ModelRecipe, bytes: Uint8Array, runtime: Runtime): Promise<void> {
  const session = await runtime.load(bytes);
  try {
    const [input] = session.inputNames;
    const { outputs } = await session.run({ [input ?? '']: referenceInput(recipe.preprocess) });
    checkReference(recipe.reference, outputs[recipe.reference.output]);
  } finally {
    await session.release();
  }
}
