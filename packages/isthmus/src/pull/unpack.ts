import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { concatBytes, IsthmusError, toIsthmusError } from '@isthmus/core';
import { extract } from 'tar-stream';

/**
 * The named files of an npm tarball, by their path without the leading folder. Nothing is written to the disk,
 * so names in the archive cannot lead anywhere.
 *
 * @throws IsthmusError `pull/integrity` if the archive is damaged, lacks a file or unpacks to more than
 * `maxBytes`.
 */
export async function unpackFiles(
  tarball: string,
  paths: readonly string[],
  maxBytes: number,
): Promise<Map<string, Uint8Array>> {
  const wanted = new Set(paths);
  const found = new Map<string, Uint8Array>();
  const entries = extract();
  let numBytes = 0;
  const collect = async (): Promise<void> => {
    for await (const entry of entries) {
      const path = entry.header.name.replace(/^[^/]*\//, '');
      const chunks: Uint8Array[] = [];
      for await (const chunk of entry as AsyncIterable<Uint8Array>) {
        if (!wanted.has(path)) continue;
        numBytes += chunk.byteLength;
        if (numBytes > maxBytes) {
          throw new IsthmusError('pull/integrity', `${tarball} unpacks to more than ${maxBytes} bytes.`);
        }
        chunks.push(chunk);
      }
      if (wanted.has(path)) found.set(path, concatBytes(chunks));
    }
  };
  try {
    const archive = entries as unknown as NodeJS.WritableStream;
    await Promise.all([pipeline(createReadStream(tarball), createGunzip(), archive), collect()]);
  } catch (error) {
    throw toIsthmusError(error, 'pull/integrity', `${tarball} is not a readable package`);
  }
  const missing = paths.filter((path) => !found.has(path));
  if (missing.length > 0) {
    throw new IsthmusError('pull/integrity', `${tarball} lacks ${missing.join(', ')}.`);
  }
  return found;
}
