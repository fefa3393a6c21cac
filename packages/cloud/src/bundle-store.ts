import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import {
  concatBytes,
  type FileRef,
  IsthmusError,
  type Manifest,
  manifestLimits,
  parseManifest,
  toIsthmusError,
} from '@isthmus/core';

/** Where the files of a bundle come from. */
export interface BundleSource {
  /** For messages to whoever runs the receiver. */
  readonly location: string;
  /**
   * The bytes `start` to `end` (exclusive) of a file, the whole of it by default. Paths are those of the manifest,
   * and `manifest.json`.
   *
   * @throws what the place throws; a missing file may throw anything
   */
  read(path: string, start?: number, end?: number): AsyncIterable<Uint8Array>;
}

/** A bundle in a folder, as `isthmus split` writes it. */
export function folderBundle(folder: string): BundleSource {
  return {
    location: folder,
    async *read(path, start = 0, end = Infinity) {
      if (end > start) yield* createReadStream(join(folder, path), { start, end: end - 1 });
    },
  };
}

/** A bundle in memory, by path. */
export function memoryBundle(
  files: ReadonlyMap<string, Uint8Array>,
  location: string = 'memory',
): BundleSource {
  return {
    location,
    async *read(path, start, end) {
      const bytes = files.get(path);
      if (bytes === undefined) throw new Error(`There is no ${path}.`);
      yield bytes.subarray(start, end);
    },
  };
}

/** A bundle whose manifest has been read and whose files were what it says. */
export interface Bundle {
  readonly manifest: Manifest;
  readonly manifestBytes: Uint8Array;
  /** The bundle's identity: the hash of its manifest. */
  readonly sha256: string;
  /** Everything that may be fetched, by path. */
  readonly files: ReadonlyMap<string, FileRef>;
  readonly numBytes: number;
  readonly source: BundleSource;
  /** A file's contents, verified again. @throws IsthmusError `bundle/not-found`, `bundle/hash-mismatch` */
  readFile(file: FileRef): Promise<Uint8Array>;
}

/**
 * Opens a bundle and verifies every file, so that what is broken shows when the receiver starts.
 *
 * @throws IsthmusError `bundle/not-found` if the manifest or a file is missing, `bundle/invalid` if the manifest
 * does not fit, `bundle/hash-mismatch` if a file is not the one the manifest names.
 */
export async function openBundle(source: BundleSource): Promise<Bundle> {
  const manifestBytes = await readManifest(source);
  const manifest = parseManifest(new TextDecoder().decode(manifestBytes));
  const files = listFiles(manifest, source);
  for (const file of files.values()) {
    for await (const _ of verified(source, file)) {
      // Only the hash matters here.
    }
  }
  return {
    manifest,
    manifestBytes,
    sha256: createHash('sha256').update(manifestBytes).digest('hex'),
    files,
    numBytes: [...files.values()].reduce((sum, file) => sum + file.numBytes, 0),
    source,
    async readFile(file) {
      const parts: Uint8Array[] = [];
      for await (const part of verified(source, file)) parts.push(part);
      return concatBytes(parts);
    },
  };
}

async function readManifest(source: BundleSource): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let numBytes = 0;
  try {
    for await (const part of source.read('manifest.json')) {
      numBytes += part.byteLength;
      if (numBytes > manifestLimits.numBytes) {
        throw new IsthmusError(
          'bundle/invalid',
          `The manifest in ${source.location} is larger than ${manifestLimits.numBytes} bytes.`,
        );
      }
      parts.push(part);
    }
  } catch (error) {
    throw toIsthmusError(
      error,
      'bundle/not-found',
      `There is no bundle in ${source.location} (make one with \`isthmus split\`)`,
    );
  }
  return concatBytes(parts);
}

function listFiles(manifest: Manifest, source: BundleSource): Map<string, FileRef> {
  const files = new Map<string, FileRef>();
  const all = [
    ...manifest.segments.map((segment) => segment.file),
    ...manifest.shared,
    ...manifest.codecs.flatMap((codec) => codec.files),
  ];
  for (const file of all) {
    const known = files.get(file.path) ?? file;
    if (known.sha256 !== file.sha256 || known.numBytes !== file.numBytes || file.path === 'manifest.json') {
      throw new IsthmusError(
        'bundle/invalid',
        `The manifest in ${source.location} lists ${file.path} twice, and not the same.`,
      );
    }
    files.set(file.path, file);
  }
  return files;
}

async function* verified(source: BundleSource, file: FileRef): AsyncGenerator<Uint8Array, void, undefined> {
  const hash = createHash('sha256');
  let numBytes = 0;
  try {
    for await (const part of source.read(file.path)) {
      numBytes += part.byteLength;
      if (numBytes > file.numBytes) break;
      hash.update(part);
      yield part;
    }
  } catch (error) {
    throw toIsthmusError(
      error,
      'bundle/not-found',
      `${file.path} of the bundle in ${source.location} cannot be read; copy the bundle again`,
    );
  }
  if (numBytes !== file.numBytes || hash.digest('hex') !== file.sha256) {
    throw new IsthmusError(
      'bundle/hash-mismatch',
      `${file.path} of the bundle in ${source.location} is not what its manifest says: it was changed or cut short. Copy or split it again.`,
      { details: { path: file.path, expectedBytes: file.numBytes } },
    );
  }
}
