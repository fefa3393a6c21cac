import { concatBytes } from '../bytes.js';
import { RansDecoder } from '../entropy/rans-decoder.js';
import { RansEncoder } from '../entropy/rans-encoder.js';
import { prepareDecoding, prepareEncoding } from '../entropy/rans-tables.js';
import { formatTables, parseTables } from '../entropy/table-file.js';
import { type FrequencyTable, listedValues, tableFromCounts } from '../entropy/tables.js';
import type { IsthmusError } from '../errors.js';

/** Codes 0 … 2^bits − 1 of planes that lie one behind the other, row by row. */
export interface CodePlanes {
  codes: Uint8Array;
  width: number;
  height: number;
}

const precision = 12;

// Codes of more bits have their lowest ones sent as they are: those are close to random, and tables would only grow.
const maxModelledBits = 5;

// Context of a code by the sum of what is to its left and above: finer where codes are small.
const sumThresholds = [1, 2, 3, 5, 8, 13, 20] as const;
const numContexts = 8;

/** The sizes before the tables and before the rANS stream. */
const sizeBytes = 2 + 4;

/** The most bytes {@link writeCodes} makes of so many codes. */
export function maxCodeBytes(numCodes: number, bits: number): number {
  const tables = 8 + numContexts * (4 + 4 * alphabetOf(bits));
  return sizeBytes + tables + 8 + 2 * numCodes + Math.ceil((numCodes * plainBitsOf(bits)) / 8);
}

/**
 * Codes as bytes: eight tables of frequencies counted in these very codes, the codes by two-way rANS with the table
 * that the codes to the left and above select, and the plain low bits of codes that have any.
 */
export function writeCodes(planes: readonly CodePlanes[], bits: number): Uint8Array {
  const numCodes = planes.reduce((sum, { codes }) => sum + codes.length, 0);
  const alphabet = alphabetOf(bits);
  const plainBits = plainBitsOf(bits);
  const values = new Int32Array(numCodes);
  const tableOf = new Uint8Array(numCodes);
  const counts = Array.from({ length: numContexts }, () => new Float64Array(alphabet));
  const plain = new PlainWriter(numCodes * plainBits);
  let at = 0;
  for (const { codes, width, height } of planes) {
    const start = at;
    const contexts = new Contexts(values, start, width, height);
    for (let i = 0; i < codes.length; i++, at++) {
      const code = codes[i]!;
      const value = code === 0 ? 0 : 1 + ((code - 1) >> plainBits);
      if (code > 0 && plainBits > 0) plain.write(code - 1, plainBits);
      const context = contexts.next();
      values[at] = value;
      tableOf[at] = context;
      counts[context]![value]! += 1;
    }
  }
  const tables = counts.map((counted) => tableFromCounts(trimEnd(counted), { precision, minValue: 0 }));
  const encoder = new RansEncoder(prepareEncoding(tables), numCodes);
  encoder.writeMixed(values, 0, numCodes, tableOf);
  const tableBytes = formatTables(tables);
  const stream = encoder.finish();
  const sizes = new DataView(new ArrayBuffer(sizeBytes));
  sizes.setUint16(0, tableBytes.byteLength, true);
  sizes.setUint32(2, stream.byteLength, true);
  return concatBytes([new Uint8Array(sizes.buffer), tableBytes, stream, plain.finish()]);
}

/**
 * What {@link writeCodes} wrote, into `planes`.
 *
 * @throws IsthmusError `codec/corrupt`, or what `fail` makes
 */
