import { IsthmusError } from '../errors.js';
import { escapePieces, maxEscapePieces } from './escape.js';
import type { RansEncodingTables } from './rans-tables.js';

/** The least state between two values; states are below 2^31, so that every step is 32-bit integer arithmetic. */
export const ransLowest = 32_768;

/** The two final states, 32 bits each, before the 16-bit words. */
export const ransHeaderBytes = 8;

/** Which table each value is coded with. */
export type TableChoices = Uint8Array | Uint16Array;

/**
 * Encodes integers with static tables, by two interleaved 32-bit rANS states that share one sequence of 16-bit
 * words (Duda, arXiv 1311.2540; Giesen, arXiv 1402.3392). The exact stream is in `docs/entropy.md`.
 *
 * rANS is last in, first out: what is to be read first is **written last**. Calls come in reverse order, and each
 * takes its values from the last to the first. For a whole array at once there is {@link encodeRans}.
 *
 * @example
 * ```ts
 * const encoder = new RansEncoder(prepareEncoding(tables), first.length + second.length);
 * encoder.writeRun(second, 0, second.length, 1);
 * encoder.writeRun(first, 0, first.length, 0);
 * const bytes = encoder.finish();
 * ```
 */
export class RansEncoder {
  readonly #tables: RansEncodingTables;
  /** Filled from its end. Before #next there is always room for one word for each value still to come. */
  #words: Uint16Array;
  /** Where the next word goes. */
  #next: number;
  /** The state of values with an even index, counted from the first of the stream, and that of the others. */
  #even: number = ransLowest;
  #odd: number = ransLowest;
  /** How many values are still to come. */
  #left: number;

  /**
   * @param numValues How many values will be written in all.
   * @throws IsthmusError `usage/invalid` if that is no whole number from 0 to 2^30.
   */
  constructor(tables: RansEncodingTables, numValues: number) {
    if (!Number.isInteger(numValues) || numValues < 0 || numValues > 2 ** 30) {
      throw usage(`Cannot encode ${numValues} values; one stream takes 0 to 2^30.`);
    }
    this.#tables = tables;
    this.#left = numValues;
    this.#words = new Uint16Array(numValues + headroom);
    this.#next = this.#words.length - 1;
  }

