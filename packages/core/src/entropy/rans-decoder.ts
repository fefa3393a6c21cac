import { IsthmusError } from '../errors.js';
import { readEscape } from './escape.js';
import { ransHeaderBytes, ransLowest, type TableChoices } from './rans-encoder.js';
import type { RansDecodingTables } from './rans-tables.js';

/** Where a decoder is: what a loop over single values keeps in local variables. */
export interface SuspendedRans {
  /** The stream, and two words behind its end. */
  readonly words: Uint16Array;
  /** How many words the stream has, and how many of them were read. */
  readonly end: number;
  readonly next: number;
  /** The state of the next value, and that of the one after it. */
  readonly state: number;
  readonly otherState: number;
}

/**
 * Decodes what `RansEncoder` wrote, from the first value to the last. The caller says how many values and which
 * table for each, so contexts may depend on everything decoded before.
 *
 * Whatever the bytes, a call takes time in proportion to the values asked for, reads and writes only inside its
 * arrays, and allocates nothing. A stream that was cut short, extended or changed ends in `codec/corrupt`, at the
 * latest in {@link RansDecoder.finish}, unless the changed bytes are themselves the stream of other values the
 * tables can code (well under 1 % of random changes); so packets carry a CRC besides.
 *
 * @example
 * ```ts
 * const decoder = new RansDecoder(prepareDecoding(tables), bytes);
 * decoder.readRun(first, 0, first.length, 0);
 * decoder.readRun(second, 0, second.length, 1);
 * decoder.finish();
 * ```
 */
export class RansDecoder {
  readonly #tables: RansDecodingTables;
  /** Two words longer than the stream, so that reading ahead stays inside. */
  readonly #words: Uint16Array;
  readonly #end: number;
  #next: number = ransHeaderBytes / 2;
  /** Of values with an even index, and of the others. An array, since such numbers do not fit all engines' fields. */
  readonly #states: Int32Array;
  /** The index of the state whose turn it is. */
  #turn: 0 | 1 = 0;

