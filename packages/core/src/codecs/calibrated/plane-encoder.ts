import { RansEncoder } from '../../entropy/rans-encoder.js';
import { prepareEncoding, type RansEncodingTables } from '../../entropy/rans-tables.js';
import { type FrequencyTable, listedValues } from '../../entropy/tables.js';
import { coderTables } from './coder-tables.js';
import { PlaneContexts } from './contexts.js';
import {
  type CalibratedTables,
  firstPlainBin,
  flagBinOf,
  maxMagnitude,
  maxQuantized,
  maxSigned,
  stepOf,
} from './model.js';

/** Integers and the table of each, in the order in which they are decoded. */
export interface SymbolSequence {
  values: Int32Array;
  tableOf: Uint16Array;
  length: number;
}

// Beyond this many, values are dear in any table, and rounding is not weighed.
const priceRange = 63;
/** How many prices each table has: of −{@link priceRange} to {@link priceRange}, and one more. */
const priceStride = 128;
const farPrice = 20;
// An engine folds these into the loop; what is imported it would read, and check, at every use.
const firstPlain = firstPlainBin;
const mostMagnitude = maxMagnitude;
const mostSigned = maxSigned;

/** Bits of every listed value of every table, for weighing rate against distortion. */
function makePrices(tables: readonly FrequencyTable[]): Float32Array {
  const prices = new Float32Array(priceStride * tables.length);
  for (const [index, table] of tables.entries()) {
    const listed = listedValues(table);
    const bits = (frequency: number): number => table.precision - Math.log2(frequency);
    const outside = table.hasEscape ? bits(table.frequencies[listed]!) + 8 : 40;
    const own = prices.subarray(priceStride * index, priceStride * index + 2 * priceRange + 1).fill(outside);
    for (let i = 0; i < listed; i++) {
      const at = table.minValue + i + priceRange;
      if (at >= 0 && at < own.length) own[at] = bits(table.frequencies[i]!);
    }
  }
  return prices;
}

/** The integer encoder of `calibrated`. */
export class PlaneEncoder {
  readonly #tables: CalibratedTables;
  readonly #prepared: RansEncodingTables;
  readonly #prices: Float32Array;
  readonly #contexts: PlaneContexts[];
  readonly #sequence: SymbolSequence;
  readonly #contextToTable: Uint16Array;
  /** Per bin: of the magnitudes 0 (nothing), 1, 2, and above. */
  readonly #centroids: Float64Array;

  constructor(tables: CalibratedTables) {
    this.#tables = tables;
    const all = coderTables(tables);
    this.#prepared = prepareEncoding(all);
    this.#prices = makePrices(all);
    this.#contexts = tables.tensors.map((tensor) => new PlaneContexts(tables, tensor));
    this.#contextToTable = Uint16Array.from(tables.contexts);
    this.#centroids = new Float64Array((4 * tables.centroids.length) / 3);
    for (const [index, centroid] of tables.centroids.entries()) {
      this.#centroids[4 * Math.floor(index / 3) + (index % 3) + 1] = centroid / 1024;
    }
    let most = 0;
    for (const { scales, height, width } of tables.tensors) most += scales.length * (2 * height * width + 1);
    this.#sequence = { values: new Int32Array(most), tableOf: new Uint16Array(most), length: 0 };
  }

