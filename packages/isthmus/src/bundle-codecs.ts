import { mkdir, mkdtemp, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { formatManifest, IsthmusError, type Manifest, toIsthmusError } from '@isthmus/core';
import { addCodec, type BuiltCodec, removeCodec } from '@isthmus/graph';
import { readManifest } from './bundle-folder.js';

/**
 * Adds a codec to the bundle in a folder. Its files come first, and the manifest that names them takes the old one's
 * place in one step: whenever this ends, the folder holds a whole bundle, with the codec or without.
 *
 * @throws IsthmusError `bundle/not-found`, `bundle/invalid`; `usage/invalid` for a name that is taken; `pull/disk` if the
 * disk is full or not writable
 */
export async function addCodecToFolder(folder: string, codec: BuiltCodec): Promise<void> {
  const { id } = codec.entry;
  const own = `codecs/${id}`;
  // Read anew: since it was last read, another codec may have come.
  const manifest = await readManifest(folder);
  const { manifest: next } = addCodec({ manifest, files: new Map() }, codec);
  const foreign = manifest.codecs.find(({ files }) => files.some(({ path }) => path.startsWith(`${own}/`)));
  if (foreign !== undefined) {
    throw new IsthmusError('usage/invalid', `Codec ${foreign.id} has files in ${own}; take another name.`);
  }
  await writing(folder, async () => {
    const temporary = await mkdtemp(join(folder, '.codec-'));
    try {
      for (const [path, bytes] of codec.files) {
        await mkdir(dirname(join(temporary, path)), { recursive: true });
        await writeFile(join(temporary, path), bytes);
      }
      await mkdir(join(folder, 'codecs'), { recursive: true });
      // What lies there and in no manifest was left by an import that did not come to its end.
      await rm(join(folder, own), { recursive: true, force: true });
      await rename(join(temporary, own), join(folder, own));
    } finally {
      await rm(temporary, { recursive: true, force: true });
    }
    await replaceManifest(folder, next);
  });
}

/**
 * Takes a codec out of the bundle in a folder: first out of the manifest, then its files.
 *
 * @throws IsthmusError as {@link addCodecToFolder}; `usage/invalid` if there is no such codec, or every bundle has it
 */
export async function removeCodecFromFolder(folder: string, id: string): Promise<void> {
  const manifest = await readManifest(folder);
  const paths = manifest.codecs.flatMap(({ files }) => files.map(({ path }) => path));
  const files = new Map(paths.map((path) => [path, new Uint8Array()]));
  const next = removeCodec({ manifest, files }, id);
  await writing(folder, async () => {
    await replaceManifest(folder, next.manifest);
    const dropped = paths.filter((path) => !next.files.has(path));
    for (const path of dropped) await rm(join(folder, path), { force: true });
    // Folders stay where something else lies in them.
    for (const path of new Set(dropped.map(dirname))) await rmdir(join(folder, path)).catch(() => {});
  });
}

async function replaceManifest(folder: string, manifest: Manifest): Promise<void> {
  const temporary = await mkdtemp(join(folder, '.manifest-'));
  try {
    const path = join(temporary, 'manifest.json');
    // On the disk before it takes the old one's name, should the power fail.
    await writeFile(path, formatManifest(manifest), { flush: true });
    await rename(path, join(folder, 'manifest.json'));
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

async function writing(folder: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    throw toIsthmusError(error, 'pull/disk', `Cannot change the bundle in ${folder}`);
  }
}
