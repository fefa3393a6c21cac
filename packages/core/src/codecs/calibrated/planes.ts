import { RansDecoder } from '../../entropy/rans-decoder.js';
import { RansEncoder } from '../../entropy/rans-encoder.js';
import {
  prepareDecoding,
  prepareEncoding,
  type RansDecodingTables,
  type RansEncodingTables,
} from '../../entropy/rans-tables.js';
import { type FrequencyTable, listedValues } from '../../entropy/tables.js';
import { IsthmusError } from '../../errors.js';
import { PlaneContexts } from './contexts.js';
import {
  type CalibratedTables,
  classOf,
  flagBinOf,
  maxQuantized,
  numBins,
  plainBitsOf,
  shiftOf,
  stepOf,
} from './model.js';

const maxPlainBits = plainBitsOf(numBins - 1);

/** Integers and the table of each, in the order in which they are decoded. */
export interface SymbolSequence {
  values: Int32Array;
  tableOf: Uint16Array;
  length: number;
}

/** The tables as the coder uses them: those of the file, and behind them one for each number of plain bits. */
export function coderTables(tables: CalibratedTables): FrequencyTable[] {
  const { precision } = tables.tables[0]!;
  return [
    ...tables.tables,
    ...Array.from({ length: maxPlainBits }, (_, i): FrequencyTable => {
      const frequencies = new Uint16Array(2 ** (i + 1)).fill(2 ** (precision - i - 1));
      return { precision, minValue: 0, hasEscape: false, frequencies };
    }),
  ];
}

/** Bits of every listed value of every table, for weighing rate against distortion. */
function makePrices(tables: readonly FrequencyTable[]): Float32Array[] {
  return tables.map((table) => {
    const listed = listedValues(table);
    const bits = (frequency: number): number => table.precision - Math.log2(frequency);
    const outside = table.hasEscape ? bits(table.frequencies[listed]!) + 8 : 40;
    const prices = new Float32Array(2 * priceRange + 1).fill(outside);
    for (let i = 0; i < listed; i++) {
      const at = table.minValue + i + priceRange;
      if (at >= 0 && at < prices.length) prices[at] = bits(table.frequencies[i]!);
    }
    return prices;
  });
}

// Beyond this many, values are dear in any table, and rounding is not weighed.
const priceRange = 63;

function centroidOf(centroids: Float32Array, bin: number, magnitude: number): number {
  return centroids[bin * 3 + (magnitude > 2 ? 2 : magnitude - 1)]!;
}

export class PlaneEncoder {
  readonly #tables: CalibratedTables;
  readonly #prepared: RansEncodingTables | undefined;
  readonly #prices: Float32Array[];
  readonly #contexts: PlaneContexts[];
  readonly #sequence: SymbolSequence;
  readonly #contextToTable: Uint16Array;
  readonly #centroids: Float32Array;

