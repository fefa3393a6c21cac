import { composeSpan, describeSpan, IsthmusError, type Manifest, type Span } from '@isthmus/core';

/** A split model: what `manifest.json` holds, and every file it names, by path. */
export interface Bundle {
  manifest: Manifest;
  files: ReadonlyMap<string, Uint8Array>;
}

/**
 * The bytes of a span's files, for `composeSpan`.
 *
 * @throws IsthmusError `bundle/not-found` if the bundle lacks one.
 */
export function spanBodies(bundle: Bundle, span: Span): Uint8Array[] {
  return span.files.map(({ path }) => {
    const bytes = bundle.files.get(path);
    if (bytes === undefined) throw new IsthmusError('bundle/not-found', `The bundle lacks its file ${path}.`);
    return bytes;
  });
}

/**
 * The ONNX model of the segments from cut `from` to cut `to`.
 *
 * @throws IsthmusError `bundle/no-such-cut`, `bundle/not-found`
 *
 * @example
 * ```ts
 * const session = await runtime.load(bundleSpan(bundle, 0, 2));
 * ```
 */
export function bundleSpan(bundle: Bundle, from: number, to: number): Uint8Array {
  const span = describeSpan(bundle.manifest, from, to);
  return composeSpan(bundle.manifest, span, spanBodies(bundle, span));
}
