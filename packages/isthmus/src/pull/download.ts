import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type Clock, IsthmusError, systemClock } from '@isthmus/core';
import { hashFile, isAbandoned, onDisk, privateName } from './disk.js';

export interface DownloadRequest {
  url: string;
  /** Where the file appears once it is whole and its hash is right. */
  path: string;
  hash: { algorithm: 'sha256' | 'sha512'; digest: Buffer };
  /** The exact size where it is known. */
  numBytes?: number | undefined;
  /** The most that is accepted where it is not. */
  maxBytes: number;
  fetch?: typeof fetch | undefined;
  clock?: Clock | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((receivedBytes: number, totalBytes: number | undefined) => void) | undefined;
}

// A link that delivers nothing for this long is taken for dead.
const stallMs = 30_000;
// A link that keeps breaking but moves on each time is tried this often.
const maxAttempts = 5;

/**
 * Downloads a file, or what is missing of it: an interrupted download leaves `PATH.part` if the server can
 * resume, and the next call, of this process or another, goes on from there. Several processes may download the
 * same file at once; each writes its own copy.
 *
 * @throws IsthmusError `pull/download-failed` (retryable unless the server refuses), `pull/integrity`,
 * `pull/disk`, `request/cancelled`
 */
export async function download(request: DownloadRequest): Promise<void> {
  await onDisk(dirname(request.path), () => mkdir(dirname(request.path), { recursive: true }));
  const mine = privateName(`${request.path}.part`);
  let keep = false;
  try {
    const leftover = await claimLeftover(request.path, mine);
    let intact = await receive(request, mine, () => {
      keep = true;
    });
    if (!intact && leftover) {
      // What was left by an earlier attempt may be at fault; the network gets a fair chance.
      await onDisk(mine, () => rm(mine, { force: true }));
      intact = await receive(request, mine, () => {});
    }
    keep = false;
    if (!intact) {
      throw new IsthmusError(
        'pull/integrity',
        `What ${request.url} delivers is not what was published: its ${request.hash.algorithm} differs. It was discarded.`,
        { details: { url: request.url } },
      );
    }
    await onDisk(request.path, () => rename(mine, request.path));
  } catch (error) {
    if (error instanceof IsthmusError && error.code === 'pull/disk') keep = false;
    if (keep) await rename(mine, `${request.path}.part`).catch(() => {});
    throw error;
  } finally {
    await rm(mine, { force: true }).catch(() => {});
  }
}

/** Takes over what an earlier attempt left behind. Renaming makes sure that only one process gets it. */
async function claimLeftover(path: string, mine: string): Promise<boolean> {
  const folder = dirname(path);
  const part = `${basename(path)}.part`;
  const names = await onDisk(folder, () => readdir(folder));
  for (const name of names) {
    if (name !== part && !(name.startsWith(`${part}.`) && isAbandoned(name))) continue;
    try {
      await rename(join(folder, name), mine);
      return true;
    } catch {
      // Somebody else was faster.
    }
  }
  return false;
}

/** Fills `part` until it is complete; whether its hash is right. */
async function receive(request: DownloadRequest, part: string, onResumable: () => void): Promise<boolean> {
  for (let attempt = 1; ; attempt++) {
    const before = await sizeOf(part);
    try {
      await receiveRest(request, part, before, onResumable);
      break;
    } catch (error) {
      const retryable =
        error instanceof IsthmusError && error.code === 'pull/download-failed' && error.retryable;
      const advanced = (await sizeOf(part)) > before;
      if (!retryable || !advanced || attempt === maxAttempts) throw error;
    }
  }
  const numBytes = await sizeOf(part);
  if (request.numBytes !== undefined && numBytes !== request.numBytes) return false;
  const digest = await onDisk(part, () => hashFile(part, request.hash.algorithm));
  return digest.equals(request.hash.digest);
}

async function sizeOf(path: string): Promise<number> {
  const found = await stat(path).catch(() => undefined);
  return found?.size ?? 0;
}