  constructor(tables: CalibratedTables) {
    this.#tables = tables;
    const all = coderTables(tables);
    this.#prepared = prepareEncoding(all);
    this.#prices = makePrices(all);
    this.#contexts = tables.tensors.map((tensor) => new PlaneContexts(tables, tensor));
    this.#contextToTable = Uint16Array.from(tables.contexts);
    this.#centroids = Float32Array.from(tables.centroids, (value) => value / 1024);
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
    const encoder = new RansEncoder(this.#prepared!, sequence.length);
    encoder.writeMixed(sequence.values, 0, sequence.length, sequence.tableOf);
    return encoder.finish();
  }

  /** The integers {@link encode} would write; valid until the next call. */
  collect(transformed: readonly Float32Array[], level: number): SymbolSequence | undefined {
    const { scale, components, lambda } = this.#tables.levels[level]!;
    this.#sequence.length = 0;
    for (const [index, contexts] of this.#contexts.entries()) {
      contexts.begin(scale);
      for (let component = 0; component < components[index]!; component++) {
        if (!this.#encodePlane(contexts, component, transformed[index]!, 1 / stepOf(scale), lambda / 1024))
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
    const centroids = this.#centroids;
    const from = component * numPositions;
    const flagAt = sequence.length;
    const flagTable = this.#tables.flags[flagBinOf(contexts.prior(component), numPositions)]!;
    values[flagAt] = 0;
    tableOf[flagAt] = flagTable;
    let largest = 0;
    for (let i = from; i < from + numPositions; i++) {
      const magnitude = Math.abs(transformed[i]!);
      if (magnitude > largest) largest = magnitude;
    }
    largest *= inverseStep;
    if (!(largest < maxQuantized)) return false;
    sequence.length = flagAt + 1;
    // Nothing here rounds to anything but zero.
    if (largest < 0.5) {
      contexts.finish(component, false);
      return true;
    }
    contexts.start(component);
    const contextToTable = this.#contextToTable;
    const prices = this.#prices;
    const numTables = this.#tables.tables.length;
    let next = flagAt + 1;
    let anything = 0;
    for (let y = 0, at = from; y < height; y++) {
      let i = first + y * stride;
      for (const end = i + width; i < end; i++, at++) {
        const exact = transformed[at]! * inverseStep;
        const bin = contexts.bin(i);
        const predicted = contexts.prediction(i);
        const strength = predicted < 0 ? -predicted : predicted;
        const shift = shiftOf(strength);
        const table = contextToTable[bin * 4 + classOf(strength)]!;
        const plainBits = plainBitsOf(bin);
        const magnitude = exact < 0 ? -exact : exact;
        let quantized: number;
        if (lambda === 0 || plainBits > 0) {
          quantized = (magnitude + (plainBits > 0 ? 0.5 : 0.35)) | 0;
        } else {
          quantized = (magnitude + 0.5) | 0;
          if (quantized > 0) {
            // Rate against distortion: the nearest integer, the one below, and zero.
            const turned = exact < 0 !== predicted < 0 ? -1 : 1;
            const price = prices[table]!;
            let best = Infinity;
            const nearest = quantized;
            for (let candidate = nearest; candidate >= 0; candidate--) {
              const error =
                candidate === 0 ? magnitude : magnitude - candidate - centroidOf(centroids, bin, candidate);
              const symbol = turned * candidate - shift;
              const bits = symbol < -priceRange || symbol > priceRange ? 20 : price[symbol + priceRange]!;
              const cost = error * error + lambda * bits;
              if (cost < best) {
                best = cost;
                quantized = candidate;
              }
              if (candidate < nearest && candidate > 1) candidate = 1;
            }
          }
        }
        const value = exact < 0 ? -quantized : quantized;
        const residual = (predicted < 0 ? -value : value) - shift;
        anything |= value;
        values[next] = residual >> plainBits;
        tableOf[next++] = table;
        if (plainBits > 0) {
          values[next] = residual & ((1 << plainBits) - 1);
          tableOf[next++] = numTables + plainBits - 1;
        }
        contexts.put(i, value, residual);
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

export class PlaneDecoder {
  readonly #tables: CalibratedTables;
  readonly #prepared: RansDecodingTables;
  readonly #contexts: PlaneContexts[];
  readonly #contextToTable: Uint16Array;
  readonly #centroids: Float32Array;

  constructor(tables: CalibratedTables) {
    this.#tables = tables;
    this.#prepared = prepareDecoding(coderTables(tables));
    this.#contexts = tables.tensors.map((tensor) => new PlaneContexts(tables, tensor));
    this.#contextToTable = Uint16Array.from(tables.contexts);
    this.#centroids = Float32Array.from(tables.centroids, (value) => value / 1024);
  }

  /**
   * The tensors' components, reconstructed.
   *
   * @throws IsthmusError `codec/corrupt`
   */
  decode(stream: Uint8Array, level: number): Float32Array[] {
    const decoder = new RansDecoder(this.#prepared, stream);
    const { scale, components } = this.#tables.levels[level]!;
    const results = this.#contexts.map((contexts, index) => {
      const { scales, height, width } = this.#tables.tensors[index]!;
      const out = new Float32Array(scales.length * height * width);
      contexts.begin(scale);
      for (let component = 0; component < components[index]!; component++) {
        this.#decodePlane(decoder, contexts, component, out, stepOf(scale));
      }
      return out;
    });
    decoder.finish();
    return results;
  }

  #decodePlane(
    decoder: RansDecoder,
    contexts: PlaneContexts,
    component: number,
    out: Float32Array,
    step: number,
  ): void {
    const { width, height, stride, first } = contexts;
    const numPositions = width * height;
    const isCoded =
      decoder.readOne(this.#tables.flags[flagBinOf(contexts.prior(component), numPositions)]!) !== 0;
    if (!isCoded) {
      contexts.finish(component, false);
      return;
    }
    contexts.start(component);
    const contextToTable = this.#contextToTable;
    const centroids = this.#centroids;
    const numTables = this.#tables.tables.length;
    for (let y = 0, at = component * numPositions; y < height; y++) {
      let i = first + y * stride;
      for (const end = i + width; i < end; i++, at++) {
        const bin = contexts.bin(i);
        const predicted = contexts.prediction(i);
        const strength = predicted < 0 ? -predicted : predicted;
        const plainBits = plainBitsOf(bin);
        let residual = decoder.readOne(contextToTable[bin * 4 + classOf(strength)]!);
        if (plainBits > 0) residual = (residual << plainBits) | decoder.readOne(numTables + plainBits - 1);
        const turned = residual + shiftOf(strength);
        if (turned > maxQuantized || turned < -maxQuantized) {
          throw new IsthmusError('codec/corrupt', 'A calibrated stream is corrupt: a value is out of range.');
        }
        const value = predicted < 0 ? -turned : turned;
        contexts.put(i, value, residual);
        if (value > 0) out[at] = step * (value + centroidOf(centroids, bin, value));
        else if (value < 0) out[at] = step * (value - centroidOf(centroids, bin, -value));
      }
    }
    contexts.finish(component, true);
  }
}
