import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createManualClock, isIsthmusError } from '@isthmus/core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type DownloadRequest, download } from './download.js';
import {
  type Answer,
  type FileServer,
  hanging,
  reset,
  startFileServer,
  status,
  whole,
} from './testing/file-server.js';

const content = Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * 31 + (index >> 8)) & 255));
const digest = createHash('sha256').update(content).digest();

let folder: string;
let server: FileServer | undefined;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'isthmus-download-'));
});
afterEach(async () => {
  await server?.close();
  server = undefined;
  await rm(folder, { recursive: true, force: true });
});

async function request(
  script: readonly Answer[],
  extra: Partial<DownloadRequest> = {},
): Promise<DownloadRequest> {
  server = await startFileServer(...script);
  return {
    url: `${server.url}/file`,
    path: join(folder, 'downloads', 'file'),
    hash: { algorithm: 'sha256', digest },
    maxBytes: 1_000_000,
    ...extra,
  };
}

async function refusal(work: Promise<unknown>) {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!isIsthmusError(error)) throw new Error(`Expected an IsthmusError, got ${error}`);
  return error;
}

/** Breaks the connection as soon as that many bytes are on the disk, once for each count. */
function breakAt(...counts: number[]): (received: number) => void {
  const left = new Set(counts);
  return (received) => {
    if (left.delete(received)) server!.breakConnections();
  };
}
const files = () => readdir(join(folder, 'downloads'));
const ranges = () => server!.requests.map(({ range }) => range);

