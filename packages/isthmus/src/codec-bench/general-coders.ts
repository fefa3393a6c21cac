import * as zlib from 'node:zlib';
import type { Coder } from './coders.js';

interface Zstd {
  zstdCompressSync: (bytes: Uint8Array) => Uint8Array;
  zstdDecompressSync: (bytes: Uint8Array) => Uint8Array;
}

function findZstd(): Zstd | undefined {
  return 'zstdCompressSync' in zlib ? (zlib as unknown as Zstd) : undefined;
}

/** Why a coder cannot take part, by name. */
export function missingCoders(): Record<string, string> {
  const reason = `not in this Node (${process.version}); node:zlib has it from 22.15 on`;
  return findZstd() === undefined ? { 'zstd 3': reason } : {};
}

/** Node's own compressors, on one byte for each code, which is what serves them best. */
export function generalPurposeCoders(): Coder[] {
  const make = (
    name: string,
    compress: (bytes: Uint8Array) => Uint8Array,
    expand: (bytes: Uint8Array) => Uint8Array,
  ): Coder => ({
    name,
    encode: (codes) => compress(Uint8Array.from(codes)),
    decode: (bytes) => Int32Array.from(expand(bytes)),
  });
  const zstd = findZstd();
  return [
    make(
      'zlib 1',
      (bytes) => zlib.deflateRawSync(bytes, { level: 1 }),
      (bytes) => zlib.inflateRawSync(bytes),
    ),
    make(
      'zlib 6',
      (bytes) => zlib.deflateRawSync(bytes, { level: 6 }),
      (bytes) => zlib.inflateRawSync(bytes),
    ),
    ...(zstd === undefined ? [] : [make('zstd 3', zstd.zstdCompressSync, zstd.zstdDecompressSync)]),
  ];
}
