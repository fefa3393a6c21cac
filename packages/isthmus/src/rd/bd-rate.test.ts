import { expect, test } from 'vitest';
import { bdRatePercent, integratePchip, paretoHull } from './bd-rate.js';
import { compareMethods } from './bd-rates.js';
import { formatRateAt, rateAt } from './rate-at.js';
import type { RdPoint } from './result.js';

const curve = (bpps: readonly number[], accuracies: readonly number[]) =>
  bpps.map((bpp, i) => ({ bpp, accuracy: accuracies[i]! }));

const steep = curve([0.25, 0.5, 1, 2], [0.3, 0.5, 0.65, 0.7]);

test('the hull holds what nothing beats', () => {
  const points = [
    ...steep,
    { bpp: 0.6, accuracy: 0.4 },
    { bpp: 1, accuracy: 0.6 },
    { bpp: 3, accuracy: 0.7 },
  ];
  expect(paretoHull(points.reverse())).toEqual(steep);
  expect(paretoHull([])).toEqual([]);
});

test('integrals of the interpolant are those of SciPy’s PchipInterpolator', () => {
  expect(integratePchip([0.1, 0.2, 0.5, 0.6, 0.9], [3, 4, 4.5, 7, 7.1], 0.15, 0.8)).toBeCloseTo(
    3.45235475,
    8,
  );
  expect(integratePchip([0, 1, 2, 3], [0, 1, 0.5, 4], 0, 3)).toBeCloseTo(3.1875, 12);
  expect(integratePchip([0, 1, 3], [0, 0.1, 9], 0, 3)).toBeCloseTo(6.7442053, 6);
  expect(integratePchip([0, 2], [1, 3], 0.5, 1.5)).toBeCloseTo(2, 12);
});

test('a curve against itself is 0, with all rates scaled exactly that', () => {
  const scaled = (factor: number) => steep.map(({ bpp, accuracy }) => ({ bpp: bpp * factor, accuracy }));
  expect(bdRatePercent(steep, steep)).toBe(0);
  expect(bdRatePercent(steep, scaled(1.5))).toBeCloseTo(50, 10);
  expect(bdRatePercent(steep, scaled(0.25))).toBeCloseTo(-75, 10);
});

test('a video codec’s four points against another’s, as SciPy has it', () => {
  const anchor = curve([1358.24, 2486.44, 4593.6, 9487.76], [34.851, 36.845, 38.615, 40.037]);
  const other = curve([1356.24, 2451.52, 4469.0, 9787.8], [34.987, 36.97, 38.651, 40.121]);
  expect(bdRatePercent(anchor, other)).toBeCloseTo(-4.4174853505891125, 9);
});

test('accuracies that never meet, or a single point, have no delta', () => {
  expect(bdRatePercent(steep, curve([1, 2], [0.8, 0.9]))).toBeUndefined();
  expect(bdRatePercent(steep, curve([1, 2], [0.7, 0.9]))).toBeUndefined();
  expect(bdRatePercent(steep, curve([1], [0.6]))).toBeUndefined();
  expect(bdRatePercent([], steep)).toBeUndefined();
});

test('methods are compared over all cuts and cut by cut, with every picture codec there is', () => {
  const point = (method: string, cut: number, bpp: number, top1: number): RdPoint => ({
    ...{ method, from: cut, to: cut, level: 0, name: '', bpp, top1, agreement: 0.5 },
    ...{ encodeMs: 0, decodeMs: 0, deviceMs: 0, cloudMs: 0 },
  });
  const points = [
    ...steep.map(({ bpp, accuracy }) => point('webp', 0, bpp, accuracy)),
    ...steep.map(({ bpp, accuracy }) => point('jpeg', 0, 2 * bpp, accuracy)),
    ...steep.map(({ bpp, accuracy }) => point('fine', 1, 3 * bpp, accuracy)),
    ...steep.map(({ bpp, accuracy }) => point('fine', 2, bpp / 2, accuracy)),
    point('raw', 1, 50, 0.7),
  ];
  const rates = compareMethods(points, 'top1');
  const of = (method: string, from: number | null, against: string) =>
    rates.find((rate) => rate.method === method && rate.from === from && rate.against === against)?.percent;
  expect(of('jpeg', null, 'webp')).toBeCloseTo(100);
  expect(of('webp', null, 'jpeg')).toBeCloseTo(-50);
  expect(of('fine', 1, 'webp')).toBeCloseTo(200);
  expect(of('fine', 2, 'webp')).toBeCloseTo(-50);
  expect(of('fine', null, 'webp')).toBeCloseTo(-50);
  expect(of('raw', null, 'webp')).toBeNull();
  expect(rates.filter(({ method, against }) => method === against || against === 'avif')).toEqual([]);
});

test('the rate for an accuracy lies between the points of the hull', () => {
  expect(rateAt(steep, 0.5)).toEqual({ bpp: 0.5, atMost: false });
  expect(rateAt(steep, 0.4)?.bpp).toBeCloseTo(Math.sqrt(0.25 * 0.5));
  expect(formatRateAt(rateAt(steep, 0.2))).toBe('≤ 0.25');
  expect(formatRateAt(rateAt(steep, 0.71))).toBe('–');
});
