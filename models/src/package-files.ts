import { IsthmusError } from '@isthmus/core';
import type { PackageFiles } from './recipe.js';

/** @throws IsthmusError `model/invalid` if the package turns out not to hold the file. */
export function fileOf(files: PackageFiles, path: string): Uint8Array {
  const bytes = files.get(path);
  if (bytes === undefined) throw new IsthmusError('model/invalid', `The package does not hold ${path}.`);
  return bytes;
}

/** One label per line. */
export function labelsOf(files: PackageFiles, path: string): string[] {
  return new TextDecoder().decode(fileOf(files, path)).trimEnd().split(/\r?\n/);
}
