import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sha256Hex } from '../bytes.js';
import { isIsthmusError } from '../errors.js';
import { decodeRans, encodeRans, maxRansBytes } from './rans.js';
import { RansDecoder } from './rans-decoder.js';
import { RansEncoder } from './rans-encoder.js';
import { prepareDecoding, prepareEncoding } from './rans-tables.js';
import { type FrequencyTable, tableFromCounts } from './tables.js';
import { mutate } from './testing/mutate.js';
import { makeRandom } from './testing/random.js';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

/** The same stream the slow way, from docs/entropy.md: integers without bounds, one value at a time. */
function encodeSlowly(
  tables: readonly FrequencyTable[],
  values: Int32Array,
  tableOf: Uint16Array,
): Uint8Array {
  const states = [1n << 15n, 1n << 15n];
  const words: bigint[] = [];
  const step = (which: number, frequency: bigint, start: bigint, bits: bigint) => {
    let state = states[which]!;
    if (state >= frequency << (31n - bits)) {
      words.unshift(state & 0xffffn);
      state >>= 16n;
    }
    states[which] = ((state / frequency) << bits) + start + (state % frequency);
  };
  for (let i = values.length - 1; i >= 0; i--) {
    const { precision, minValue, frequencies, hasEscape } = tables[tableOf[i]!]!;
    const max = minValue + frequencies.length - 1 - (hasEscape ? 1 : 0);
    const value = values[i]!;
    const escapes = value < minValue || value > max;
    if (escapes) {
      const distance = BigInt(value < minValue ? minValue - value : value - max);
      const length = distance.toString(2).length - 1;
      const rest = distance - (1n << BigInt(length));
      const pieces = [[BigInt(length * 2 + (value < minValue ? 1 : 0)), 6n]];
      for (let left = length; left > 0; left -= 15) {
        const count = BigInt(Math.min(15, left));
        pieces.push([(rest >> (BigInt(left) - count)) & ((1n << count) - 1n), count]);
      }
      for (const [bits, count] of pieces.reverse()) step(i & 1, 1n, bits!, count!);
    }
    const symbol = escapes ? frequencies.length - 1 : value - minValue;
    const start = frequencies.slice(0, symbol).reduce((sum, frequency) => sum + frequency, 0);
    step(i & 1, BigInt(frequencies[symbol]!), BigInt(start), BigInt(precision));
  }
  const all = states.flatMap((state) => [state & 0xffffn, state >> 16n]).concat(words);
  return Uint8Array.from(all.flatMap((word) => [Number(word & 255n), Number(word >> 8n)]));
}

function decode(tables: readonly FrequencyTable[], bytes: Uint8Array, tableOf: Uint16Array): Int32Array {
  const out = new Int32Array(tableOf.length);
  decodeRans(prepareDecoding(tables), bytes, out, tableOf);
  return out;
}

const precisions = fc.integer({ min: 8, max: 15 });
const tablesOf = (precision: number) =>
  fc.array(
    fc
      .record({
        counts: fc.array(fc.oneof(fc.nat(5), fc.nat(100_000)), { minLength: 1, maxLength: 60 }),
        minValue: fc.integer({ min: -40, max: 40 }),
        escapeCount: fc.nat(300),
      })
      .map(({ counts, ...options }) => tableFromCounts(counts, { ...options, precision })),
    { minLength: 1, maxLength: 5 },
  );
const values = fc.oneof(
  { weight: 12, arbitrary: fc.integer({ min: -45, max: 100 }) },
  { weight: 1, arbitrary: fc.integer() },
  { weight: 1, arbitrary: fc.constantFrom(-(2 ** 31), 2 ** 31 - 1) },
);
const cases = precisions
  .chain((precision) =>
    fc.record({ tables: tablesOf(precision), list: fc.array(values, { maxLength: 300 }) }),
  )
  .chain(({ tables, list }) =>
    fc
      .array(fc.nat(tables.length - 1), { minLength: list.length, maxLength: list.length })
      .map((choices) => ({ tables, values: Int32Array.from(list), tableOf: Uint16Array.from(choices) })),
  );

