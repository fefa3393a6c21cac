import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { IsthmusError } from '@isthmus/core';

const explanations: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full; free some space or choose another folder',
  EDQUOT: 'the quota is used up; free some space or choose another folder',
  EROFS: 'the file system is read-only; choose another folder',
  EACCES: 'permission is denied; choose a folder you may write to',
  EPERM: 'permission is denied; choose a folder you may write to',
  ENOTDIR: 'a file is in the way of a folder; move it or choose another folder',
  EEXIST: 'a file is in the way of a folder; move it or choose another folder',
};

/** Runs file operations; what they throw becomes `pull/disk` with the path and what to do about it. */
export async function onDisk<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof IsthmusError) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    const reason = (code !== undefined && explanations[code]) || message;
    throw new IsthmusError('pull/disk', `Cannot use ${path}: ${reason}.`, { cause, details: { path, code } });
  }
}

/**
 * Where this user's caches belong: `$XDG_CACHE_HOME` or `~/.cache` on Linux, `~/Library/Caches` on macOS,
 * `%LOCALAPPDATA%` on Windows; a folder `isthmus` in it.
 */
export function userCacheDir(
  platform: NodeJS.Platform = process.platform,
  env: NodeJS.ProcessEnv = process.env,
  home: string = homedir(),
): string {
  if (platform === 'win32') {
    return join(env.LOCALAPPDATA || join(home, 'AppData', 'Local'), 'isthmus', 'cache');
  }
  if (platform === 'darwin') return join(home, 'Library', 'Caches', 'isthmus');
  return join(env.XDG_CACHE_HOME || join(home, '.cache'), 'isthmus');
}

/** Hash of a file, read in pieces. */
export async function hashFile(path: string, algorithm: 'sha256' | 'sha512'): Promise<Buffer> {
  const hash = createHash(algorithm);
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest();
}

/** Writes a file and waits until it is on the disk, so that a rename after it cannot leave it half written. */
export async function writeDurably(path: string, content: Uint8Array | string): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** A name next to `path` that no other process uses, and from which one can tell whose it is. */
export function privateName(path: string): string {
  return `${path}.${process.pid}-${randomUUID().slice(0, 8)}`;
}

/** Whether the process that made a {@link privateName} is gone. */
export function isAbandoned(name: string): boolean {
  const pid = Number(/\.(\d+)-[0-9a-f]{8}$/.exec(name)?.[1]);
  if (!Number.isSafeInteger(pid) || pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}
