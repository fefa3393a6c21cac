import { maxEscapePieces } from './escape.js';
import { RansDecoder } from './rans-decoder.js';
import { RansEncoder, ransHeaderBytes, type TableChoices } from './rans-encoder.js';
import type { RansDecodingTables, RansEncodingTables } from './rans-tables.js';

/**
 * Encodes all of `values` in one stream.
 *
 * @param tables The table for all values, by number, or one for each.
 * @throws IsthmusError `usage/invalid` if a value is not in its table and cannot escape.
 *
 * @example
 * ```ts
 * const tables = [tableFromCounts([1, 6, 1], { precision: 12, minValue: -1, escapeCount: 0 })];
 * const values = Int32Array.of(0, 0, 1, 0, -1, 0, 0, 99);
 * const bytes = encodeRans(prepareEncoding(tables), values, 0);
 * const decoded = new Int32Array(8);
 * decodeRans(prepareDecoding(tables), bytes, decoded, 0); // decoded equals values
 * ```
 */
export function encodeRans(
  prepared: RansEncodingTables,
  values: Int32Array,
  tables: number | TableChoices,
): Uint8Array {
  const encoder = new RansEncoder(prepared, values.length);
  if (typeof tables === 'number') encoder.writeRun(values, 0, values.length, tables);
  else encoder.writeMixed(values, 0, values.length, tables);
  return encoder.finish();
}

/**
 * Decodes all of `out` from a stream of {@link encodeRans} with the same tables.
 *
 * @throws IsthmusError `codec/corrupt` if the stream is not whole and sound; `out` is then to be thrown away.
 */
export function decodeRans(
  prepared: RansDecodingTables,
  bytes: Uint8Array,
  out: Int32Array,
  tables: number | TableChoices,
): void {
  const decoder = new RansDecoder(prepared, bytes);
  if (typeof tables === 'number') decoder.readRun(out, 0, out.length, tables);
  else decoder.readMixed(out, 0, out.length, tables);
  decoder.finish();
}

/** The most bytes a stream of so many values can have, whatever they are: a receiver refuses longer ones. */
export function maxRansBytes(tables: RansEncodingTables | RansDecodingTables, numValues: number): number {
  // No step takes more than one 16-bit word.
  const stepsPerValue = tables.hasEscape ? 1 + maxEscapePieces : 1;
  return ransHeaderBytes + 2 * stepsPerValue * numValues;
}
