import type { CodecEntry, Cut } from '@isthmus/core';

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

function pathsAt(cuts: readonly Cut[]): CodecEntry['paths'] {
  return cuts.map(({ index }) => ({ from: index, to: index }));
}
