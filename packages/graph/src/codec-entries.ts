import type { CodecEntry, Cut, Manifest, PictureFormat } from '@isthmus/core';

/**
 * The codecs that need no training and no files: `raw` at every cut but the last, and `quantized` at those that
 * carry float32. At the last cut there is nothing left to compute, so nothing is sent.
 */
export function codecEntries(cuts: readonly Cut[]): CodecEntry[] {
  const sendable = cuts.slice(0, -1);
  const carriesFloats = sendable.filter((cut) => cut.tensors.some(({ type }) => type === 'float32'));
  const base = { version: 1, tablesSha256: null, files: [] };
  const raw: CodecEntry = {
    ...base,
    id: 'raw',
    kind: 'raw',
    paths: pathsAt(sendable),
    levels: ['float32', 'float16'].map((dtype) => ({ name: dtype, params: { dtype } })),
  };
  const quantized: CodecEntry = {
    ...base,
    id: 'quantized',
    kind: 'quantized',
    paths: pathsAt(carriesFloats),
    levels: [8, 6, 4, 3, 2].map((bits) => ({ name: `${bits}-bit`, params: { bits } })),
  };
  return carriesFloats.length === 0 ? [raw] : [raw, quantized];
}

// Down to where hardly anything is recognized any more. The same number means different things to each encoder.
const qualities: Readonly<Record<PictureFormat, readonly number[]>> = {
  jpeg: [95, 90, 80, 70, 60, 50, 40, 30, 20, 10],
  webp: [95, 90, 80, 70, 60, 50, 35, 20, 10, 1],
  avif: [90, 80, 70, 60, 50, 45, 40, 30, 20, 10],
};

/**
 * `jpeg`, `webp` and `avif`, all of kind `pixels`, for models that take a picture: a preprocessing is known, and cut
 * 0 is the tensor it makes. Empty for others.
 */
export function pixelsEntries({ preprocess, cuts }: Pick<Manifest, 'preprocess' | 'cuts'>): CodecEntry[] {
  const [input, ...others] = cuts[0]!.tensors;
  const isPicture =
    preprocess !== null &&
    others.length === 0 &&
    input!.type === 'float32' &&
    `${input!.shape}` === `1,3,${preprocess.height},${preprocess.width}`;
  if (!isPicture) return [];
  return Object.entries(qualities).map(([format, levels]) => ({
    id: format,
    kind: 'pixels',
    version: 1,
    paths: [{ from: 0, to: 0 }],
    levels: levels.map((quality) => ({ name: `q${quality}`, params: { format, quality } })),
    tablesSha256: null,
    files: [],
  }));
}

function pathsAt(cuts: readonly Cut[]): CodecEntry['paths'] {
  return cuts.map(({ index }) => ({ from: index, to: index }));
}
