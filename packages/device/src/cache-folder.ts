import { randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { SegmentCache } from './cache.js';

/** Where this system's programs keep what they can get again; `ISTHMUS_CACHE` in the environment overrides it. */
function userCacheFolder(): string {
  const { ISTHMUS_CACHE, XDG_CACHE_HOME, LOCALAPPDATA } = process.env;
  if (ISTHMUS_CACHE) return ISTHMUS_CACHE;
  if (process.platform === 'win32' && LOCALAPPDATA) return join(LOCALAPPDATA, 'isthmus', 'Cache');
  if (process.platform === 'darwin') return join(homedir(), 'Library', 'Caches', 'isthmus');
  return join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'isthmus');
}

/**
 * Keeps each segment as a file named after its hash. Files appear whole or not at all, so that several processes
 * may share a folder.
 *
 * @param folder Made when the first segment is kept. @default `segments` in the user's cache folder
 */
export function createFolderCache(folder: string = join(userCacheFolder(), 'segments')): SegmentCache {
  return {
    async get(sha256) {
      try {
        const { buffer, byteOffset, byteLength } = await readFile(join(folder, sha256));
        return new Uint8Array(buffer, byteOffset, byteLength);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw error;
      }
    },
    async put(sha256, bytes) {
      await mkdir(folder, { recursive: true });
      const unfinished = join(folder, `${sha256}.${randomUUID()}`);
      try {
        await writeFile(unfinished, bytes);
        await rename(unfinished, join(folder, sha256));
      } catch (error) {
        await rm(unfinished, { force: true });
        throw error;
      }
    },
    delete: (sha256) => rm(join(folder, sha256), { force: true }),
  };
}
