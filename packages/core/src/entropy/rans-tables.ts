import { checkTables, type FrequencyTable, listedValues } from './tables.js';

/** Frequency tables laid out for `RansEncoder`. Make it once, use it for every frame. */
export interface RansEncodingTables {
  readonly precision: number;
  readonly numTables: number;
  readonly hasEscape: boolean;
  /** Per table: its least value, how many it lists, the index of its first entry, 1 if it has an escape. */
  readonly info: Int32Array;
  /** Per value: its frequency in the low 16 bits, the sum of those before it in the upper. */
  readonly entries: Int32Array;
}

/** Frequency tables laid out for `RansDecoder`. Make it once, use it for every frame. */
export interface RansDecodingTables {
  readonly precision: number;
  readonly numTables: number;
  readonly hasEscape: boolean;
  /** Per table: its least value, how many it lists, the index of its first entry, the number of its escape or −1. */
  readonly info: Int32Array;
  /** For each of 2^precision slots of each table, whose it is: the number of a value within its table. */
  readonly slots: Uint8Array | Uint16Array;
  /**
   * Per value, escapes included: its frequency in the low 16 bits, its first slot in the upper. Apart from the
   * slots, since those of many tables do not fit the caches if they hold more than they must.
   */
  readonly entries: Int32Array;
}

/**
 * Lays out tables for encoding.
 *
 * @throws IsthmusError `usage/invalid` for tables that are not sound or do not go together.
 */
export function prepareEncoding(tables: readonly FrequencyTable[]): RansEncodingTables {
  checkTables(tables);
  const info = new Int32Array(4 * tables.length);
  const entries = new Int32Array(tables.reduce((sum, { frequencies }) => sum + frequencies.length, 0));
  let entry = 0;
  tables.forEach((table, t) => {
    info.set([table.minValue, listedValues(table), entry, table.hasEscape ? 1 : 0], 4 * t);
    let start = 0;
    for (const frequency of table.frequencies) {
      entries[entry++] = frequency | (start << 16);
      start += frequency;
    }
  });
  return {
    precision: tables[0]!.precision,
    numTables: tables.length,
    hasEscape: anyEscape(tables),
    info,
    entries,
  };
}

/**
 * Lays out tables for decoding.
 *
 * @throws IsthmusError `usage/invalid` for tables that are not sound or do not go together.
 */
export function prepareDecoding(tables: readonly FrequencyTable[]): RansDecodingTables {
  checkTables(tables);
  const { precision } = tables[0]!;
  const largest = Math.max(...tables.map(({ frequencies }) => frequencies.length));
  const slots = new (largest <= 256 ? Uint8Array : Uint16Array)(tables.length << precision);
  const info = new Int32Array(4 * tables.length);
  const entries = new Int32Array(tables.reduce((sum, { frequencies }) => sum + frequencies.length, 0));
  let entry = 0;
  tables.forEach((table, t) => {
    const listed = listedValues(table);
    info.set([table.minValue, listed, entry, table.hasEscape ? listed : -1], 4 * t);
    let start = 0;
    table.frequencies.forEach((frequency, symbol) => {
      const first = (t << precision) + start;
      slots.fill(symbol, first, first + frequency);
      entries[entry++] = frequency | (start << 16);
      start += frequency;
    });
  });
  return { precision, numTables: tables.length, hasEscape: anyEscape(tables), info, slots, entries };
}

function anyEscape(tables: readonly FrequencyTable[]): boolean {
  return tables.some((table) => table.hasEscape);
}
