import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isIsthmusError } from '../../errors.js';
import { makeCalibratedTables } from '../../testing/calibrated.js';
import { formatCalibratedTables, parseCalibratedTables, stepOf } from './model.js';
import { PlaneDecoder, PlaneEncoder } from './planes.js';

// A wave that gets weaker from component to component: near neighbours are alike, as in features.
function wave(components: number, height: number, width: number, size: number): Float32Array {
  return Float32Array.from({ length: components * height * width }, (_, i) => {
    const component = Math.floor(i / (height * width));
    const y = Math.floor((i % (height * width)) / width);
    return (size * Math.sin(0.7 * y + 1.1 * (i % width) + component)) / (1 + component);
  });
}

describe('the planes of calibrated', () => {
  it('have exactly these bytes', () => {
    const tables = makeCalibratedTables(undefined, 32, 0);
    // Multiples of the step are far from where a value could be rounded either way.
    const step = stepOf(tables.levels[0]!.scale);
    const values = [9, 7, 0, -3, 8, 6, 1, -2, 5, 5, 0, 0, 3, 2, 0, 0, 1, 0, 0, 0];
    const exact = Float32Array.from(
      [...values, ...values.map((x) => -x >> 1), ...new Array(20).fill(0)],
      (x) => x * step,
    );
    const bytes = new PlaneEncoder(tables).encode([exact], 0)!;
    expect(Buffer.from(bytes).toString('hex')).toBe(
      '01597808f9772e007bf6e13d0f119b08ff0f276710f065c6dc3014446516d55800e04457',
    );
  });

  it.each([0, 1])('come back within the dead zone at level %i', (level) => {
    const tables = makeCalibratedTables(
      [
        { name: 'a', height: 7, width: 5, scales: [180, 160, 150, 140] },
        { name: 'b', height: 1, width: 1, scales: [150, 150] },
      ],
      40,
    );
    const step = stepOf(tables.levels[level]!.scale);
    const exact = [wave(4, 7, 5, 40), wave(2, 1, 1, 3)];
    const bytes = new PlaneEncoder(tables).encode(exact, level)!;
    const decoded = new PlaneDecoder(tables).decode(bytes, level);
    exact.forEach((values, index) => {
      values.forEach((value, i) => {
        expect(Math.abs(decoded[index]![i]! - value)).toBeLessThan(1.6 * step);
      });
    });
  });

  it('come back whatever they are, as the integers they were rounded to', () => {
    const tables = {
      ...makeCalibratedTables(undefined, 32, 0),
      centroids: makeCalibratedTables().centroids.map(() => 0),
    };
    const step = stepOf(tables.levels[0]!.scale);
    const encoder = new PlaneEncoder(tables);
    const decoder = new PlaneDecoder(tables);
    const integer = fc.oneof(
      fc.constant(0),
      fc.integer({ min: -9, max: 9 }),
      fc.integer({ min: -1e6, max: 1e6 }),
    );
    fc.assert(
      fc.property(fc.array(integer, { minLength: 60, maxLength: 60 }), (integers) => {
        const exact = Float32Array.from(integers, (x) => x * step);
        const decoded = decoder.decode(encoder.encode([exact], 0)!, 0)[0]!;
        expect(Array.from(decoded, (x) => x / step)).toEqual(integers.map((x) => x + 0));
      }),
      { numRuns: 300 },
    );
  });

  it('take fewer bytes when values resemble their neighbours', () => {
    const tables = makeCalibratedTables([{ name: 'a', height: 16, width: 16, scales: [180, 160] }]);
    const smooth = wave(2, 16, 16, 30);
    const order = [...smooth.keys()].sort((a, b) => ((a * 7919) % 509) - ((b * 7919) % 509));
    const shuffled = Float32Array.from(order, (i) => smooth[i]!);
    const encoder = new PlaneEncoder(tables);
    expect(encoder.encode([smooth], 0)!.length).toBeLessThan(0.9 * encoder.encode([shuffled], 0)!.length);
  });

  it('are refused beyond what can be quantized', () => {
    const exact = new Float32Array(60);
    exact[59] = 1e12;
    expect(new PlaneEncoder(makeCalibratedTables()).encode([exact], 0)).toBeUndefined();
  });

  it('end in codec/corrupt or in finite values when damaged', () => {
    const tables = makeCalibratedTables([{ name: 'a', height: 8, width: 8, scales: [180, 170, 160, 150] }]);
    const bytes = new PlaneEncoder(tables).encode([wave(4, 8, 8, 30)], 0)!;
    const decoder = new PlaneDecoder(tables);
    let numCorrupt = 0;
    fc.assert(
      fc.property(
        fc.array(fc.record({ at: fc.nat(bytes.length - 1), value: fc.nat(255) }), {
          minLength: 1,
          maxLength: 4,
        }),
        fc.nat(bytes.length),
        (changes, length) => {
          const damaged = Uint8Array.from(bytes);
          for (const { at, value } of changes) damaged[at] = value;
          try {
            const [decoded] = decoder.decode(damaged.slice(0, length), 0);
            expect(decoded!.every(Number.isFinite)).toBe(true);
          } catch (error) {
            expect(isIsthmusError(error, 'codec/corrupt')).toBe(true);
            numCorrupt++;
          }
        },
      ),
      { numRuns: 2000 },
    );
    expect(numCorrupt).toBeGreaterThan(1000);
  });
});

describe('the tables of calibrated', () => {
  const text = formatCalibratedTables(makeCalibratedTables());

  it('come back from their file', () => {
    expect(formatCalibratedTables(parseCalibratedTables(text))).toBe(text);
  });

  it.each([
    ['no JSON', () => text.slice(0, 100)],
    ['a context without a table', () => text.replace('"contexts":[0', '"contexts":[99')],
    ['more components than there are', () => text.replace('"components":[3]', '"components":[4]')],
    [
      'a frequency of zero',
      () =>
        text
          .replace('"frequencies":[1,1]', '"frequencies":[0,2]')
          .replace(/"frequencies":\[\d+/, '"frequencies":[0'),
    ],
    ['a missing number', () => text.replace('"up":[32,', '"up":[')],
    ['a size beyond all measure', () => text.replace('"height":5', '"height":5000000')],
  ])('are refused with %s', (_, damage) => {
    expect(damage()).not.toBe(text);
    expect(() => parseCalibratedTables(damage())).toThrow(
      expect.objectContaining({ code: 'bundle/invalid' }),
    );
  });
});
