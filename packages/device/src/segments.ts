import { type FileRef, IsthmusError, sha256Hex } from '@isthmus/core';
import type { SegmentCache } from './cache.js';
import type { HttpGet } from './http.js';

/** How a file of the bundle comes to the device. */
export interface SegmentEvent {
  path: string;
  numBytes: number;
  /** Equal to `numBytes` when done. */
  receivedBytes: number;
  source: 'cache' | 'network';
  /** Whether it has come whole, and was verified. */
  done: boolean;
}

/** Gives a file of the bundle, verified. */
export type ReadFile = (file: FileRef) => Promise<Uint8Array>;

export interface SegmentStoreOptions {
  get: HttpGet;
  /** Path of the bundle below the receiver's base URL; ends in a slash. */
  bundlePath: string;
  cache: SegmentCache;
  onEvent: (event: SegmentEvent) => void;
}

/**
 * Files of the bundle from the cache or the receiver, each verified against its hash. A damaged cache entry is
 * dropped and fetched again; who asks for a file that is on its way gets the same one. A cache that fails (a full
 * disk) costs a download, nothing else.
 *
 * @throws IsthmusError from what it returns: `bundle/hash-mismatch`, and as {@link HttpGet}
 */
export function createSegmentStore(options: SegmentStoreOptions): ReadFile {
  const { cache, onEvent } = options;
  const underWay = new Map<string, Promise<Uint8Array>>();

  const fromCache = async (file: FileRef): Promise<Uint8Array | undefined> => {
    const cached = await cache.get(file.sha256).catch(() => undefined);
    if (cached === undefined) return undefined;
    if (cached.byteLength === file.numBytes && (await sha256Hex(cached)) === file.sha256) return cached;
    await cache.delete(file.sha256).catch(() => {});
    return undefined;
  };

  const download = async (file: FileRef): Promise<Uint8Array> => {
    const { path, numBytes } = file;
    const bytes = await options.get(options.bundlePath + path, {
      maxBytes: numBytes,
      onProgress: (receivedBytes) =>
        onEvent({ path, numBytes, receivedBytes, source: 'network', done: false }),
    });
    const actual = await sha256Hex(bytes);
    if (actual !== file.sha256) {
      throw new IsthmusError(
        'bundle/hash-mismatch',
        `${path} is not what the manifest promises (${actual} instead of ${file.sha256}). The receiver's bundle is damaged, or something on the way changes files.`,
        { details: { path, expected: file.sha256, actual } },
      );
    }
    await cache.put(file.sha256, bytes).catch(() => {});
    return bytes;
  };

  const read = async (file: FileRef): Promise<Uint8Array> => {
    const { path, numBytes } = file;
    const cached = await fromCache(file);
    const bytes = cached ?? (await download(file));
    const source = cached === undefined ? 'network' : 'cache';
    onEvent({ path, numBytes, receivedBytes: numBytes, source, done: true });
    return bytes;
  };

  return (file) => {
    const existing = underWay.get(file.sha256);
    if (existing !== undefined) return existing;
    const reading = read(file).finally(() => underWay.delete(file.sha256));
    underWay.set(file.sha256, reading);
    return reading;
  };
}
