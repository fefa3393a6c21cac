import { spawnSync } from 'node:child_process';
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isIsthmusError } from '@isthmus/core';
import { describe, expect, it } from 'vitest';
import { isAbandoned, onDisk, privateName, userCacheDir, writeDurably } from './disk.js';

describe('userCacheDir', () => {
  it('follows the customs of each system', () => {
    expect(userCacheDir('linux', {}, '/home/a')).toBe(join('/home/a', '.cache', 'isthmus'));
    expect(userCacheDir('linux', { XDG_CACHE_HOME: '/big' }, '/home/a')).toBe(join('/big', 'isthmus'));
    expect(userCacheDir('darwin', {}, '/Users/a')).toBe(join('/Users/a', 'Library', 'Caches', 'isthmus'));
    expect(userCacheDir('win32', { LOCALAPPDATA: 'D:\\local' }, 'C:\\a')).toBe(
      join('D:\\local', 'isthmus', 'cache'),
    );
  });
});

describe('privateName', () => {
  it('tells the files of a process that ended from those of one that runs', () => {
    const mine = privateName('/cache/file.part');
    expect(mine).not.toBe(privateName('/cache/file.part'));
    expect(isAbandoned(mine)).toBe(false);
    const { pid } = spawnSync(process.execPath, ['--version']);
    expect(isAbandoned(mine.replace(`.${process.pid}-`, `.${pid}-`))).toBe(true);
    expect(isAbandoned('/cache/file.part')).toBe(false);
  });
});

describe('onDisk', () => {
  it('explains what is wrong and keeps the cause', async () => {
    const error = await onDisk('/none', () => open('/none/there')).catch((reason: unknown) => reason);
    expect(isIsthmusError(error, 'pull/disk')).toBe(true);
    expect(error).toMatchObject({ details: { path: '/none', code: 'ENOENT' }, cause: { code: 'ENOENT' } });
  });
});

describe('writeDurably', () => {
  it('writes whole files and never over another', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'isthmus-disk-'));
    const path = join(folder, 'file');
    await writeDurably(path, 'content');
    expect(await readFile(path, 'utf8')).toBe('content');
    await expect(writeDurably(path, 'other')).rejects.toMatchObject({ code: 'EEXIST' });
    await rm(folder, { recursive: true });
  });
});
