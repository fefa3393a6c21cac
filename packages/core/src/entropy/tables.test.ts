import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isIsthmusError } from '../errors.js';
import { type FamilyOptions, familyTables, geometricScales } from './families.js';
import { decodeRans, encodeRans } from './rans.js';
import { prepareDecoding, prepareEncoding } from './rans-tables.js';
import { formatTables, parseTables, tablesSha256 } from './table-file.js';
import {
  chooseTable,
  countValues,
  type FrequencyTable,
  listedValues,
  tableCost,
  tableFromCounts,
  trimCounts,
} from './tables.js';
import { makeRandom } from './testing/random.js';

const usage = expect.objectContaining({ code: 'usage/invalid' });
const sumOf = (values: Iterable<number>) => [...values].reduce((sum, value) => sum + value, 0);

/** Σ −count·log2(frequency) */
const bitsOf = (counts: readonly number[], frequencies: ArrayLike<number>) =>
  counts.reduce((bits, count, i) => bits - count * Math.log2(frequencies[i]!), 0);

const tableSets = fc.integer({ min: 8, max: 15 }).chain((precision) =>
  fc.array(
    fc
      .record({
        counts: fc.array(fc.oneof(fc.nat(3), fc.nat(10_000)), { minLength: 1, maxLength: 256 }),
        minValue: fc.integer({ min: -32_767, max: 32_000 }),
        hasEscape: fc.boolean(),
      })
      .map(({ counts, minValue, hasEscape }) =>
        tableFromCounts(counts.slice(0, 2 ** precision - 1), {
          precision,
          minValue,
          ...(hasEscape ? { escapeCount: 1 } : {}),
        }),
      ),
    { minLength: 1, maxLength: 4 },
  ),
);

describe('tables from counts', () => {
  it('keep every value possible and sum to a power of two', () => {
    const counts = fc.array(fc.oneof(fc.constant(0), fc.nat(10), fc.nat(1e9)), {
      minLength: 1,
      maxLength: 256,
    });
    fc.assert(
      fc.property(counts, fc.integer({ min: 8, max: 15 }), (list, precision) => {
        const { frequencies } = tableFromCounts(list, { precision, minValue: 0 });
        expect(sumOf(frequencies)).toBe(2 ** precision);
        expect(Math.min(...frequencies)).toBeGreaterThanOrEqual(1);
        expect(frequencies.length).toBe(list.length);
      }),
    );
  });

  it('cannot be bettered by moving any one unit', () => {
    const counts = fc.array(fc.oneof(fc.nat(3), fc.nat(1e6)), { minLength: 2, maxLength: 40 });
    fc.assert(
      fc.property(counts, (list) => {
        fc.pre(sumOf(list) > 0);
        const { frequencies } = tableFromCounts(list, { precision: 8, minValue: 0 });
        const best = bitsOf(list, frequencies);
        for (let from = 0; from < list.length; from++) {
          for (let to = 0; to < list.length; to++) {
            if (from === to || frequencies[from] === 1) continue;
            const moved = Uint16Array.from(frequencies);
            moved[from]! -= 1;
            moved[to]! += 1;
            expect(bitsOf(list, moved)).toBeGreaterThanOrEqual(best - 1e-6 * Math.abs(best));
          }
        }
      }),
      { numRuns: 50 },
    );
  });

  it('hold one certain value, and a value for each slot', () => {
    expect(tableFromCounts([3], { precision: 15, minValue: 0 }).frequencies).toEqual(Uint16Array.of(32_768));
    const all = tableFromCounts(
      Array.from({ length: 256 }, (_, i) => i),
      { precision: 8, minValue: 0 },
    );
    expect(new Set(all.frequencies)).toEqual(new Set([1]));
  });

  it('treat no counts at all as equal counts', () => {
    const table = tableFromCounts([0, 0, 0], { precision: 8, minValue: 0, escapeCount: 0 });
    expect(table.frequencies).toEqual(Uint16Array.of(64, 64, 64, 64));
  });

  it('refuse counts and ranges that make no sense', () => {
    const make = (counts: number[], options = {}) =>
      tableFromCounts(counts, { precision: 8, minValue: 0, ...options });
    expect(() => make([])).toThrow(usage);
    expect(() => make([1, -1])).toThrow(usage);
    expect(() => make([1, Number.NaN])).toThrow(usage);
    expect(() => make([1, Infinity])).toThrow(usage);
    expect(() => make(Array(257).fill(1))).toThrow(usage);
    expect(() => make([1], { precision: 16 })).toThrow(usage);
    expect(() => make([1, 1], { minValue: 32_767 })).toThrow(usage);
    expect(() => make([1, 1], { minValue: -32_768 })).toThrow(usage);
    expect(() => make([1, 1], { minValue: 0.5 })).toThrow(usage);
  });
});

