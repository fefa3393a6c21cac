import { IsthmusError } from '../errors.js';

/**
 * How often each value is expected, as integers: what the static coder of `rans.ts` codes by. Both ends must hold
 * the very same tables, so they are shipped as integers and never computed while decoding.
 */
export interface FrequencyTable {
  /** The frequencies sum to 2^precision; 8 to 15. All tables that are used together have the same. */
  readonly precision: number;
  /** The value of the first frequency; the others follow in steps of one. −32,767 to 32,767. */
  readonly minValue: number;
  /** Whether the last frequency is that of the escape: of every value the table does not list. */
  readonly hasEscape: boolean;
  /** One per listed value in rising order, then that of the escape if there is one. Each is at least 1. */
  readonly frequencies: Uint16Array;
}

/** What a {@link FrequencyTable} may be, checked before anything is allocated for it. */
export const tableLimits: {
  readonly minPrecision: number;
  readonly maxPrecision: number;
  /** The largest magnitude of a listed value. */
  readonly maxValue: number;
  /** The most tables used together. */
  readonly maxTables: number;
  /** The most slots of all tables used together, 2^precision each: a decoder keeps six bytes for each. */
  readonly maxSlots: number;
} = { minPrecision: 8, maxPrecision: 15, maxValue: 32_767, maxTables: 4096, maxSlots: 2 ** 24 };

/** How many values a table lists, the escape not counted. */
export function listedValues(table: FrequencyTable): number {
  return table.frequencies.length - (table.hasEscape ? 1 : 0);
}

/** What is wrong with a table, or undefined. */
export function findTableFault(table: FrequencyTable): string | undefined {
  const { precision, minValue, frequencies } = table;
  const { minPrecision, maxPrecision, maxValue } = tableLimits;
  if (!Number.isInteger(precision) || precision < minPrecision || precision > maxPrecision) {
    return `its precision is ${precision}, not ${minPrecision} to ${maxPrecision}`;
  }
  const count = listedValues(table);
  if (frequencies.length === 0) return 'it is empty';
  if (!Number.isInteger(minValue) || minValue < -maxValue || minValue + Math.max(count, 1) - 1 > maxValue) {
    return `its values ${minValue} to ${minValue + count - 1} are not within ±${maxValue}`;
  }
  let sum = 0;
  for (const frequency of frequencies) {
    if (frequency === 0) return 'a frequency is zero';
    sum += frequency;
  }
  return sum === 2 ** precision ? undefined : `its frequencies sum to ${sum}, not ${2 ** precision}`;
}

/**
 * Tables that can be used together: each sound, all of one precision, not too many.
 *
 * @throws IsthmusError `usage/invalid`
 */
export function checkTables(tables: readonly FrequencyTable[]): void {
  const precision = tables[0]?.precision ?? 0;
  const refuse = (what: string) => new IsthmusError('usage/invalid', `These frequency tables ${what}.`);
  if (tables.length === 0 || tables.length > tableLimits.maxTables) {
    throw refuse(`are ${tables.length}; give 1 to ${tableLimits.maxTables}`);
  }
  tables.forEach((table, index) => {
    const fault = findTableFault(table);
    if (fault !== undefined) throw refuse(`cannot be used: of number ${index} ${fault}`);
    if (table.precision !== precision) throw refuse('differ in precision; build all with the same');
  });
  if (tables.length * 2 ** precision > tableLimits.maxSlots) {
    throw refuse(`take ${tables.length} × 2^${precision} slots; use fewer or a lower precision`);
  }
}

/** How to make a table from counts. */
export interface TableFromCountsOptions {
  precision: number;
  /** The value of the first count. */
  minValue: number;
  /**
   * How often the escape is expected, in the unit of the counts; absent: no escape. 0 is allowed and gives it the
   * least frequency.
   */
  escapeCount?: number;
}

/**
 * The table that codes values counted so in the fewest bits: frequencies that minimise Σ −count·log2(frequency)
 * among all that are at least 1 and sum to 2^precision. Values with a count of zero stay possible, at the
 * highest price. Only additions, products and quotients of doubles are used, which every machine rounds alike, so
 * the same counts give the same table everywhere.
 *
 * @throws IsthmusError `usage/invalid` for counts that are negative, not finite, or more than the precision can hold.
 *
 * @example
 * ```ts
 * const table = tableFromCounts([1, 6, 1], { precision: 8, minValue: -1 });
 * table.frequencies; // 32, 192, 32
 * ```
 */
export function tableFromCounts(counts: ArrayLike<number>, options: TableFromCountsOptions): FrequencyTable {
  const { precision, minValue, escapeCount } = options;
  const hasEscape = escapeCount !== undefined;
  const weights = Float64Array.from(counts);
  const all = hasEscape ? Float64Array.of(...weights, escapeCount) : weights;
  const total = all.reduce((sum, count) => sum + count, 0);
  if (!all.every((count) => count >= 0) || !Number.isFinite(total)) {
    throw new IsthmusError('usage/invalid', 'Counts must be finite and not negative.');
  }
  const sum = 2 ** precision;
  if (all.length === 0 || all.length > sum) {
    throw new IsthmusError(
      'usage/invalid',
      `A table of precision ${precision} holds 1 to ${sum} values, not ${all.length}; raise the precision, or list fewer and add an escape.`,
    );
  }
  const frequencies = apportion(total > 0 ? all : all.fill(1), sum);
  const table: FrequencyTable = { precision, minValue, hasEscape, frequencies };
  checkTables([table]);
  return table;
}