/** One request for what comes after the first `offset` bytes. */
async function receiveRest(
  request: DownloadRequest,
  part: string,
  offset: number,
  onResumable: () => void,
): Promise<void> {
  if (offset > 0 && offset === request.numBytes) return;
  const { url, signal, clock = systemClock } = request;
  const stall = new AbortController();
  const abort = signal === undefined ? stall.signal : AbortSignal.any([stall.signal, signal]);
  const startTimer = () => clock.after(stallMs, () => stall.abort());
  let stopTimer = startTimer();
  let file: FileHandle | undefined;
  try {
    const headers: Record<string, string> = { 'accept-encoding': 'identity' };
    if (offset > 0) headers.range = `bytes=${offset}-`;
    const response = await (request.fetch ?? fetch)(url, { headers, signal: abort });
    const resumed = response.status === 206 && rangeStart(response) === offset;
    if (offset > 0 && !resumed && (response.status === 206 || response.status === 416)) {
      // The server cannot continue where the file ends: start over.
      await response.body?.cancel();
      await onDisk(part, () => rm(part, { force: true }));
      return await receiveRest(request, part, 0, onResumable);
    }
    if (!response.ok || response.body === null) throw refused(url, response);
    if (resumed || response.headers.get('accept-ranges') === 'bytes') onResumable();

    let received = resumed ? offset : 0;
    const length = Number(response.headers.get('content-length') ?? Number.NaN);
    const totalBytes = Number.isFinite(length) ? received + length : request.numBytes;
    if (request.numBytes !== undefined && totalBytes !== request.numBytes) {
      throw new IsthmusError(
        'pull/integrity',
        `${url} holds ${totalBytes} bytes, not the ${request.numBytes} that were published.`,
        { details: { url, numBytes: totalBytes, expected: request.numBytes } },
      );
    }
    file = await onDisk(part, () => open(part, resumed ? 'a' : 'w'));
    request.onProgress?.(received, totalBytes);
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      stopTimer();
      stopTimer = startTimer();
      received += chunk.byteLength;
      if (received > (request.numBytes ?? request.maxBytes)) {
        throw new IsthmusError(
          'pull/integrity',
          `${url} delivers more than the ${totalBytes} bytes expected.`,
          {
            details: { url, receivedBytes: received },
          },
        );
      }
      await onDisk(part, () => file!.writeFile(chunk));
      request.onProgress?.(received, totalBytes);
    }
    if (totalBytes !== undefined && received < totalBytes) {
      throw new IsthmusError(
        'pull/download-failed',
        `${url} ended after ${received} of ${totalBytes} bytes. Try again.`,
        { retryable: true, details: { url, receivedBytes: received } },
      );
    }
  } catch (error) {
    throw asDownloadError(error, url, signal, stall.signal.aborted);
  } finally {
    stopTimer();
    await file?.close();
  }
}

function rangeStart(response: Response): number | undefined {
  const found = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '');
  return found === null ? undefined : Number(found[1]);
}

function refused(url: string, response: Response): IsthmusError {
  const { status } = response;
  const retryable = status === 408 || status === 429 || status >= 500;
  return new IsthmusError(
    'pull/download-failed',
    `${url} answers with status ${status}. ${retryable ? 'Try again later.' : 'Check the address.'}`,
    { retryable, details: { url, status } },
  );
}

/** A network failure in Isthmus's terms; its own errors stay as they are. */
export function asDownloadError(
  error: unknown,
  url: string,
  signal: AbortSignal | undefined,
  stalled: boolean,
): IsthmusError {
  if (signal?.aborted)
    return new IsthmusError('request/cancelled', 'The pull was cancelled.', { cause: error });
  if (error instanceof IsthmusError) return error;
  // fetch says only "fetch failed"; the reason is its cause.
  const inner = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const reason = stalled
    ? `nothing arrived for ${stallMs / 1000} s`
    : String((inner as Error)?.message ?? inner);
  return new IsthmusError(
    'pull/download-failed',
    `Cannot download ${url}: ${reason}. Check the connection and try again.`,
    { cause: error, retryable: true, details: { url } },
  );
}
