import { RansDecoder } from '../../entropy/rans-decoder.js';
import { ransLowest } from '../../entropy/rans-encoder.js';
import { prepareDecoding, type RansDecodingTables } from '../../entropy/rans-tables.js';
import { listedValues } from '../../entropy/tables.js';
import { IsthmusError } from '../../errors.js';
import { coderTables } from './coder-tables.js';
import { PlaneContexts } from './contexts.js';
import {
  type CalibratedTables,
  firstPlainBin,
  flagBinOf,
  maxMagnitude,
  maxQuantized,
  maxSigned,
  numBins,
  stepOf,
} from './model.js';

// An engine folds these into the loop; what is imported it would read, and check, at every use.
const lowest = ransLowest;
const firstPlain = firstPlainBin;
const mostMagnitude = maxMagnitude;
const mostSigned = maxSigned;
const mostQuantized = maxQuantized;
/** Stands for a value that its table does not list: none can be as large. */
const escaped = 2 ** 30;

/** log2 of the slots of a bucket. */
const bucketShift = 5;
/** Stands for a bucket of more than one symbol. */
const mixed = 255;

/** Frequency tables as the loop over a plane looks values up. */
interface Lookup {
  /** Per context: where the slots of its table begin, and its symbols. */
  ofContext: Int32Array;
  /** Whose a slot is: the number of a symbol within its table. */
  slots: Uint8Array | Uint16Array;
  /** Whose all slots of a bucket are, or {@link mixed}: small enough to stay in the nearest cache. */
  buckets: Uint8Array;
  /** Per symbol: its value or {@link escaped}; its frequency in the low 16 bits, its first slot in the upper. */
  ofSymbol: Int32Array;
}

function prepareLookup({ tables, contexts }: CalibratedTables): Lookup {
  // Without the tables of plain bits, whose many values would make the slots too large for the caches.
  const { slots, entries, info, precision } = prepareDecoding(tables);
  const ofSymbol = new Int32Array(2 * entries.length);
  for (const [index, table] of tables.entries()) {
    for (let k = 0; k < table.frequencies.length; k++) {
      const symbol = info[4 * index + 2]! + k;
      ofSymbol[2 * symbol] = k < listedValues(table) ? table.minValue + k : escaped;
      ofSymbol[2 * symbol + 1] = entries[symbol]!;
    }
  }
  const ofContext = contexts.flatMap((table) => [table << precision, info[4 * table + 2]!]);
  const buckets = Uint8Array.from({ length: slots.length >> bucketShift }, (_, bucket) => {
    const own = slots.subarray(bucket << bucketShift, (bucket + 1) << bucketShift);
    return own[0]! < mixed && own.every((symbol) => symbol === own[0]) ? own[0]! : mixed;
  });
  return { ofContext: Int32Array.from(ofContext), slots, buckets, ofSymbol };
}

/** Per bin eight numbers: what is added to the values −3 (and below) to 3 (and above), and nothing. */
function signedCentroids({ centroids }: CalibratedTables): Float64Array {
  const signed = new Float64Array(8 * numBins);
  for (let bin = 0; bin < numBins; bin++) {
    for (let magnitude = 1; magnitude <= 3; magnitude++) {
      const centroid = centroids[3 * bin + magnitude - 1]! / 1024;
      signed[8 * bin + 3 + magnitude] = centroid;
      signed[8 * bin + 3 - magnitude] = -centroid;
    }
  }
  return signed;
}

/** The integer decoder of `calibrated`. */
export class PlaneDecoder {
  readonly #tables: CalibratedTables;
  readonly #prepared: RansDecodingTables;
  readonly #lookup: Lookup;
  readonly #contexts: PlaneContexts[];
  readonly #centroids: Float64Array;

