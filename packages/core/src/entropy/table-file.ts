import { sha256Hex } from '../bytes.js';
import { type ErrorCode, IsthmusError } from '../errors.js';
import { BitReader, BitWriter, foldSign, unfoldSign } from './bits.js';
import { checkTables, type FrequencyTable, findTableFault, tableLimits } from './tables.js';

const version = 1;
const headerBytes = 4;

/**
 * Tables as bytes, for a bundle or a payload; the format is in `docs/entropy.md`. A typical table takes about half a
 * byte for a rare value and one to two for a frequent one. The same tables always give the same bytes.
 *
 * @throws IsthmusError `usage/invalid` for tables that are not sound or do not go together.
 */
export function formatTables(tables: readonly FrequencyTable[]): Uint8Array {
  checkTables(tables);
  const bits = new BitWriter();
  bits.write(version, 8);
  bits.write(tables[0]!.precision, 8);
  bits.write(tables.length, 16);
  for (const { minValue, hasEscape, frequencies } of tables) {
    bits.write(hasEscape ? 1 : 0, 1);
    bits.writeGamma(foldSign(minValue) + 1);
    bits.writeGamma(frequencies.length);
    let previous = 0;
    for (const frequency of frequencies) {
      // Neighbours are of about the same size, so the number of bits changes little from one to the next.
      const length = 31 - Math.clz32(frequency);
      bits.writeGamma(foldSign(length - previous) + 1);
      bits.write(frequency, length);
      previous = length;
    }
  }
  return bits.finish();
}

/**
 * Tables from the bytes of {@link formatTables}. Sizes are checked against the bytes at hand and
 * {@link tableLimits} before anything is allocated; whatever passes is sound.
 *
 * @param code The code of the error for bytes that are no tables: `codec/corrupt` where they came in a payload.
 * @throws IsthmusError with that code.
 */
export function parseTables(bytes: Uint8Array, code: ErrorCode = 'bundle/invalid'): FrequencyTable[] {
  const fail = (what: string) => new IsthmusError(code, `These entropy tables are not sound: ${what}.`);
  if (bytes.byteLength < headerBytes) throw fail('they end too early');
  const [foundVersion = 0, precision = 0, countLow = 0, countHigh = 0] = bytes;
  if (foundVersion !== version) throw fail(`they are of version ${foundVersion}, not ${version}`);
  const { minPrecision, maxPrecision, maxTables, maxSlots } = tableLimits;
  if (precision < minPrecision || precision > maxPrecision) throw fail(`their precision is ${precision}`);
  const numTables = countLow | (countHigh << 8);
  if (numTables < 1 || numTables > maxTables || numTables * 2 ** precision > maxSlots) {
    throw fail(`they are ${numTables} of precision ${precision}, which is none or too many`);
  }
  const bits = new BitReader(bytes.subarray(headerBytes), fail);
  const tables: FrequencyTable[] = [];
  while (tables.length < numTables) tables.push(parseTable(bits, precision, fail));
  bits.finish();
  return tables;
}

function parseTable(bits: BitReader, precision: number, fail: (what: string) => Error): FrequencyTable {
  const hasEscape = bits.read(1) === 1;
  const minValue = unfoldSign(bits.readGamma() - 1);
  const count = bits.readGamma();
  // Every frequency takes a bit at least.
  if (count > 2 ** precision || count > bits.bitsLeft) throw fail(`one lists ${count} values`);
  const frequencies = new Uint16Array(count);
  let length = 0;
  for (let i = 0; i < count; i++) {
    length += unfoldSign(bits.readGamma() - 1);
    if (length < 0 || length > precision) throw fail('a frequency is out of range');
    frequencies[i] = 2 ** length + bits.read(length);
  }
  const table: FrequencyTable = { precision, minValue, hasEscape, frequencies };
  const fault = findTableFault(table);
  if (fault !== undefined) throw fail(`of one ${fault}`);
  return table;
}

/**
 * The identity of tables, for the handshake: two ends whose hashes differ must not talk. Lower-case hexadecimal
 * SHA-256 of {@link formatTables}.
 *
 * @throws IsthmusError `runtime/unavailable` in a page without `crypto.subtle`.
 */
export function tablesSha256(tables: readonly FrequencyTable[]): Promise<string> {
  return sha256Hex(formatTables(tables));
}