  /**
   * @param transformed Per tensor: components × height × width.
   * @returns undefined if a value is beyond what can be quantized.
   */
  encode(transformed: readonly Float32Array[], level: number): Uint8Array | undefined {
    const sequence = this.collect(transformed, level);
    if (sequence === undefined) return undefined;
    const encoder = new RansEncoder(this.#prepared, sequence.length);
    encoder.writeMixed(sequence.values, 0, sequence.length, sequence.tableOf);
    return encoder.finish();
  }

  /** The integers {@link encode} would write; valid until the next call. */
  collect(transformed: readonly Float32Array[], level: number): SymbolSequence | undefined {
    const { scale, components, lambda } = this.#tables.levels[level]!;
    const inverseStep = 1 / stepOf(scale);
    this.#sequence.length = 0;
    for (const [index, contexts] of this.#contexts.entries()) {
      contexts.begin(scale);
      for (let component = 0; component < components[index]!; component++) {
        if (!this.#encodePlane(contexts, component, transformed[index]!, inverseStep, lambda / 1024))
          return undefined;
      }
    }
    return this.#sequence;
  }

  #encodePlane(
    contexts: PlaneContexts,
    component: number,
    transformed: Float32Array,
    inverseStep: number,
    lambda: number,
  ): boolean {
    const { width, height, stride, first } = contexts;
    const numPositions = width * height;
    const sequence = this.#sequence;
    const { values, tableOf } = sequence;
    const from = component * numPositions;
    const flagAt = sequence.length;
    values[flagAt] = 0;
    tableOf[flagAt] = this.#tables.flags[flagBinOf(contexts.prior(component), numPositions)]!;
    const largest = largestOf(transformed, from, from + numPositions) * inverseStep;
    if (!(largest < maxQuantized)) return false;
    sequence.length = flagAt + 1;
    // Nothing here rounds to anything but zero.
    if (largest < 0.5) {
      contexts.finish(component, false);
      return true;
    }
    contexts.start(component);
    const contextToTable = this.#contextToTable;
    const centroids = this.#centroids;
    const prices = this.#prices;
    const numTables = this.#tables.tables.length;
    const { magnitudes, signed, expectedAbove, predictedAbove } = contexts;
    const { weightLeft, weightFar, follow, isPredicted } = contexts;
    // Without a price there is a dead zone.
    const rounding = lambda === 0 ? 0.35 : 0.5;
    let next = flagAt + 1;
    let anything = 0;
    for (let y = 0, at = from; y < height; y++) {
      contexts.startRow(y);
      let i = first + y * stride;
      let left = 0;
      let far = 0;
      let leftValue = 0;
      for (let x = 0; x < width; x++, i++, at++) {
        let expected = (expectedAbove[x]! + Math.imul(weightLeft, left) + Math.imul(weightFar, far)) | 0;
        // As binOf, with fewer branches: at least what the formula takes for bin 0, at most what is in the last.
        expected = expected < 14 ? 14 : Math.min(expected, 0x7fffff);
        const zeros = Math.clz32(expected);
        const bin = (105 - (zeros << 2) + (expected >>> (29 - zeros))) | 0;
        let context = bin << 2;
        let sign = 0;
        let shift = 0;
        if (isPredicted) {
          const predicted = (predictedAbove[x]! + Math.imul(follow, leftValue)) | 0;
          sign = predicted >> 31;
          const strength = ((predicted ^ sign) - sign) | 0;
          // classOf and shiftOf.
          context += ((409 - strength) >>> 31) + ((1023 - strength) >>> 31) + ((2047 - strength) >>> 31);
          shift = (strength + 2048) >> 12;
        }
        const table = contextToTable[context]!;
        const exact = transformed[at]! * inverseStep;
        const magnitude = Math.abs(exact);
        far = left;
        tableOf[next] = table;
        if (magnitude < 0.5 && shift === 0 && bin < firstPlain) {
          values[next++] = 0;
          left = 0;
          leftValue = 0;
          magnitudes[i] = 0;
          signed[i] = 0;
          continue;
        }
        const exactSign = exact < 0 ? -1 : 0;
        let quantized = (magnitude + (bin < firstPlain ? rounding : 0.5)) | 0;
        if (quantized > 0 && lambda !== 0 && bin < firstPlain) {
          // Rate against distortion: the nearest integer, the one below, and zero.
          const turn = exactSign ^ sign;
          const priceAt = priceStride * table + priceRange;
          const centroidAt = bin << 2;
          const nearest = quantized;
          let symbol = (((nearest ^ turn) - turn) | 0) - shift;
          let bits = symbol < -priceRange || symbol > priceRange ? farPrice : prices[priceAt + symbol]!;
          let error = magnitude - nearest - centroids[centroidAt + Math.min(nearest, 3)]!;
          let best = error * error + lambda * bits;
          if (nearest > 1) {
            const below = nearest - 1;
            symbol = (((below ^ turn) - turn) | 0) - shift;
            bits = symbol < -priceRange || symbol > priceRange ? farPrice : prices[priceAt + symbol]!;
            error = magnitude - below - centroids[centroidAt + Math.min(below, 3)]!;
            const cost = error * error + lambda * bits;
            if (cost < best) {
              best = cost;
              quantized = below;
            }
          }
          bits = shift > priceRange ? farPrice : prices[priceAt - shift]!;
          if (magnitude * magnitude + lambda * bits < best) quantized = 0;
        }
        const value = ((quantized ^ exactSign) - exactSign) | 0;
        const residual = (((value ^ sign) - sign) | 0) - shift;
        anything |= value;
        if (bin < firstPlain) {
          values[next++] = residual;
        } else {
          // plainBitsOf
          const plainBits = ((bin - 1) >> 2) - 9;
          values[next++] = residual >> plainBits;
          values[next] = residual & ((1 << plainBits) - 1);
          tableOf[next++] = numTables + plainBits - 1;
        }
        const side = residual >> 31;
        left = ((residual ^ side) - side) | 0;
        if (left > mostMagnitude) left = mostMagnitude;
        magnitudes[i] = left;
        leftValue = value > mostSigned ? mostSigned : Math.max(value, -mostSigned);
        signed[i] = leftValue;
      }
    }
    if (anything === 0) {
      contexts.finish(component, false);
      return true;
    }
    values[flagAt] = 1;
    sequence.length = next;
    contexts.finish(component, true);
    return true;
  }
}

function largestOf(values: Float32Array, from: number, to: number): number {
  let largest = 0;
  for (let i = from; i < to; i++) {
    const magnitude = Math.abs(values[i]!);
    if (magnitude > largest) largest = magnitude;
  }
  return largest;
}
