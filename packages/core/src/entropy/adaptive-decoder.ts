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
const codeRegister = 1;

/**
 * Decodes what `AdaptiveEncoder` wrote; the caller asks for the same kinds of things, with the same contexts, in the
 * same order.
 *
 * Whatever the bytes, every call takes bounded time, reads only inside its arrays and allocates nothing. A stream
 * that was cut short or changed ends in `codec/corrupt`, at the latest in {@link AdaptiveDecoder.finish}, except for
 * a change that makes it the stream of other values; so packets carry a CRC besides.
 */
export class AdaptiveDecoder {
  readonly #model: AdaptiveModel;
  readonly #bytes: Uint8Array;
  #next = 4;
  /** The width of the interval and where in it the stream lies: always less than the width. */
  readonly #registers: Uint32Array;

  /**
   * @param numContexts As many as the encoder had.
   * @throws IsthmusError `codec/corrupt` if the bytes cannot be a stream.
   */
  constructor(bytes: Uint8Array, numContexts: number) {
    this.#model = createModel(numContexts);
    this.#bytes = bytes;
    if (bytes.byteLength < 4) throw corrupt(`${bytes.byteLength} bytes cannot be one`);
    const code = (bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!;
    this.#registers = Uint32Array.of(0xffffffff, code);
    if (code === -1) throw corrupt('it begins outside its interval');
  }

  /** One bit. @throws IsthmusError `codec/corrupt`; `usage/invalid` for a context that does not exist. */
  readBit(context: number): 0 | 1 {
    const { estimates, counts } = this.#model;
    if (context >>> 0 >= counts.length) throw noSuchContext(context, counts.length);
    const registers = this.#registers;
    let range = registers[rangeRegister]!;
    let code = registers[codeRegister]!;
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
    let bit: 0 | 1;
    if (code < split) {
      bit = 0;
      range = split;
      slow += (65_536 - slow) >>> shift;
      quick += (65_536 - quick) >>> quickly;
    } else {
      bit = 1;
      range = (range - split) >>> 0;
      code = (code - split) >>> 0;
      slow -= slow >>> shift;
      quick -= quick >>> quickly;
    }
    estimates[context] = (slow << 16) | quick;
    while (range < 0x1000000) {
      if (this.#next >= this.#bytes.length) throw corrupt('it ends too early');
      range = (range << 8) >>> 0;
      code = ((code << 8) | this.#bytes[this.#next++]!) >>> 0;
    }
    registers[rangeRegister] = range;
    registers[codeRegister] = code;
    return bit;
  }

  /** `count` bits, 0 to 15, that were written as they are. @throws IsthmusError `codec/corrupt` */
  readBits(count: number): number {
    const registers = this.#registers;
    let range = registers[rangeRegister]! >>> count;
    const bits = Math.floor(registers[codeRegister]! / range);
    if (bits >= 1 << count) throw corrupt('it leaves its interval');
    let code = registers[codeRegister]! - bits * range;
    while (range < 0x1000000) {
      if (this.#next >= this.#bytes.length) throw corrupt('it ends too early');
      range = (range << 8) >>> 0;
      code = ((code << 8) | this.#bytes[this.#next++]!) >>> 0;
    }
    registers[rangeRegister] = range;
    registers[codeRegister] = code;
    return bits;
  }

  /** One of 2^numBits symbols. @throws IsthmusError as {@link readBit} */
  readSymbol(context: number, numBits: number): number {
    let node = 1;
    for (let i = 0; i < numBits; i++) node = 2 * node + this.readBit(context + node);
    return node - (1 << numBits);
  }

  /** One integer of 32 bits. @throws IsthmusError as {@link readBit} */
  readValue(context: number): number {
    if (this.readBit(context) === 0) return 0;
    const negative = this.readBit(context + signContext) === 1;
    let magnitude = 1;
    while (magnitude < plainMagnitude && this.readBit(context + magnitudeContext + magnitude - 1) === 1) {
      magnitude++;
    }
    if (magnitude === plainMagnitude) magnitude += this.#readRest(context) - 1;
    const value = negative ? -magnitude : magnitude;
    if ((value | 0) !== value) throw corrupt('a value is beyond 32 bits');
    return value;
  }

  /** A number from 1: the length of its bits, coded in unary, then those after the first. */
  #readRest(context: number): number {
    let length = 0;
    while (
      length < maxLength &&
      this.readBit(context + lengthContext + Math.min(length, lengthContexts - 1)) === 1
    ) {
      length++;
    }
    let rest = 1;
    for (let left = length; left > 0; ) {
      const count = Math.min(left, 15);
      rest = rest * (1 << count) + this.readBits(count);
      left -= count;
    }
    return rest;
  }

  /**
   * Call it after the last value: it checks that the stream ends here, as the encoder ended it.
   *
   * @throws IsthmusError `codec/corrupt`
   */
  finish(): void {
    if (this.#next !== this.#bytes.length) throw corrupt('it has bytes left over');
    if (this.#registers[codeRegister] !== 0) throw corrupt('it does not end as it should');
  }
}

function corrupt(what: string): IsthmusError {
  return new IsthmusError('codec/corrupt', `An adaptively coded stream is corrupt: ${what}.`);
}
