import { IsthmusError, type Manifest, manifestLimits } from '@isthmus/core';
import type { BuiltCodec } from '../build-codec.js';
import type { Bundle } from '../bundle.js';

/**
 * A bundle with one codec more, behind those it has.
 *
 * @throws IsthmusError `usage/invalid` if it has one of that name, or as many as there may be
 */
export function addCodec({ manifest, files }: Bundle, codec: BuiltCodec): Bundle {
  checkCodecId(manifest, codec.entry.id);
  return {
    manifest: { ...manifest, codecs: [...manifest.codecs, codec.entry] },
    files: new Map([...files, ...codec.files]),
  };
}

/**
 * A bundle without one of its codecs, and without the files that only this one used.
 *
 * @throws IsthmusError `usage/invalid` if there is no such codec, or if it is one that every bundle has
 */
export function removeCodec({ manifest, files }: Bundle, id: string): Bundle {
  const entry = manifest.codecs.find((codec) => codec.id === id);
  if (entry === undefined || entry.files.length === 0) {
    const removable = manifest.codecs.filter((codec) => codec.files.length > 0).map((codec) => codec.id);
    throw new IsthmusError(
      'usage/invalid',
      `${manifest.model} has no codec "${id}" that could be removed; it has: ${removable.join(', ') || 'none'}.`,
    );
  }
  const codecs = manifest.codecs.filter((codec) => codec !== entry);
  const kept = new Set(codecs.flatMap((codec) => codec.files.map(({ path }) => path)));
  const dropped = new Set(entry.files.map(({ path }) => path).filter((path) => !kept.has(path)));
  return {
    manifest: { ...manifest, codecs },
    files: new Map([...files].filter(([path]) => !dropped.has(path))),
  };
}

/** @throws IsthmusError `usage/invalid` for a name that a new codec cannot have */
export function checkCodecId({ model, codecs }: Manifest, id: string): void {
  if (!/^[a-z0-9][a-z0-9._-]{0,99}$/.test(id)) {
    throw new IsthmusError(
      'usage/invalid',
      `A codec's name has lower-case letters, digits, ".", "_" and "-"; ${JSON.stringify(id)} does not do.`,
    );
  }
  if (codecs.some((codec) => codec.id === id)) {
    throw new IsthmusError(
      'usage/invalid',
      `${model} has a codec ${id} already; remove it, or take another name.`,
    );
  }
  if (codecs.length >= manifestLimits.codecs) {
    throw new IsthmusError(
      'usage/invalid',
      `A bundle has at most ${manifestLimits.codecs} codecs; remove one.`,
    );
  }
}