describe('rANS', () => {
  const tables = [
    tableFromCounts([1, 6, 1], { precision: 8, minValue: -1 }),
    tableFromCounts([40, 20, 10, 5], { precision: 8, minValue: 0, escapeCount: 1 }),
  ];

  it('has exactly these bytes', () => {
    const prepared = prepareEncoding(tables);
    const mixed = Uint8Array.of(0, 0, 0, 1, 1, 1, 0, 1, 1, 0);
    expect(hex(encodeRans(prepared, new Int32Array(0), 0))).toBe('0080000000800000');
    expect(hex(encodeRans(prepared, Int32Array.of(0, 0, 1, 0, -1, 0, 0, 0), 0))).toBe('40e1380080940100');
    expect(hex(encodeRans(prepared, Int32Array.of(0, -1, 1, 0, 3, 2, 0, -7, 70_000, 1), mixed))).toBe(
      '988a09001ea198005fb9c5e00100',
    );
    expect(hex(encodeRans(prepared, Int32Array.of(2 ** 31 - 1, -(2 ** 31)), 1))).toBe(
      'ffbeaa02fe6a5505ff7ffc7f00000000',
    );
  });

  it('has exactly these bytes for 100,000 values', async () => {
    const random = makeRandom(7);
    const many = Array.from({ length: 32 }, (_, t) =>
      tableFromCounts(
        Array.from({ length: 65 }, (_, i) =>
          Math.floor(2 ** 40 / (1 + ((i - 32) * (i - 32) * 40) / (t + 1))),
        ),
        { precision: 12, minValue: -32, escapeCount: 2 ** 26 },
      ),
    );
    const data = Int32Array.from({ length: 100_000 }, () => {
      const x = random() * 5 - 2.5;
      return Math.round(x * x * x * x * x);
    });
    const tableOf = Uint16Array.from({ length: data.length }, (_, i) => (i * 7) % 32);
    const bytes = encodeRans(prepareEncoding(many), data, tableOf);
    expect(decode(many, bytes, tableOf)).toEqual(data);
    expect([bytes.byteLength, await sha256Hex(bytes)]).toEqual([
      101390,
      '882b0ab3ca476d4fe880757e8d0eeecda5181ffa31b9c7541d5024cacf15cdd1',
    ]);
  });

  it('gives back every int32, and is the stream of a coder with unbounded integers', () => {
    fc.assert(
      fc.property(cases, ({ tables, values, tableOf }) => {
        const bytes = encodeRans(prepareEncoding(tables), values, tableOf);
        expect(hex(bytes)).toBe(hex(encodeSlowly(tables, values, tableOf)));
        expect(bytes.byteLength).toBeLessThanOrEqual(maxRansBytes(prepareEncoding(tables), values.length));
        expect(decode(tables, bytes, tableOf)).toEqual(values);
      }),
      { numRuns: 300 },
    );
  });

  it('is one stream, whether coded one by one, in runs or mixed', () => {
    const scenario = fc.record({
      tables: precisions.chain(tablesOf),
      lengths: fc.array(fc.nat(9), { maxLength: 8 }),
      seed: fc.integer(),
    });
    fc.assert(
      fc.property(scenario, ({ tables, lengths, seed }) => {
        const random = makeRandom(seed);
        const runs = lengths.map((length) => ({ length, table: Math.floor(random() * tables.length) }));
        const tableOf = Uint8Array.from(runs.flatMap(({ length, table }) => Array(length).fill(table)));
        const values = Int32Array.from(tableOf, () => Math.round(random() * 100 - 40));
        const whole = encodeRans(prepareEncoding(tables), values, tableOf);
        const encoder = new RansEncoder(prepareEncoding(tables), values.length);
        let end = values.length;
        for (const { length, table } of [...runs].reverse()) {
          encoder.writeRun(values, end - length, end, table);
          end -= length;
        }
        expect(hex(encoder.finish())).toBe(hex(whole));
        const decoder = new RansDecoder(prepareDecoding(tables), whole);
        const out = new Int32Array(values.length);
        let start = 0;
        runs.forEach(({ length, table }, index) => {
          if (index % 3 === 0) decoder.readRun(out, start, start + length, table);
          else if (index % 3 === 1) decoder.readMixed(out, start, start + length, tableOf);
          else for (let i = start; i < start + length; i++) out[i] = decoder.readOne(table);
          start += length;
        });
        decoder.finish();
        expect(out).toEqual(values);
      }),
      { numRuns: 300 },
    );
  });

  it('is at most 1 % and the header above the entropy its tables promise', () => {
    const scenario = fc.record({
      precision: fc.integer({ min: 10, max: 15 }),
      counts: fc.array(fc.integer({ min: 1, max: 10_000 }), { minLength: 2, maxLength: 100 }),
      skew: fc.constantFrom(0, 1, 20),
      seed: fc.integer(),
    });
    fc.assert(
      fc.property(scenario, ({ precision, counts, skew, seed }) => {
        counts[0]! *= 1 + skew * counts.length;
        const table = tableFromCounts(counts, { precision, minValue: 0 });
        const lookup = Int32Array.from(
          [...table.frequencies].flatMap((frequency, value) => Array<number>(frequency).fill(value)),
        );
        const random = makeRandom(seed);
        const data = Int32Array.from({ length: 30_000 }, () => lookup[Math.floor(random() * lookup.length)]!);
        let bits = 0;
        for (const value of data) bits += precision - Math.log2(table.frequencies[value]!);
        const bytes = encodeRans(prepareEncoding([table]), data, 0);
        // Beside the header, the two states may each have half a word unused.
        expect(bytes.byteLength).toBeLessThanOrEqual((bits / 8) * 1.01 + 8 + 4);
      }),
      { numRuns: 40 },
    );
  });

  it('keeps going when nearly every value escapes', () => {
    const table = tableFromCounts([1], { precision: 15, minValue: 0, escapeCount: 0 });
    const random = makeRandom(3);
    const data = Int32Array.from({ length: 5000 }, () => Math.floor(random() * 2 ** 32 - 2 ** 31));
    const bytes = encodeRans(prepareEncoding([table]), data, 0);
    expect(bytes.byteLength).toBeLessThanOrEqual(maxRansBytes(prepareEncoding([table]), data.length));
    expect(decode([table], bytes, new Uint16Array(data.length))).toEqual(data);
  });

  it('spends nothing on what is certain', () => {
    const table = tableFromCounts([1], { precision: 15, minValue: 5 });
    const bytes = encodeRans(prepareEncoding([table]), new Int32Array(1000).fill(5), 0);
    expect(bytes.byteLength).toBe(8);
    expect(decode([table], bytes, new Uint16Array(1000))).toEqual(new Int32Array(1000).fill(5));
  });

  it('refuses values, tables and ranges that do not exist', () => {
    const prepared = prepareEncoding(tables);
    const usage = expect.objectContaining({ code: 'usage/invalid' });
    expect(() => encodeRans(prepared, Int32Array.of(0, 0, 2), 0)).toThrow(usage);
    expect(() => encodeRans(prepared, Int32Array.of(0, 0, 0), 2)).toThrow(usage);
    expect(() => encodeRans(prepared, Int32Array.of(0, 0, 0), Uint8Array.of(0, 2, 0))).toThrow(usage);
    expect(() => encodeRans(prepared, Int32Array.of(0, 0, 0), Uint8Array.of(0, 0))).toThrow(usage);
    expect(() => new RansEncoder(prepared, -1)).toThrow(usage);
    expect(() => new RansEncoder(prepared, 1).finish()).toThrow(usage);
    expect(() => new RansEncoder(prepared, 1).writeRun(new Int32Array(2), 0, 2, 0)).toThrow(usage);
    const bytes = encodeRans(prepared, new Int32Array(4), 0);
    const decoder = new RansDecoder(prepareDecoding(tables), bytes);
    expect(() => decoder.readRun(new Int32Array(4), 0, 5, 0)).toThrow(usage);
    expect(() => decoder.readRun(new Int32Array(4), 0, 4, -1)).toThrow(usage);
    expect(() => decoder.readMixed(new Int32Array(4), 0, 4, Uint8Array.of(0, 9, 0, 0))).toThrow(usage);
    expect(() => decoder.readOne(1.5)).toThrow(usage);
    expect(() => prepareDecoding([])).toThrow(usage);
    expect(() => prepareEncoding([tables[0]!, { ...tables[0]!, precision: 9 }])).toThrow(usage);
  });

  it('ends in codec/corrupt, or in the values whose stream the bytes are, whatever the bytes', () => {
    const random = makeRandom(11);
    const prepared = prepareDecoding(tables);
    const tableOf = Uint16Array.from({ length: 200 }, () => Math.floor(random() * 2));
    const data = Int32Array.from(tableOf, (table) => {
      const value = Math.floor(random() * 3) - 1;
      return table === 0 ? value : value * Math.floor(random() * 100);
    });
    const sound = encodeRans(prepareEncoding(tables), data, tableOf);
    const out = new Int32Array(tableOf.length);
    let refused = 0;
    const rounds = 20_000;
    for (let round = 0; round < rounds; round++) {
      const bytes = mutate(sound, random);
      const choices = round % 2 === 0 ? tableOf : 1;
      out.fill(0);
      let accepted = false;
      try {
        decodeRans(prepared, bytes, out, choices);
        accepted = true;
      } catch (error) {
        if (!isIsthmusError(error, 'codec/corrupt')) throw error;
        refused++;
      }
      if (accepted) expect(hex(encodeRans(prepareEncoding(tables), out, choices))).toBe(hex(bytes));
      if (choices !== 1)
        expect(tableOf.every((table, i) => table === 1 || Math.abs(out[i]!) <= 1)).toBe(true);
    }
    expect(refused).toBeGreaterThan(0.98 * rounds);
  });

  it('finds every truncation and every extension', () => {
    const data = Int32Array.from({ length: 60 }, (_, i) => (i * 5) % 4);
    const bytes = encodeRans(prepareEncoding(tables), data, 1);
    const corrupt = expect.objectContaining({ code: 'codec/corrupt' });
    for (let length = 0; length < bytes.byteLength; length++) {
      expect(() => decode(tables, bytes.subarray(0, length), new Uint16Array(60).fill(1))).toThrow(corrupt);
    }
    const longer = new Uint8Array(bytes.byteLength + 2);
    longer.set(bytes);
    expect(() => decode(tables, longer, new Uint16Array(60).fill(1))).toThrow(corrupt);
    expect(() => decode(tables, bytes, new Uint16Array(59).fill(1))).toThrow(corrupt);
  });
});
