import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createFolderCache } from './cache-folder.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'isthmus-cache-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const sha256 = 'ab'.repeat(32);

test('keeps, gives and forgets', async () => {
  const cache = createFolderCache(join(folder, 'deep', 'er'));
  expect(await cache.get(sha256)).toBeUndefined();
  await cache.put(sha256, Uint8Array.of(1, 2, 3));
  expect(await createFolderCache(join(folder, 'deep', 'er')).get(sha256)).toEqual(Uint8Array.of(1, 2, 3));
  await cache.delete(sha256);
  await cache.delete(sha256);
  expect(await cache.get(sha256)).toBeUndefined();
});

test('writers at the same time leave one whole file and nothing else', async () => {
  const bytes = new Uint8Array(200_000).fill(7);
  await Promise.all(Array.from({ length: 8 }, () => createFolderCache(folder).put(sha256, bytes)));
  expect(await readdir(folder)).toEqual([sha256]);
  expect(await createFolderCache(folder).get(sha256)).toEqual(bytes);
});

test('a folder that cannot be is the caller’s to know', async () => {
  await writeFile(join(folder, 'file'), '');
  await expect(createFolderCache(join(folder, 'file')).put(sha256, Uint8Array.of(1))).rejects.toThrow();
});
