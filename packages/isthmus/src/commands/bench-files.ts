import { access, constants, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { IsthmusError, type Runtime, sha256Hex, toIsthmusError } from '@isthmus/core';
import { splitModel } from '@isthmus/graph';
import { recipes } from '@isthmus/models';
import { readManifest } from '../bundle-folder.js';
import type { CliContext } from '../cli.js';
import { createProgress } from '../progress.js';
import { pullModel } from '../pull/pull-model.js';
import type { BundleFiles } from '../rd/measure.js';

/**
 * The bundle in a folder, or a model known to pull, pulled and split.
 *
 * @throws IsthmusError `bundle/*` for a folder that is none; those of pulling and of splitting
 */
export async function openBundle(
  { bundle, cache }: { bundle: string; cache?: string | undefined },
  runtime: Runtime,
  context: CliContext,
): Promise<BundleFiles> {
  const isFolder = await access(join(bundle, 'manifest.json')).then(
    () => true,
    () => false,
  );
  if (isFolder || !recipes.some(({ name }) => name === bundle)) return openFolder(bundle);
  const progress = createProgress(context);
  const pulled = await pullModel(bundle, {
    runtime,
    signal: context.signal,
    onProgress: ({ phase, receivedBytes, totalBytes }) =>
      progress.show(`${bundle}: ${phase}`, receivedBytes, totalBytes),
    ...(cache !== undefined && { cacheDir: cache }),
  });
  progress.show(`splitting ${bundle}`);
  const { manifest, files } = await splitModel(await readFile(pulled.modelPath), {
    runtime,
    name: pulled.name,
    provenance: pulled.provenance,
    preprocess: pulled.preprocess,
    task: pulled.task,
    profileRuns: 0,
  });
  progress.end();
  return { manifest, readFile: async ({ path }) => files.get(path)! };
}

/** @throws IsthmusError `bundle/*` */
export async function openFolder(folder: string): Promise<BundleFiles> {
  return {
    manifest: await readManifest(folder),
    async readFile({ path, sha256 }) {
      const bytes = await readFile(join(folder, path)).catch((cause) => {
        throw new IsthmusError('bundle/not-found', `${path} of the bundle in ${folder} cannot be read.`, {
          cause,
        });
      });
      if ((await sha256Hex(bytes)) !== sha256) {
        throw new IsthmusError(
          'bundle/hash-mismatch',
          `${path} of the bundle in ${folder} is not what its manifest says. Copy or split it again.`,
        );
      }
      return bytes;
    },
  };
}

/**
 * Before an hour of measuring, not after it.
 *
 * @throws IsthmusError `usage/invalid` if there is no folder for the file
 */
export async function checkWritable(file: string): Promise<void> {
  await access(dirname(resolve(file)), constants.W_OK).catch((cause) => {
    throw new IsthmusError('usage/invalid', `${file} cannot be written: is its folder there?`, { cause });
  });
}

/** @throws IsthmusError `pull/disk` */
export async function writeResult(file: string, content: string): Promise<void> {
  await writeFile(file, content).catch((cause) => {
    throw toIsthmusError(cause, 'pull/disk', `Cannot write ${file}`);
  });
}