  /** @throws IsthmusError `codec/corrupt` if the bytes cannot be a stream. */
  constructor(tables: RansDecodingTables, bytes: Uint8Array) {
    if (bytes.byteLength < ransHeaderBytes || bytes.byteLength % 2 !== 0) {
      throw corrupt(`${bytes.byteLength} bytes cannot be one`);
    }
    this.#tables = tables;
    this.#end = bytes.byteLength / 2;
    this.#words = new Uint16Array(this.#end + 2);
    new Uint8Array(this.#words.buffer).set(bytes);
    this.#states = new Int32Array(this.#words.buffer.slice(0, ransHeaderBytes));
    if (this.#states[0]! < ransLowest || this.#states[1]! < ransLowest)
      throw corrupt('its states are out of range');
  }

  /**
   * Reads `out[from]` … `out[to − 1]`, all with one table.
   *
   * @throws IsthmusError `codec/corrupt`; `usage/invalid` for a table or a range that does not exist.
   */
  readRun(out: Int32Array, from: number, to: number, table: number): void {
    checkRange(out.length, from, to);
    const { slots, entries, info, precision, numTables } = this.#tables;
    if (!Number.isInteger(table) || table < 0 || table >= numTables) throw noSuchTable(table, numTables);
    const base = table << precision;
    const min = info[4 * table]!;
    const firstOfTable = info[4 * table + 2]!;
    const escapeSymbol = info[4 * table + 3]!;
    const mask = (1 << precision) - 1;
    let i = from;
    if (i < to && this.#turn === 1) out[i++] = this.readOne(table);
    const words = this.#words;
    const end = this.#end;
    let next = this.#next;
    let even = this.#states[0]!;
    let odd = this.#states[1]!;
    for (const stop = to - 2; i <= stop; i += 2) {
      const firstSlot = even & mask;
      const secondSlot = odd & mask;
      const first = slots[base + firstSlot]!;
      const second = slots[base + secondSlot]!;
      if (first === escapeSymbol || second === escapeSymbol) {
        this.#save(next, even, odd);
        out[i] = this.readOne(table);
        out[i + 1] = this.readOne(table);
        next = this.#next;
        even = this.#states[0]!;
        odd = this.#states[1]!;
        continue;
      }
      out[i] = min + first;
      out[i + 1] = min + second;
      let entry = entries[firstOfTable + first]!;
      even = Math.imul(entry & 0xffff, even >>> precision) + firstSlot - (entry >>> 16);
      // A state below its least takes a word in. A branch would be mispredicted, so the word is always read,
      // and masked away if it was not needed.
      let wanting = (even - ransLowest) >> 31;
      even = (even << (wanting & 16)) | (words[next]! & wanting);
      next -= wanting;
      entry = entries[firstOfTable + second]!;
      odd = Math.imul(entry & 0xffff, odd >>> precision) + secondSlot - (entry >>> 16);
      wanting = (odd - ransLowest) >> 31;
      odd = (odd << (wanting & 16)) | (words[next]! & wanting);
      next -= wanting;
      if (next > end) throw corrupt('it ends too early');
    }
    this.#save(next, even, odd);
    if (i < to) out[i] = this.readOne(table);
  }

  /**
   * Reads `out[from]` … `out[to − 1]`, each with the table that `tableOf` has at the same index.
   *
   * @throws IsthmusError as {@link readRun}
   */
  readMixed(out: Int32Array, from: number, to: number, tableOf: TableChoices): void {
    checkRange(Math.min(out.length, tableOf.length), from, to);
    const { slots, entries, info, precision, numTables } = this.#tables;
    const mask = (1 << precision) - 1;
    let i = from;
    if (i < to && this.#turn === 1) {
      out[i] = this.readOne(tableOf[i]!);
      i++;
    }
    const words = this.#words;
    const end = this.#end;
    let next = this.#next;
    let even = this.#states[0]!;
    let odd = this.#states[1]!;
    for (const stop = to - 2; i <= stop; i += 2) {
      const firstTable = tableOf[i]!;
      const secondTable = tableOf[i + 1]!;
      if (firstTable >= numTables) throw noSuchTable(firstTable, numTables);
      if (secondTable >= numTables) throw noSuchTable(secondTable, numTables);
      const firstSlot = even & mask;
      const secondSlot = odd & mask;
      const first = slots[(firstTable << precision) + firstSlot]!;
      const second = slots[(secondTable << precision) + secondSlot]!;
      if (first === info[4 * firstTable + 3]! || second === info[4 * secondTable + 3]!) {
        this.#save(next, even, odd);
        out[i] = this.readOne(firstTable);
        out[i + 1] = this.readOne(secondTable);
        next = this.#next;
        even = this.#states[0]!;
        odd = this.#states[1]!;
        continue;
      }
      out[i] = info[4 * firstTable]! + first;
      out[i + 1] = info[4 * secondTable]! + second;
      // As in readRun.
      let entry = entries[info[4 * firstTable + 2]! + first]!;
      even = Math.imul(entry & 0xffff, even >>> precision) + firstSlot - (entry >>> 16);
      let wanting = (even - ransLowest) >> 31;
      even = (even << (wanting & 16)) | (words[next]! & wanting);
      next -= wanting;
      entry = entries[info[4 * secondTable + 2]! + second]!;
      odd = Math.imul(entry & 0xffff, odd >>> precision) + secondSlot - (entry >>> 16);
      wanting = (odd - ransLowest) >> 31;
      odd = (odd << (wanting & 16)) | (words[next]! & wanting);
      next -= wanting;
      if (next > end) throw corrupt('it ends too early');
    }
    this.#save(next, even, odd);
    if (i < to) out[i] = this.readOne(tableOf[i]!);
  }

  /**
   * Reads one value, where the table depends on the value just before.
   *
   * @throws IsthmusError as {@link readRun}
   */
  readOne(table: number): number {
    const { slots, entries, info, precision, numTables } = this.#tables;
    if (!Number.isInteger(table) || table < 0 || table >= numTables) throw noSuchTable(table, numTables);
    const state = this.#states[this.#turn]!;
    const slot = state & ((1 << precision) - 1);
    const symbol = slots[(table << precision) + slot]!;
    const entry = entries[info[4 * table + 2]! + symbol]!;
    this.#take(Math.imul(entry & 0xffff, state >>> precision) + slot - (entry >>> 16));
    const min = info[4 * table]!;
    const value =
      symbol === info[4 * table + 3]
        ? readEscape(this, min, min + info[4 * table + 1]! - 1, corrupt)
        : min + symbol;
    this.#turn = this.#turn === 0 ? 1 : 0;
    return value;
  }

  /** Reads plain bits, 0 to 15, of the value under way: for escapes. */
  readBits(count: number): number {
    const state = this.#states[this.#turn]!;
    this.#take(state >>> count);
    return state & ((1 << count) - 1);
  }

  /** For a loop of this package that reads single values faster than by {@link readOne}; it ends in {@link resume}. */
  suspend(): SuspendedRans {
    const turn = this.#turn;
    return {
      words: this.#words,
      end: this.#end,
      next: this.#next,
      state: this.#states[turn]!,
      otherState: this.#states[1 - turn]!,
    };
  }

  /** Goes on where such a loop has come to, its states as {@link suspend} gave them. */
  resume(next: number, state: number, otherState: number): void {
    this.#next = next;
    this.#states[this.#turn] = state;
    this.#states[1 - this.#turn] = otherState;
  }

  /**
   * Call it after the last value: it checks that the stream ends here, and as it began.
   *
   * @throws IsthmusError `codec/corrupt` if anything is left over or the states are not those the encoder began with.
   */
  finish(): void {
    if (this.#next !== this.#end) throw corrupt('it has bytes left over');
    if (this.#states[0] !== ransLowest || this.#states[1] !== ransLowest)
      throw corrupt('it does not end as it began');
  }

  #save(next: number, even: number, odd: number): void {
    this.#next = next;
    this.#states[0] = even;
    this.#states[1] = odd;
  }

  /** The state whose turn it is, after a step, with a word taken in if it needs one. */
  #take(state: number): void {
    let full = state;
    if (state < ransLowest) {
      if (this.#next >= this.#end) throw corrupt('it ends too early');
      full = (state << 16) | this.#words[this.#next++]!;
    }
    this.#states[this.#turn] = full;
  }
}

function corrupt(what: string): IsthmusError {
  return new IsthmusError('codec/corrupt', `An entropy-coded stream is corrupt: ${what}.`);
}

function noSuchTable(table: number, numTables: number): IsthmusError {
  return new IsthmusError('usage/invalid', `There is no table ${table}, only 0 to ${numTables - 1}.`);
}

function checkRange(length: number, from: number, to: number): void {
  if (!(Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from <= to && to <= length)) {
    throw new IsthmusError('usage/invalid', `There are no values ${from} to ${to} in an array of ${length}.`);
  }
}
