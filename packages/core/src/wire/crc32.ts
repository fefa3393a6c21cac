// CRC-32 of ISO 3309 and zlib (reflected polynomial 0xEDB88320), sixteen bytes a step ("slicing by 16"): table k,
// 256 entries from 256 · k, gives what a byte does to the sum k bytes further on.
const tables: Int32Array = makeTables();

function makeTables(): Int32Array {
  const all = new Int32Array(16 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
    all[byte] = value;
  }
  for (let i = 256; i < all.length; i++) {
    const previous = all[i - 256]!;
    all[i] = (previous >>> 8) ^ all[previous & 255]!;
  }
  return all;
}

/**
 * CRC-32 as an unsigned number, the same as zlib's.
 *
 * @example
 * ```ts
 * crc32(new TextEncoder().encode('123456789')); // 0xcbf43926
 * ```
 */
export function crc32(bytes: Uint8Array): number {
  if (bytes.length < 32) return ~crcOfBytes(-1, bytes, 0, bytes.length) >>> 0;
  // Read as words, which must be aligned; they are little-endian on every platform that runs JavaScript today.
  const head = -bytes.byteOffset & 3;
  const words = new Int32Array(bytes.buffer, bytes.byteOffset + head, ((bytes.length - head) >> 4) << 2);
  let crc = crcOfBytes(-1, bytes, 0, head);
  for (let i = 0; i < words.length; i += 4) {
    crc =
      crcOfWord(crc ^ words[i]!, 3072) ^
      crcOfWord(words[i + 1]!, 2048) ^
      crcOfWord(words[i + 2]!, 1024) ^
      crcOfWord(words[i + 3]!, 0);
  }
  return ~crcOfBytes(crc, bytes, head + words.byteLength, bytes.length) >>> 0;
}

// What four bytes do to the sum; the last of them by the table at `base`.
function crcOfWord(word: number, base: number): number {
  return (
    tables[base + 768 + (word & 255)]! ^
    tables[base + 512 + ((word >>> 8) & 255)]! ^
    tables[base + 256 + ((word >>> 16) & 255)]! ^
    tables[base + (word >>> 24)]!
  );
}

function crcOfBytes(start: number, bytes: Uint8Array, from: number, to: number): number {
  let crc = start;
  for (let i = from; i < to; i++) crc = (crc >>> 8) ^ tables[(crc ^ bytes[i]!) & 255]!;
  return crc;
}
