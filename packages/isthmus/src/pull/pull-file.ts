import { readFile, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { IsthmusError, sha256Hex } from '@isthmus/core';
import { importTfjsLayers, importTflite, listTfjsFiles, readModel, writeModel } from '@isthmus/graph';
import { readCached, writeCached } from './cache.js';
import { onDisk, userCacheDir } from './disk.js';
import { download } from './download.js';
import type { Locator, ModelFormat } from './locator.js';
import {
  type PulledModel,
  type PullOptions,
  pulled,
  type Reporter,
  reporter,
  throwIfCancelled,
} from './pull-options.js';

// Protobuf messages, and so ONNX files without external data, end at 2 GiB.
const maxModelBytes = 2_147_483_647;

/** Pulls a model that the user points to, whose sha256 the user knows. */
export async function pullFile(
  locator: Exclude<Locator, { kind: 'recipe' }>,
  options: PullOptions,
): Promise<PulledModel> {
  const { format, sha256 } = locator;
  const where = locator.kind === 'file' ? locator.path : locator.url;
  const name = modelName(where, format);
  const cacheDir = options.cacheDir ?? userCacheDir();
  const folder = join(cacheDir, 'models', `${name}-${sha256.slice(0, 16)}`);
  const cached = await readCached(folder);
  if (cached?.record.provenance.integrity === `sha256-${sha256}`) return pulled(cached, true);

  const report = reporter(options);
  const source =
    locator.kind === 'file'
      ? await onDisk(locator.path, () => readFile(locator.path))
      : await fetchFile(locator.url, sha256, cacheDir, options, report);
  if ((await sha256Hex(source)) !== sha256) {
    throw new IsthmusError('pull/integrity', `${where} has another sha256 than ${sha256}. Nothing was kept.`);
  }
  report('convert', source.byteLength, source.byteLength);
  const beside = locator.kind === 'file' ? dirname(locator.path) : undefined;
  const bytes = await toOnnx(source, format, beside);
  report('verify');
  await (await options.runtime.load(bytes)).release();
  throwIfCancelled(options.signal);
  report('store');
  const stored = await writeCached(folder, bytes, {
    format: 'isthmus-model',
    version: 1,
    name,
    provenance: {
      source: locator.kind === 'file' ? basename(where) : where,
      licence: 'not stated',
      sha256: await sha256Hex(bytes),
      url: where,
      integrity: `sha256-${sha256}`,
      convertedAt: (options.now?.() ?? new Date()).toISOString(),
    },
    preprocess: null,
    task: { kind: 'tensor' },
  });
  return pulled(stored, false);
}

async function fetchFile(
  url: string,
  sha256: string,
  cacheDir: string,
  options: PullOptions,
  report: Reporter,
): Promise<Uint8Array<ArrayBuffer>> {
  const path = join(cacheDir, 'downloads', sha256);
  const { fetch, clock, signal } = options;
  await download({
    url,
    path,
    hash: { algorithm: 'sha256', digest: Buffer.from(sha256, 'hex') },
    maxBytes: maxModelBytes,
    fetch,
    clock,
    signal,
    onProgress: (receivedBytes, totalBytes) => report('download', receivedBytes, totalBytes),
  });
  return onDisk(path, async () => {
    const bytes = await readFile(path);
    // The model itself goes into the cache; the download would only be a second copy.
    await rm(path, { force: true });
    return bytes;
  });
}

async function toOnnx(
  source: Uint8Array,
  format: ModelFormat,
  folder: string | undefined,
): Promise<Uint8Array> {
  if (format === 'tflite') return writeModel(importTflite(source));
  if (format === 'tfjs') {
    const modelJson = new TextDecoder().decode(source);
    const weights = new Map<string, Uint8Array>();
    for (const path of listTfjsFiles(modelJson)) {
      const whole = resolve(folder ?? '', path);
      if (folder === undefined || !whole.startsWith(resolve(folder) + sep)) {
        throw new IsthmusError('model/invalid', `model.json refers to ${path}, outside of its folder.`);
      }
      weights.set(path, await onDisk(whole, () => readFile(whole)));
    }
    return writeModel(importTfjsLayers({ modelJson, weights }));
  }
  let readsExternal = false;
  const model = await readModel(source, {
    ...(folder !== undefined && {
      readExternal: (location: string) => {
        readsExternal = true;
        return readFile(join(folder, location));
      },
    }),
  });
  return readsExternal ? writeModel(model) : source;
}

/** A name that a manifest accepts, from the file's own, or from the folder's where that is model.json. */
function modelName(where: string, format: ModelFormat): string {
  const path = where.replace(/[?#].*$/, '');
  const plain = format === 'tfjs' ? dirname(resolve(path)).split(sep).at(-1)! : basename(path);
  const name = plain
    .toLowerCase()
    .replace(/\.(onnx|tflite)$/, '')
    .replace(/[^a-z0-9._-]+/g, '-')
    .replace(/^[^a-z0-9]+/, '')
    .slice(0, 80);
  return name === '' ? 'model' : name;
}