describe('download', () => {
  it('brings a file, reports progress and leaves nothing else', async () => {
    const counts: number[] = [];
    const wanted = await request([whole(content)], { onProgress: (received) => counts.push(received) });
    await download(wanted);
    expect(content.equals(await readFile(wanted.path))).toBe(true);
    expect(await files()).toEqual(['file']);
    expect(counts.at(-1)).toBe(content.length);
    expect(counts).toEqual([...counts].sort((a, b) => a - b));
  });

  it('goes on within the same call where a connection broke', async () => {
    const wanted = await request([hanging(content, 100_000), hanging(content, 50_000), whole(content)], {
      onProgress: breakAt(100_000, 150_000),
    });
    await download(wanted);
    expect(content.equals(await readFile(wanted.path))).toBe(true);
    expect(ranges()).toEqual([undefined, 'bytes=100000-', 'bytes=150000-']);
  });

  it('keeps what arrived, and the next call fetches only the rest', async () => {
    const wanted = await request([hanging(content, 100_000), reset, whole(content)], {
      onProgress: breakAt(100_000),
    });
    const error = await refusal(download(wanted));
    expect(error).toMatchObject({ code: 'pull/download-failed', retryable: true });
    expect(await files()).toEqual(['file.part']);
    await download(wanted);
    expect(ranges()).toEqual([undefined, 'bytes=100000-', 'bytes=100000-']);
    expect(content.equals(await readFile(wanted.path))).toBe(true);
    expect(await files()).toEqual(['file']);
  });

  it('starts over where the server cannot resume, and keeps nothing it could not use', async () => {
    const plain = { ranges: false };
    const wanted = await request([hanging(content, 100_000, plain), reset, whole(content, plain)], {
      onProgress: breakAt(100_000),
    });
    expect((await refusal(download(wanted))).code).toBe('pull/download-failed');
    expect(await files()).toEqual([]);
    await download(wanted);
    expect(content.equals(await readFile(wanted.path))).toBe(true);
  });

  it('does not trust what lay there before', async () => {
    const wanted = await request([whole(content)]);
    await writeOld(wanted.path, Buffer.from(content).fill(7, 0, 10).subarray(0, 1000));
    await download(wanted);
    expect(ranges()).toEqual(['bytes=1000-', undefined]);
    expect(content.equals(await readFile(wanted.path))).toBe(true);
  });

  it('takes over what a process that no longer runs left behind', async () => {
    const wanted = await request([whole(content)]);
    // Process ids end well below this one.
    await writeOld(wanted.path, content.subarray(0, 2000), '.part.999999999-0123abcd');
    await download(wanted);
    expect(ranges()).toEqual(['bytes=2000-']);
    expect(await files()).toEqual(['file']);
  });

  it('lets two calls at once finish, each with its own copy', async () => {
    const wanted = await request([whole(content)]);
    await Promise.all([download(wanted), download(wanted)]);
    expect(content.equals(await readFile(wanted.path))).toBe(true);
    expect(await files()).toEqual(['file']);
  });

  it('discards what has another hash', async () => {
    const wanted = await request([whole(Buffer.from(content).fill(1, 5, 6))]);
    expect((await refusal(download(wanted))).code).toBe('pull/integrity');
    expect(await files()).toEqual([]);
  });

  it('refuses a file of another size than published before it is downloaded', async () => {
    const wanted = await request([whole(content)], { numBytes: 299_999 });
    expect((await refusal(download(wanted))).code).toBe('pull/integrity');
    expect(await files()).toEqual([]);
  });

  it('stops a body without end at the limit', async () => {
    const endless: Answer = (_request, response) => {
      response.writeHead(200);
      const more = () => {
        while (!response.destroyed && response.write(content));
      };
      response.on('drain', more);
      more();
    };
    const wanted = await request([endless]);
    expect((await refusal(download(wanted))).code).toBe('pull/integrity');
    expect(await files()).toEqual([]);
  });

  it.each([
    { code: 404, retryable: false },
    { code: 403, retryable: false },
    { code: 429, retryable: true },
    { code: 503, retryable: true },
  ])('reports status $code, retryable: $retryable', async ({ code, retryable }) => {
    const wanted = await request([status(code)]);
    const error = await refusal(download(wanted));
    expect(error).toMatchObject({ code: 'pull/download-failed', retryable, details: { status: code } });
    expect(await files()).toEqual([]);
  });

  it('reports that nobody listens', async () => {
    const wanted = await request([reset]);
    await server!.close();
    const error = await refusal(download(wanted));
    expect(error).toMatchObject({ code: 'pull/download-failed', retryable: true });
    expect(error.cause).toBeInstanceOf(Error);
  });

  it('gives up on a link that delivers nothing for half a minute', async () => {
    const clock = createManualClock();
    const silent: Answer = (_request, response) => {
      response.writeHead(200, { 'content-length': content.length });
      response.write(content.subarray(0, 1000));
    };
    const onProgress = (received: number) => {
      if (received > 0) setImmediate(() => clock.advance(30_000));
    };
    const wanted = await request([silent, reset], { clock, onProgress });
    const error = await refusal(download(wanted));
    expect(error.code).toBe('pull/download-failed');
  });

  it('stops when told to, and keeps what can be resumed', async () => {
    const abort = new AbortController();
    const wanted = await request([hanging(content, 200_000)], {
      signal: abort.signal,
      onProgress: (received) => {
        if (received > 0) abort.abort();
      },
    });
    expect((await refusal(download(wanted))).code).toBe('request/cancelled');
    expect(await files()).toEqual(['file.part']);
  });

  it('reports a file in the way of its folder', async () => {
    const wanted = await request([whole(content)]);
    await writeFile(join(folder, 'downloads'), 'in the way');
    const error = await refusal(download(wanted));
    expect(error.code).toBe('pull/disk');
    expect(error.message).toContain('in the way');
    expect(server!.requests).toEqual([]);
  });

  // Every write to /dev/full fails as on a full disk.
  it.skipIf(!existsSync('/dev/full'))('reports a full disk and frees what it had taken', async () => {
    const wanted = await request([whole(content)]);
    await writeOld(wanted.path, new Uint8Array(0));
    await rm(`${wanted.path}.part`);
    await symlink('/dev/full', `${wanted.path}.part`);
    const error = await refusal(download(wanted));
    expect(error).toMatchObject({ code: 'pull/disk', details: { code: 'ENOSPC' } });
    expect(error.message).toContain('disk is full');
    expect(await files()).toEqual([]);
  });
});

async function writeOld(path: string, bytes: Uint8Array, ending = '.part'): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(`${path}${ending}`, bytes);
}
