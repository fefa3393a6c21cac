import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { formatManifest, IsthmusError, type Manifest, parseManifest, toIsthmusError } from '@isthmus/core';

/** A bundle in memory: what `splitModel` gives. */
export interface BundleContents {
  manifest: Manifest;
  /** By path relative to manifest.json. */
  files: ReadonlyMap<string, Uint8Array>;
}

/**
 * Writes a bundle into a new folder, or in place of an older bundle. The folder appears whole or not at all.
 *
 * @throws IsthmusError `bundle/invalid` if something else than a bundle is in the way, `pull/disk` if the disk is
 * full or not writable.
 */
export async function writeBundle(folder: string, bundle: BundleContents): Promise<void> {
  const target = resolve(folder);
  const existing = await readFile(join(target, 'manifest.json'), 'utf8').catch(() => undefined);
  let temporary: string | undefined;
  try {
    await mkdir(dirname(target), { recursive: true });
    temporary = await mkdtemp(join(dirname(target), `.${basename(target)}-`));
    for (const [path, bytes] of bundle.files) {
      await mkdir(dirname(join(temporary, path)), { recursive: true });
      await writeFile(join(temporary, path), bytes);
    }
    await writeFile(join(temporary, 'manifest.json'), formatManifest(bundle.manifest));
    if (existing !== undefined) await rm(target, { recursive: true });
    await rename(temporary, target);
  } catch (error) {
    if (temporary !== undefined) await rm(temporary, { recursive: true, force: true });
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOTEMPTY' || code === 'EEXIST' || code === 'ENOTDIR') {
      throw new IsthmusError(
        'bundle/invalid',
        `${target} is in the way and is not a bundle; choose another folder.`,
        {
          cause: error,
        },
      );
    }
    throw toIsthmusError(error, 'pull/disk', `Cannot write the bundle to ${target}`);
  }
}

/**
 * The manifest in a bundle's folder.
 *
 * @throws IsthmusError `bundle/not-found`, `bundle/invalid`
 */
export async function readManifest(folder: string): Promise<Manifest> {
  const path = join(folder, 'manifest.json');
  const text = await readFile(path, 'utf8').catch((cause) => {
    throw new IsthmusError(
      'bundle/not-found',
      `There is no bundle in ${folder}. Make one with: isthmus split`,
      {
        cause,
      },
    );
  });
  return parseManifest(text);
}