// ln((f + 1) / f) by its series in z = 1 / (2f + 1), to nine digits at f = 1 and better beyond.
function logStep(frequency: number): number {
  const z = 1 / (2 * frequency + 1);
  const square = z * z;
  let series = 0;
  for (let k = 17; k >= 1; k -= 2) series = series * square + 1 / k;
  return 2 * z * series;
}

/**
 * Whole frequencies of at least 1 with this sum that minimise Σ −count·log(frequency). The sum is separable and
 * convex, so moving single units to where they gain most, until no move gains, ends at the minimum.
 */
function apportion(counts: Float64Array, sum: number): Uint16Array {
  const total = counts.reduce((all, count) => all + count, 0);
  // 2^15 fits 16 bits, so even a table of one value is representable.
  const frequencies = Uint16Array.from(counts, (count) => Math.max(1, Math.floor((count / total) * sum)));
  const gains = counts.map((count, i) => count * logStep(frequencies[i]!));
  const losses = counts.map((count, i) =>
    frequencies[i]! > 1 ? count * logStep(frequencies[i]! - 1) : Infinity,
  );
  const change = (i: number, by: 1 | -1): void => {
    const frequency = frequencies[i]! + by;
    frequencies[i] = frequency;
    gains[i] = counts[i]! * logStep(frequency);
    losses[i] = frequency > 1 ? counts[i]! * logStep(frequency - 1) : Infinity;
  };
  let missing = sum - frequencies.reduce((all, frequency) => all + frequency, 0);
  for (; missing > 0; missing--) change(indexOfLargest(gains), 1);
  for (; missing < 0; missing++) change(indexOfSmallest(losses), -1);
  for (;;) {
    const to = indexOfLargest(gains);
    const from = indexOfSmallest(losses);
    // The margin is beyond the error of the series, so that rounding cannot send a unit back and forth.
    if (!(gains[to]! > losses[from]! * (1 + 1e-7)) || to === from) return frequencies;
    change(to, 1);
    change(from, -1);
  }
}

function indexOfLargest(values: Float64Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}

function indexOfSmallest(values: Float64Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! < values[best]!) best = i;
  return best;
}

/** How often each value occurs, as far as a range lists it. */
export interface ValueCounts {
  /** Of minValue, minValue + 1, … */
  counts: Float64Array;
  minValue: number;
  /** How many values lay outside. */
  outside: number;
}

/** Counts the values of `values` from `minValue` to `maxValue`. */
export function countValues(values: ArrayLike<number>, minValue: number, maxValue: number): ValueCounts {
  const counts = new Float64Array(maxValue - minValue + 1);
  let outside = 0;
  for (let i = 0; i < values.length; i++) {
    const index = values[i]! - minValue;
    if (index >= 0 && index < counts.length) counts[index]! += 1;
    else outside++;
  }
  return { counts, minValue, outside };
}

/**
 * The counts without the ends that are too rare to be listed in a table of this precision: a listed value takes a
 * slot at least, which many together cannot afford. They count as outside, and need an escape.
 */
export function trimCounts(counted: ValueCounts, precision: number): ValueCounts {
  const { counts, minValue, outside } = counted;
  const total = counts.reduce((sum, count) => sum + count, outside);
  const rare = total * 2 ** -(precision + 1);
  let from = 0;
  let to = counts.length;
  while (to > from + 1 && counts[to - 1]! < rare) to--;
  while (from < to - 1 && counts[from]! < rare) from++;
  const kept = counts.slice(from, to);
  const keptTotal = kept.reduce((sum, count) => sum + count, 0);
  return { counts: kept, minValue: minValue + from, outside: total - keptTotal };
}

/**
 * How many bits `table` needs for values counted so, escapes at about their price; Infinity where it cannot code
 * them. For choosing a table, not for coding: it is a float.
 */
export function tableCost(table: FrequencyTable, counted: ValueCounts): number {
  const { frequencies, precision, hasEscape, minValue } = table;
  const listed = listedValues(table);
  let bits = 0;
  let escapes = counted.outside;
  for (let i = 0; i < counted.counts.length; i++) {
    const count = counted.counts[i]!;
    if (count === 0) continue;
    const index = counted.minValue + i - minValue;
    if (index >= 0 && index < listed) bits += count * (precision - Math.log2(frequencies[index]!));
    else escapes += count;
  }
  if (escapes === 0) return bits;
  if (!hasEscape) return Infinity;
  return bits + escapes * (precision - Math.log2(frequencies[listed]!) + typicalEscapeBits);
}

// Side and length take six bits; how far outside a value lies, a few more.
const typicalEscapeBits = 9;

/** The index of the table that codes values counted so in the fewest bits; the first of equals. */
export function chooseTable(tables: readonly FrequencyTable[], counted: ValueCounts): number {
  const costs = tables.map((table) => tableCost(table, counted));
  return costs.indexOf(Math.min(...costs));
}