export function readCodes(
  bytes: Uint8Array,
  planes: readonly CodePlanes[],
  bits: number,
  fail: (what: string) => IsthmusError,
): void {
  if (bytes.byteLength < sizeBytes) throw fail('its codes end early');
  const view = new DataView(bytes.buffer, bytes.byteOffset, sizeBytes);
  const streamAt = sizeBytes + view.getUint16(0, true);
  const plainAt = streamAt + view.getUint32(2, true);
  if (plainAt > bytes.byteLength) throw fail('its codes end early');
  const tables = parseTables(bytes.subarray(sizeBytes, streamAt), 'codec/corrupt');
  if (!tables.every((table) => fits(table, bits)) || tables.length !== numContexts) {
    throw fail('its tables are for other codes');
  }
  const decoder = new RansDecoder(prepareDecoding(tables), bytes.subarray(streamAt, plainAt));
  const plain = new PlainReader(bytes.subarray(plainAt), fail);
  const plainBits = plainBitsOf(bits);
  const top = 2 ** bits - 1;
  for (const { codes, width, height } of planes) {
    const values = new Int32Array(codes.length);
    const contexts = new Contexts(values, 0, width, height);
    for (let i = 0; i < codes.length; i++) {
      const value = decoder.readOne(contexts.next());
      values[i] = value;
      if (value === 0) continue;
      const low = plainBits > 0 ? plain.read(plainBits) : 0;
      codes[i] = Math.min(top, 1 + ((value - 1) << plainBits) + low);
    }
  }
  decoder.finish();
  plain.finish();
}

function plainBitsOf(bits: number): number {
  return Math.max(0, bits - maxModelledBits);
}

function alphabetOf(bits: number): number {
  // Zero, and 2^bits − 1 others in groups of 2^plainBits.
  return 1 + Math.ceil((2 ** bits - 1) / 2 ** plainBitsOf(bits));
}

function fits(table: FrequencyTable, bits: number): boolean {
  const { minValue, hasEscape } = table;
  return (
    table.precision === precision && minValue === 0 && !hasEscape && listedValues(table) <= alphabetOf(bits)
  );
}

// Values that do not occur at the end of the alphabet need not be listed; one value must.
function trimEnd(counts: Float64Array): Float64Array {
  let length = counts.length;
  while (length > 1 && counts[length - 1] === 0) length--;
  return counts.subarray(0, length);
}

const contextOfSum: Uint8Array = Uint8Array.from({ length: 2 * (1 + 2 ** maxModelledBits) }, (_, sum) => {
  const context = sumThresholds.findIndex((threshold) => sum < threshold);
  return context < 0 ? sumThresholds.length : context;
});

/** The contexts of planes, one after the other; looks only at values before the one asked for. */
class Contexts {
  readonly #values: Int32Array;
  readonly #width: number;
  readonly #height: number;
  #at: number;
  #x = 0;
  #y = 0;

  constructor(values: Int32Array, start: number, width: number, height: number) {
    this.#values = values;
    this.#at = start;
    this.#width = width;
    this.#height = height;
  }

  next(): number {
    const at = this.#at++;
    const left = this.#x > 0 ? this.#values[at - 1]! : 0;
    const above = this.#y > 0 ? this.#values[at - this.#width]! : 0;
    if (++this.#x === this.#width) {
      this.#x = 0;
      if (++this.#y === this.#height) this.#y = 0;
    }
    return contextOfSum[left + above]!;
  }
}

class PlainWriter {
  readonly #bytes: Uint8Array;
  #numBits = 0;

  constructor(maxBits: number) {
    this.#bytes = new Uint8Array(Math.ceil(maxBits / 8) + 1);
  }

  write(bits: number, count: number): void {
    const at = this.#numBits >> 3;
    const shifted = (bits & ((1 << count) - 1)) << (this.#numBits & 7);
    this.#bytes[at]! |= shifted;
    this.#bytes[at + 1]! |= shifted >> 8;
    this.#numBits += count;
  }

  finish(): Uint8Array {
    return this.#bytes.subarray(0, (this.#numBits + 7) >> 3);
  }
}

class PlainReader {
  readonly #bytes: Uint8Array;
  readonly #fail: (what: string) => IsthmusError;
  #numBits = 0;

  constructor(bytes: Uint8Array, fail: (what: string) => IsthmusError) {
    this.#bytes = bytes;
    this.#fail = fail;
  }

  read(count: number): number {
    const at = this.#numBits >> 3;
    const word = (this.#bytes[at] ?? 0) | ((this.#bytes[at + 1] ?? 0) << 8);
    const shift = this.#numBits & 7;
    this.#numBits += count;
    return (word >> shift) & ((1 << count) - 1);
  }

  /** That exactly the bytes there are were read. */
  finish(): void {
    if ((this.#numBits + 7) >> 3 !== this.#bytes.byteLength)
      throw this.#fail('its low bits are not as many as its codes');
  }
}