  constructor(tables: CalibratedTables) {
    this.#tables = tables;
    this.#prepared = prepareDecoding(coderTables(tables));
    this.#lookup = prepareLookup(tables);
    this.#contexts = tables.tensors.map((tensor) => new PlaneContexts(tables, tensor));
    this.#centroids = signedCentroids(tables);
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
    const { precision } = this.#prepared;
    const { ofContext, slots, buckets, ofSymbol } = this.#lookup;
    const centroids = this.#centroids;
    const { magnitudes, signed, expectedAbove, predictedAbove } = contexts;
    const { weightLeft, weightFar, follow, isPredicted } = contexts;
    const mask = (1 << precision) - 1;
    const { words, end, ...suspended } = decoder.suspend();
    let { next, state, otherState } = suspended;
    let at = component * numPositions;
    for (let y = 0; y < height; y++) {
      contexts.startRow(y);
      let i = first + y * stride;
      let left = 0;
      let far = 0;
      let leftValue = 0;
      let x = 0;
      let context = 0;
      let readBefore = escaped;
      // Around again after a value that its table does not list. The loop inside calls nothing, so that an engine
      // may keep in registers what it knows of the arrays.
      for (;;) {
        for (; x < width; x++, i++, at++) {
          let expected = (expectedAbove[x]! + Math.imul(weightLeft, left) + Math.imul(weightFar, far)) | 0;
          // As binOf, with fewer branches: at least what the formula takes for bin 0, at most what is in the last.
          expected = expected < 14 ? 14 : Math.min(expected, 0x7fffff);
          const zeros = Math.clz32(expected);
          const bin = (105 - (zeros << 2) + (expected >>> (29 - zeros))) | 0;
          context = bin << 2;
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
          let residual = readBefore;
          if (residual === escaped) {
            const slot = state & mask;
            const at = (ofContext[context << 1]! + slot) | 0;
            let inTable = buckets[at >>> bucketShift]!;
            if (inTable === mixed) inTable = slots[at]!;
            const symbol = (ofContext[(context << 1) | 1]! + inTable) << 1;
            residual = ofSymbol[symbol]!;
            if (residual === escaped) break;
            // As in RansDecoder.readRun.
            const entry = ofSymbol[symbol | 1]!;
            const stepped = (Math.imul(entry & 0xffff, state >>> precision) + slot - (entry >>> 16)) | 0;
            const wanting = (stepped - lowest) >> 31;
            state = otherState;
            otherState = (stepped << (wanting & 16)) | (words[next]! & wanting);
            next = (next - wanting) | 0;
          }
          readBefore = escaped;
          if (bin >= firstPlain) {
            // plainBitsOf; and a table of equal frequencies, which needs no looking up.
            const plainBits = ((bin - 1) >> 2) - 9;
            const bits = precision - plainBits;
            const slot = state & mask;
            residual = (residual << plainBits) | (slot >>> bits);
            const stepped = (((state >>> precision) << bits) + (slot & ((1 << bits) - 1))) | 0;
            const wanting = (stepped - lowest) >> 31;
            state = otherState;
            otherState = (stepped << (wanting & 16)) | (words[next]! & wanting);
            next = (next - wanting) | 0;
          }
          if (next > end) throw corrupt('it ends too early');
          const turned = (residual + shift) | 0;
          if (turned > mostQuantized || turned < -mostQuantized) throw corrupt('a value is out of range');
          far = left;
          // Zeros go a way of their own: a processor guesses it, and need not wait for the value.
          if (turned === 0 && residual === 0) {
            left = 0;
            leftValue = 0;
            magnitudes[i] = 0;
            signed[i] = 0;
            continue;
          }
          const value = ((turned ^ sign) - sign) | 0;
          const side = residual >> 31;
          left = ((residual ^ side) - side) | 0;
          if (left > mostMagnitude) left = mostMagnitude;
          magnitudes[i] = left;
          leftValue = value > mostSigned ? mostSigned : Math.max(value, -mostSigned);
          signed[i] = leftValue;
          const nearest = value > 3 ? 3 : Math.max(value, -3);
          out[at] = step * (value + centroids[(bin << 3) + 3 + nearest]!);
        }
        if (x === width) break;
        decoder.resume(next, state, otherState);
        readBefore = decoder.readOne(this.#tables.contexts[context]!) | 0;
        if (readBefore === escaped) throw corrupt('a value is out of range');
        ({ next, state, otherState } = decoder.suspend());
      }
    }
    decoder.resume(next, state, otherState);
    contexts.finish(component, true);
  }
}

function corrupt(what: string): IsthmusError {
  return new IsthmusError('codec/corrupt', `A calibrated stream is corrupt: ${what}.`);
}