describe('the cost of a table', () => {
  it('is what coding takes', () => {
    const random = makeRandom(5);
    const values = Int32Array.from({ length: 20_000 }, () => Math.round((random() + random() - 1) * 12));
    const counted = countValues(values, -8, 8);
    expect(sumOf(counted.counts) + counted.outside).toBe(values.length);
    const table = tableFromCounts(counted.counts, {
      precision: 12,
      minValue: -8,
      escapeCount: counted.outside,
    });
    const bytes = encodeRans(prepareEncoding([table]), values, 0).byteLength;
    expect(tableCost(table, counted) / 8 / bytes).toBeCloseTo(1, 1);
    const { frequencies } = tableFromCounts(counted.counts, { precision: 12, minValue: -8 });
    const closed: FrequencyTable = { precision: 12, minValue: -8, hasEscape: false, frequencies };
    expect(tableCost(closed, counted)).toBe(Infinity);
  });

  it('chooses the scale the values have', () => {
    const scales = geometricScales(0.25, 24, 2);
    const tables = familyTables({
      shape: 'laplace',
      scales,
      precision: 12,
      minValue: -100,
      maxValue: 100,
      hasEscape: true,
    });
    for (const index of [2, 8, 14]) {
      const random = makeRandom(index);
      const values = Int32Array.from({ length: 20_000 }, () => {
        const magnitude = -scales[index]! * Math.log(1 - random());
        return Math.round(random() < 0.5 ? magnitude : -magnitude);
      });
      const counted = countValues(values, -100, 100);
      expect(chooseTable(tables, counted)).toBe(index);
      const own = tableFromCounts(counted.counts, { precision: 12, minValue: -100, escapeCount: 0 });
      expect(tableCost(tables[index]!, counted)).toBeLessThan(1.01 * tableCost(own, counted));
    }
  });
});

describe('trimmed counts', () => {
  it('lose their rare ends, and code in fewer bits for it', () => {
    const counts = Float64Array.from({ length: 201 }, (_, i) => (i === 100 ? 1e6 : i === 99 ? 2e5 : 1));
    const counted = { counts, minValue: -100, outside: 0 };
    const kept = trimCounts(counted, 12);
    expect(kept).toEqual({ counts: Float64Array.of(2e5, 1e6), minValue: -1, outside: 199 });
    const wide = tableFromCounts(counts, { precision: 12, minValue: -100 });
    const narrow = tableFromCounts(kept.counts, {
      precision: 12,
      minValue: kept.minValue,
      escapeCount: kept.outside,
    });
    expect(tableCost(narrow, counted)).toBeLessThan(0.95 * tableCost(wide, counted));
  });
});

describe('families of tables', () => {
  const options = {
    precision: 12,
    minValue: -127,
    maxValue: 127,
    hasEscape: true,
    scales: geometricScales(0.125, 32, 2),
  };

  it('are the same integers on every machine', async () => {
    const hashes = [
      await tablesSha256(familyTables({ ...options, shape: 'laplace' })),
      await tablesSha256(familyTables({ ...options, shape: 'gaussian' })),
      await tablesSha256(familyTables({ ...options, shape: 'peaked', zeroHalfWidth: 0.7 })),
      await tablesSha256(
        familyTables({ ...options, shape: 'laplace', minValue: 0, maxValue: 255, zeroProbability: 0.5 }),
      ),
    ];
    expect(hashes).toEqual([
      '5a37b86f408fab81180ce0b8e0eee1076c0373b6eed87de125e7eb9c3fc01472',
      '0e514c5a9ecf06e5d8e9232dc872bb95e984df48a36f2568d1e1fa9d1848c4f8',
      '4d497cbf753d3d1165674042e9f33f6b5cd5870327de34947fc0294e13086be1',
      'cefcdae0f6a05cd7eba135605a066528bf12f5619cfe7dea7c9a0229f66e5690',
    ]);
  });

  it('are symmetric, fall from zero, and list what is likely', () => {
    for (const shape of ['laplace', 'gaussian', 'peaked'] as const) {
      let listed = 0;
      for (const table of familyTables({ ...options, shape })) {
        const at = (value: number) => table.frequencies[value - table.minValue]!;
        for (let value = 1; value <= -table.minValue; value++) {
          expect(Math.abs(at(value) - at(-value))).toBeLessThanOrEqual(1);
          expect(at(value)).toBeLessThanOrEqual(at(value - 1) + 1);
        }
        expect(listedValues(table)).toBe(1 - 2 * table.minValue);
        expect(listedValues(table)).toBeGreaterThanOrEqual(listed);
        listed = listedValues(table);
      }
      expect(listed).toBe(255);
    }
  });

  it('are as the densities say', () => {
    const one = (more: Partial<FamilyOptions>) => {
      const [table] = familyTables({ ...options, precision: 15, shape: 'laplace', ...more });
      return (value: number) => table!.frequencies[value - table!.minValue]!;
    };
    const laplace = one({ scales: [2] });
    expect(laplace(3) / laplace(2)).toBeCloseTo(Math.exp(-0.5), 2);
    const gaussian = one({ shape: 'gaussian', scales: [6] });
    expect(gaussian(6) / gaussian(0)).toBeCloseTo(Math.exp(-1), 2);
    const peaked = one({ shape: 'peaked', scales: [4] });
    expect(peaked(16) / peaked(4)).toBeCloseTo(Math.exp(-1), 1);
    expect(one({ scales: [2], zeroHalfWidth: 1 })(0) / 2 ** 15).toBeCloseTo(1 - Math.exp(-0.5), 3);
    const relu = one({ scales: [3], minValue: 0, zeroProbability: 0.75 });
    expect(relu(0) / 2 ** 15).toBeCloseTo(0.75, 3);
    expect(relu(9) / relu(6)).toBeCloseTo(Math.exp(-1), 1);
  });

  it('refuse what is no distribution', () => {
    expect(() => familyTables({ ...options, shape: 'laplace', scales: [0] })).toThrow(usage);
    expect(() => familyTables({ ...options, shape: 'laplace', zeroProbability: 2 })).toThrow(usage);
    expect(() => familyTables({ ...options, shape: 'laplace', minValue: 128 })).toThrow(usage);
  });
});

