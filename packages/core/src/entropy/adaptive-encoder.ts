import { IsthmusError } from '../errors.js';
import {
  type AdaptiveModel,
  createModel,
  lengthContext,
  lengthContexts,
  magnitudeContext,
  matureCount,
  maxLength,
  noSuchContext,
  plainMagnitude,
  quickShift,
  signContext,
  slowShift,
} from './adaptive-model.js';

const rangeRegister = 0;
const lowRegister = 1;

/**
 * Encodes bits, each with a context the caller chooses, by a range coder of 32 bits (Martin 1979) whose
 * probabilities adapt to what they have seen; symbols and integers are made of such bits. Slower than the static
 * coder by a factor of several, smaller where contexts tell much and nothing was calibrated. The exact stream is in
 * `docs/entropy.md`.
 *
 * @example
 * ```ts
 * const encoder = new AdaptiveEncoder(2 * valueContexts);
 * encoder.writeValue(0, -3);             // context 0
 * encoder.writeValue(valueContexts, 70); // context 1
 * const bytes = encoder.finish();
 *
 * const decoder = new AdaptiveDecoder(bytes, 2 * valueContexts);
 * decoder.readValue(0); // -3
 * decoder.readValue(valueContexts); // 70
 * decoder.finish();
 * ```
 */
export class AdaptiveEncoder {
  readonly #model: AdaptiveModel;
  #bytes: Uint8Array = new Uint8Array(1024);
  #next = 0;
  /** The width of the interval and the low 32 bits of where it begins. */
  readonly #registers: Uint32Array = Uint32Array.of(0xffffffff, 0);

  /**
   * @param numContexts How many contexts there are: for each context of a symbol or a value,
   * `symbolContexts(numBits)` or `valueContexts`.
   * @throws IsthmusError `usage/invalid` for a number beyond 1 to 2^20.
   */
  constructor(numContexts: number) {
    this.#model = createModel(numContexts);
  }

  /** One bit. @throws IsthmusError `usage/invalid` for a context that does not exist. */
  writeBit(context: number, bit: 0 | 1): void {
    const { estimates, counts } = this.#model;
    if (context >>> 0 >= counts.length) throw noSuchContext(context, counts.length);
    const registers = this.#registers;
    let range = registers[rangeRegister]!;
    const estimate = estimates[context]!;
    let slow = estimate >>> 16;
    let quick = estimate & 0xffff;
    const split = Math.imul(range >>> 15, (slow + quick) >>> 2) >>> 0;
    const count = counts[context]!;
    let shift = slowShift;
    if (count < matureCount) {
      shift = 32 - Math.clz32(count + 1);
      counts[context] = count + 1;
    }
    const quickly = Math.min(shift, quickShift);
    if (bit === 0) {
      range = split;
      slow += (65_536 - slow) >>> shift;
      quick += (65_536 - quick) >>> quickly;
    } else {
      range = (range - split) >>> 0;
      this.#raise(split);
      slow -= slow >>> shift;
      quick -= quick >>> quickly;
    }
    estimates[context] = (slow << 16) | quick;
    registers[rangeRegister] = range;
    if (range < 0x1000000) this.#shift();
  }

  /** The `count` lowest bits of `bits`, 0 to 15, as they are. */
  writeBits(bits: number, count: number): void {
    const range = this.#registers[rangeRegister]! >>> count;
    this.#registers[rangeRegister] = range;
    this.#raise((bits & ((1 << count) - 1)) * range);
    if (range < 0x1000000) this.#shift();
  }

  /** One of 2^numBits symbols. @throws IsthmusError as {@link writeBit} */
  writeSymbol(context: number, symbol: number, numBits: number): void {
    let node = 1;
    for (let i = numBits - 1; i >= 0; i--) {
      const bit = ((symbol >>> i) & 1) as 0 | 1;
      this.writeBit(context + node, bit);
      node = 2 * node + bit;
    }
  }

  /**
   * One integer of 32 bits: cheap if small.
   *
   * @throws IsthmusError as {@link writeBit}, and for a value that is no such integer.
   */
  writeValue(context: number, value: number): void {
    if ((value | 0) !== value) throw new IsthmusError('usage/invalid', `${value} is no integer of 32 bits.`);
    if (value === 0) {
      this.writeBit(context, 0);
      return;
    }
    this.writeBit(context, 1);
    this.writeBit(context + signContext, value < 0 ? 1 : 0);
    const magnitude = Math.abs(value);
    const plain = Math.min(magnitude, plainMagnitude);
    for (let i = 1; i < plain; i++) this.writeBit(context + magnitudeContext + i - 1, 1);
    if (magnitude < plainMagnitude) this.writeBit(context + magnitudeContext + magnitude - 1, 0);
    else this.#writeRest(context, magnitude - plainMagnitude + 1);
  }

  #writeRest(context: number, rest: number): void {
    const length = 31 - Math.clz32(rest);
    for (let i = 0; i < length; i++) {
      this.writeBit(context + lengthContext + Math.min(i, lengthContexts - 1), 1);
    }
    // The longest needs no end.
    if (length < maxLength) this.writeBit(context + lengthContext + Math.min(length, lengthContexts - 1), 0);
    for (let left = length; left > 0; ) {
      const count = Math.min(left, 15);
      left -= count;
      this.writeBits(rest >>> left, count);
    }
  }

  /** The stream, exactly as long as it has to be. The encoder must not be used after it. */
  finish(): Uint8Array {
    for (let i = 0; i < 4; i++) this.#shiftOnce();
    return this.#bytes.slice(0, this.#next);
  }

  /** Moves the beginning of the interval up, with the carry into the bytes already written. */
  #raise(by: number): void {
    const low = this.#registers[lowRegister]! + by;
    this.#registers[lowRegister] = low;
    if (low < 2 ** 32) return;
    // The whole stream is a fraction below 1, so a carry always ends at a byte below 255.
    let at = this.#next - 1;
    for (; this.#bytes[at] === 255; at--) this.#bytes[at] = 0;
    this.#bytes[at]! += 1;
  }

  #shift(): void {
    do this.#shiftOnce();
    while (this.#registers[rangeRegister]! < 0x1000000);
  }

  #shiftOnce(): void {
    if (this.#next === this.#bytes.length) {
      const grown = new Uint8Array(2 * this.#bytes.length);
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    this.#bytes[this.#next++] = this.#registers[lowRegister]! >>> 24;
    this.#registers[lowRegister] = this.#registers[lowRegister]! << 8;
    this.#registers[rangeRegister] = this.#registers[rangeRegister]! << 8;
  }
}
