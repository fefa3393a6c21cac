import { IsthmusError } from '../errors.js';
import { type FrequencyTable, tableFromCounts, trimCounts } from './tables.js';

/**
 * A density proportional to exp(−|x / scale|^e): `laplace` e = 1, `gaussian` e = 2, `peaked` e = ½ (sharper at zero
 * and heavier in the tails than Laplace, as sparse features often are).
 */
export type FamilyShape = 'laplace' | 'gaussian' | 'peaked';

/** Tables of one shape at several scales. */
export interface FamilyOptions {
  shape: FamilyShape;
  /** One table each, in units of the quantizer's step. */
  scales: readonly number[];
  precision: number;
  minValue: number;
  maxValue: number;
  /**
   * Whether other values can escape. Then each table lists only those values from minValue to maxValue that its
   * scale makes likely enough.
   */
  hasEscape: boolean;
  /** Half the width of the bin of 0, the others being 1 wide: more than ½ for a dead-zone quantizer. @default 0.5 */
  zeroHalfWidth?: number;
  /** How likely 0 is, whatever the density says: for features after a ReLU. Absent: as the density says. */
  zeroProbability?: number;
}

/**
 * Tables for quantized values of a known distribution, one per scale, so that an encoder without calibration can
 * choose the best for a channel and say which in a byte. Only sums, products, quotients and square roots of doubles
 * are used, which every machine rounds alike; still, ship the tables rather than build them at both ends.
 *
 * @throws IsthmusError `usage/invalid` for scales or widths that are not positive and finite, or an empty range.
 *
 * @example
 * ```ts
 * const tables = familyTables({
 *   shape: 'laplace', scales: geometricScales(0.25, 32, 4), precision: 12,
 *   minValue: -127, maxValue: 127, hasEscape: true,
 * });
 * ```
 */
export function familyTables(options: FamilyOptions): FrequencyTable[] {
  const { scales, minValue, maxValue, zeroHalfWidth = 0.5, zeroProbability } = options;
  const positive = [...scales, zeroHalfWidth].every((value) => value > 0 && Number.isFinite(value));
  const likely = zeroProbability === undefined || (zeroProbability >= 0 && zeroProbability <= 1);
  if (!positive || !likely || !(minValue <= maxValue)) {
    throw new IsthmusError('usage/invalid', 'A family needs positive scales, a probability and a range.');
  }
  return scales.map((scale) => familyTable(options, scale));
}

function familyTable(options: FamilyOptions, scale: number): FrequencyTable {
  const { shape, precision, minValue, maxValue, hasEscape, zeroHalfWidth = 0.5, zeroProbability } = options;
  const massOf = (value: number): number => {
    const far = Math.abs(value);
    if (far === 0) return 2 * integrate(shape, scale, 0, zeroHalfWidth);
    return integrate(shape, scale, zeroHalfWidth + far - 1, zeroHalfWidth + far);
  };
  const masses = Array.from({ length: maxValue - minValue + 1 }, (_, i) => massOf(minValue + i));
  // A range that begins at 0 is of something that is never negative.
  let escapeMass = 0;
  if (hasEscape) {
    if (maxValue >= 0) escapeMass += tailMass(massOf, maxValue + 1);
    if (minValue < 0) escapeMass += tailMass(massOf, 1 - minValue);
  }
  if (zeroProbability !== undefined && minValue <= 0 && maxValue >= 0) {
    masses[-minValue] = 0;
    const others = masses.reduce((sum, mass) => sum + mass, escapeMass);
    const rest = others > 0 ? (1 - zeroProbability) / others : 0;
    masses.forEach((mass, i) => {
      masses[i] = mass * rest;
    });
    escapeMass *= rest;
    masses[-minValue] = zeroProbability;
  }
  if (!hasEscape) return tableFromCounts(masses, { precision, minValue });
  const all = { counts: Float64Array.from(masses), minValue, outside: escapeMass };
  const kept = trimCounts(all, precision);
  const escapeCount = Math.max(0, kept.outside);
  return tableFromCounts(kept.counts, { precision, minValue: kept.minValue, escapeCount });
}

const maxTailBins = 4096;

function tailMass(massOf: (value: number) => number, from: number): number {
  let sum = 0;
  for (let value = from; value < from + maxTailBins; value++) {
    const mass = massOf(value);
    sum += mass;
    if (mass < sum * 1e-9) break;
  }
  return sum;
}

/** Simpson's rule over eight parts. */
function integrate(shape: FamilyShape, scale: number, from: number, to: number): number {
  const part = (to - from) / 8;
  let sum = density(shape, from / scale) + density(shape, to / scale);
  for (let i = 1; i < 8; i++) sum += (i % 2 === 1 ? 4 : 2) * density(shape, (from + i * part) / scale);
  return (sum * part) / 3;
}

function density(shape: FamilyShape, x: number): number {
  return expOfMinus(shape === 'laplace' ? x : shape === 'gaussian' ? x * x : Math.sqrt(x));
}

/** e^−x for x ≥ 0 without Math.exp, whose last digits differ between engines. */
function expOfMinus(x: number): number {
  if (x > 700) return 0;
  let halvings = 0;
  let small = x;
  for (; small > 0.125; halvings++) small /= 2;
  let series = 1;
  for (let k = 10; k >= 1; k--) series = 1 - (small * series) / k;
  for (; halvings > 0; halvings--) series *= series;
  return series;
}

/**
 * `count` scales from `first`, each 2^(1/perOctave) times the one before.
 *
 * @param perOctave 1, 2, 4 or 8: powers of two, so that square roots suffice.
 */
export function geometricScales(first: number, count: number, perOctave: 1 | 2 | 4 | 8): number[] {
  let ratio = 2;
  for (let n: number = perOctave; n > 1; n /= 2) ratio = Math.sqrt(ratio);
  const scales = [first];
  while (scales.length < count) scales.push(scales[scales.length - 1]! * ratio);
  return scales.slice(0, count);
}