describe('tables as bytes', () => {
  it('have exactly these bytes', () => {
    const tables = [
      tableFromCounts([1, 6, 1], { precision: 8, minValue: -1 }),
      tableFromCounts([40, 20, 10, 5], { precision: 8, minValue: 0, escapeCount: 1 }),
    ];
    expect(Buffer.from(formatTables(tables)).toString('hex')).toBe('01080200641c60400266f8830609050d');
  });

  it('come back as they were, and are taken as they are by the coder', () => {
    fc.assert(
      fc.property(tableSets, (tables) => {
        const parsed = parseTables(formatTables(tables));
        expect(parsed).toEqual(tables);
        const values = Int32Array.from(tables, ({ minValue }) => minValue);
        const tableOf = Uint8Array.from(tables, (_, index) => index);
        const out = new Int32Array(tables.length);
        decodeRans(
          prepareDecoding(parsed),
          encodeRans(prepareEncoding(tables), values, tableOf),
          out,
          tableOf,
        );
        expect(out).toEqual(values);
      }),
    );
  });

  it('hash differently when a single frequency differs', async () => {
    const table = tableFromCounts([5, 5], { precision: 8, minValue: 0 });
    const other = { ...table, frequencies: Uint16Array.of(127, 129) };
    expect(await tablesSha256([table])).toMatch(/^[0-9a-f]{64}$/);
    expect(await tablesSha256([table])).not.toBe(await tablesSha256([other]));
    expect(await tablesSha256([table])).not.toBe(await tablesSha256([table, table]));
  });

  it('are refused, or sound, whatever they are', () => {
    fc.assert(
      fc.property(tableSets, fc.integer(), (tables, seed) => {
        const bytes = formatTables(tables);
        const random = makeRandom(seed);
        for (let round = 0; round < 100; round++) {
          const copy = Uint8Array.from(bytes);
          for (let n = 0; n < 1 + (round % 3); n++) copy[Math.floor(random() * copy.length)] = random() * 256;
          const cut = round % 4 === 0 ? copy.subarray(0, random() * copy.length) : copy;
          try {
            const parsed = parseTables(cut, 'codec/corrupt');
            expect(parsed.every((table) => sumOf(table.frequencies) === 2 ** table.precision)).toBe(true);
            // What is accepted has one form only.
            expect(formatTables(parsed)).toEqual(cut);
          } catch (error) {
            if (!isIsthmusError(error, 'codec/corrupt')) throw error;
          }
        }
      }),
      { numRuns: 120 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (rest) => {
        const bytes = Uint8Array.of(1, 8 + (rest.length % 8), 1 + (rest.length % 3), 0, ...rest);
        try {
          expect(formatTables(parseTables(bytes))).toEqual(bytes);
        } catch (error) {
          if (!isIsthmusError(error, 'bundle/invalid')) throw error;
        }
      }),
      { numRuns: 3000 },
    );
  });

  it('are refused at every length but their own', () => {
    const bytes = formatTables([tableFromCounts([9, 3, 1], { precision: 10, minValue: -1 })]);
    const invalid = expect.objectContaining({ code: 'bundle/invalid' });
    for (let length = 0; length < bytes.length; length++) {
      expect(() => parseTables(bytes.subarray(0, length))).toThrow(invalid);
    }
    expect(() => parseTables(Uint8Array.of(...bytes, 0))).toThrow(invalid);
    expect(() => parseTables(Uint8Array.of(2, ...bytes.subarray(1)))).toThrow(invalid);
    expect(() => parseTables(Uint8Array.of(1, 15, 255, 255, ...bytes.subarray(4)))).toThrow(invalid);
  });
});