  /**
   * Writes `values[to − 1]` … `values[from]`, all with one table.
   *
   * @throws IsthmusError `usage/invalid` if a value is not in the table and cannot escape, if there is no such
   * table, or if more values come than were announced.
   */
  writeRun(values: Int32Array, from: number, to: number, table: number): void {
    this.#checkRange(values.length, from, to);
    const { info, entries, precision, numTables } = this.#tables;
    if (!Number.isInteger(table) || table < 0 || table >= numTables) throw noSuchTable(table, numTables);
    const min = info[4 * table]!;
    const listed = info[4 * table + 1]!;
    const base = info[4 * table + 2]!;
    const slots = 1 << precision;
    const shift = 31 - precision;
    let i = to;
    if (i > from && (this.#left & 1) === 1) this.#writeOne(values[--i]!, table);
    const ahead = this.#left - i;
    let words = this.#words;
    let next = this.#next;
    let even = this.#even;
    let odd = this.#odd;
    for (const stop = from + 2; i >= stop; i -= 2) {
      const second = (values[i - 1]! - min) | 0;
      const first = (values[i - 2]! - min) | 0;
      if (second >>> 0 >= listed || first >>> 0 >= listed) {
        this.#save(next, even, odd, ahead + i);
        this.#writeOne(values[i - 1]!, table);
        this.#writeOne(values[i - 2]!, table);
        words = this.#words;
        next = this.#next;
        even = this.#even;
        odd = this.#odd;
        continue;
      }
      // A state that the step would carry beyond 31 bits first gives its lower 16 bits away. A branch would be
      // mispredicted, so the word is stored in any case, and stays (next moves on) if it had to go.
      let entry = entries[base + second]!;
      let frequency = entry & 0xffff;
      let overfull = (frequency - 1 - (odd >>> shift)) >> 31;
      words[next] = odd;
      next += overfull;
      odd >>>= overfull & 16;
      // The step: floor(state / f) · 2^precision + start + state mod f.
      odd = (odd + (entry >>> 16) + Math.imul((odd / frequency) | 0, slots - frequency)) | 0;
      entry = entries[base + first]!;
      frequency = entry & 0xffff;
      overfull = (frequency - 1 - (even >>> shift)) >> 31;
      words[next] = even;
      next += overfull;
      even >>>= overfull & 16;
      even = (even + (entry >>> 16) + Math.imul((even / frequency) | 0, slots - frequency)) | 0;
    }
    this.#save(next, even, odd, ahead + i);
    if (i > from) this.#writeOne(values[from]!, table);
  }

  /**
   * Writes `values[to − 1]` … `values[from]`, each with the table that `tableOf` has at the same index.
   *
   * @throws IsthmusError `usage/invalid` as {@link writeRun}, and if `tableOf` is too short.
   */
  writeMixed(values: Int32Array, from: number, to: number, tableOf: TableChoices): void {
    this.#checkRange(Math.min(values.length, tableOf.length), from, to);
    const { info, entries, precision, numTables } = this.#tables;
    const slots = 1 << precision;
    const shift = 31 - precision;
    let i = to;
    if (i > from && (this.#left & 1) === 1) {
      i--;
      this.#writeOne(values[i]!, tableOf[i]!);
    }
    const ahead = this.#left - i;
    let words = this.#words;
    let next = this.#next;
    let even = this.#even;
    let odd = this.#odd;
    for (const stop = from + 2; i >= stop; i -= 2) {
      const secondTable = tableOf[i - 1]!;
      const firstTable = tableOf[i - 2]!;
      if (secondTable >= numTables) throw noSuchTable(secondTable, numTables);
      if (firstTable >= numTables) throw noSuchTable(firstTable, numTables);
      const second = (values[i - 1]! - info[4 * secondTable]!) | 0;
      const first = (values[i - 2]! - info[4 * firstTable]!) | 0;
      if (second >>> 0 >= info[4 * secondTable + 1]! || first >>> 0 >= info[4 * firstTable + 1]!) {
        this.#save(next, even, odd, ahead + i);
        this.#writeOne(values[i - 1]!, secondTable);
        this.#writeOne(values[i - 2]!, firstTable);
        words = this.#words;
        next = this.#next;
        even = this.#even;
        odd = this.#odd;
        continue;
      }
      // As in writeRun.
      let entry = entries[info[4 * secondTable + 2]! + second]!;
      let frequency = entry & 0xffff;
      let overfull = (frequency - 1 - (odd >>> shift)) >> 31;
      words[next] = odd;
      next += overfull;
      odd >>>= overfull & 16;
      odd = (odd + (entry >>> 16) + Math.imul((odd / frequency) | 0, slots - frequency)) | 0;
      entry = entries[info[4 * firstTable + 2]! + first]!;
      frequency = entry & 0xffff;
      overfull = (frequency - 1 - (even >>> shift)) >> 31;
      words[next] = even;
      next += overfull;
      even >>>= overfull & 16;
      even = (even + (entry >>> 16) + Math.imul((even / frequency) | 0, slots - frequency)) | 0;
    }
    this.#save(next, even, odd, ahead + i);
    if (i > from) this.#writeOne(values[from]!, tableOf[from]!);
  }

  /**
   * The stream, exactly as long as it has to be.
   *
   * @throws IsthmusError `usage/invalid` if fewer values came than were announced.
   */
  finish(): Uint8Array {
    if (this.#left !== 0) throw usage(`${this.#left} values fewer came than were announced.`);
    for (const state of [this.#odd, this.#even]) {
      this.#words[this.#next--] = state >>> 16;
      this.#words[this.#next--] = state;
    }
    // Little-endian on every machine Isthmus runs on.
    return new Uint8Array(this.#words.slice(this.#next + 1).buffer);
  }

  #save(next: number, even: number, odd: number, left: number): void {
    this.#next = next;
    this.#even = even;
    this.#odd = odd;
    this.#left = left;
  }

  /** One value with the state whose turn it is, an escape if need be. */
  #writeOne(value: number, table: number): void {
    const { info, entries, precision, numTables } = this.#tables;
    if (!Number.isInteger(table) || table < 0 || table >= numTables) throw noSuchTable(table, numTables);
    const min = info[4 * table]!;
    const listed = info[4 * table + 1]!;
    let symbol = value - min;
    if (symbol < 0 || symbol >= listed) {
      if (info[4 * table + 3] === 0) {
        throw usage(`Table ${table} lists ${min} to ${min + listed - 1}, not ${value}, and has no escape.`);
      }
      this.#makeRoom();
      // The pieces are read after the escape, so they are written before it, and the last of them first.
      for (const [bits, count] of escapePieces(value, min, min + listed - 1).reverse()) {
        this.#step(1, bits, count);
      }
      symbol = listed;
    }
    const entry = entries[info[4 * table + 2]! + symbol]!;
    this.#step(entry & 0xffff, entry >>> 16, precision);
    this.#left--;
  }

  #step(frequency: number, start: number, precision: number): void {
    const isOdd = (this.#left & 1) === 0;
    let state = isOdd ? this.#odd : this.#even;
    if (state >>> (31 - precision) >= frequency) {
      this.#words[this.#next--] = state;
      state >>>= 16;
    }
    state += start + Math.imul((state / frequency) | 0, (1 << precision) - frequency);
    if (isOdd) this.#odd = state;
    else this.#even = state;
  }

  /** Keeps the promise of #words when a value takes more than one word. */
  #makeRoom(): void {
    if (this.#next >= this.#left + maxEscapePieces + headroom) return;
    const grown = new Uint16Array(2 * this.#words.length);
    const moved = grown.length - this.#words.length;
    grown.set(this.#words, moved);
    this.#words = grown;
    this.#next += moved;
  }

  #checkRange(length: number, from: number, to: number): void {
    if (!(Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from <= to && to <= length)) {
      throw usage(`There are no values ${from} to ${to} in an array of ${length}.`);
    }
    if (to - from > this.#left)
      throw usage(`${to - from} values came where ${this.#left} were left to come.`);
  }
}

/** Room for the header and for the word that is stored before it is known whether it stays. */
const headroom = 8;

function usage(message: string): IsthmusError {
  return new IsthmusError('usage/invalid', message);
}

function noSuchTable(table: number, numTables: number): IsthmusError {
  return usage(`There is no table ${table}, only 0 to ${numTables - 1}.`);
}
