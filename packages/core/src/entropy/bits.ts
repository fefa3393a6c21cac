/** Bits into bytes, the first bit of a byte being its lowest. */
export class BitWriter {
  readonly #bytes: number[] = [];
  #used = 8;

  /** The `count` lowest bits of `bits`, lowest first. */
  write(bits: number, count: number): void {
    for (let i = 0; i < count; i++) {
      if (this.#used === 8) {
        this.#bytes.push(0);
        this.#used = 0;
      }
      this.#bytes[this.#bytes.length - 1]! |= ((bits >>> i) & 1) << this.#used++;
    }
  }

  /** Elias gamma of a number from 1: as many zeros as it has bits after its first, a one, and those bits. */
  writeGamma(value: number): void {
    const length = 31 - Math.clz32(value);
    this.write(0, length);
    this.write(1, 1);
    this.write(value, length);
  }

  finish(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }
}

/** Reads what {@link BitWriter} wrote; `fail` makes the error for input that ends too early or makes no sense. */
export class BitReader {
  readonly #bytes: Uint8Array;
  readonly #fail: (what: string) => Error;
  #at = 0;

  constructor(bytes: Uint8Array, fail: (what: string) => Error) {
    this.#bytes = bytes;
    this.#fail = fail;
  }

  get bitsLeft(): number {
    return 8 * this.#bytes.length - this.#at;
  }

  read(count: number): number {
    if (count > this.bitsLeft) throw this.#fail('it ends too early');
    let bits = 0;
    for (let i = 0; i < count; i++, this.#at++) {
      bits |= ((this.#bytes[this.#at >>> 3]! >>> (this.#at & 7)) & 1) << i;
    }
    return bits;
  }

  /** A number from 1 to 2^24 − 1. */
  readGamma(): number {
    let length = 0;
    while (this.read(1) === 0) {
      length++;
      if (length === 24) throw this.#fail('a number is too large');
    }
    return 2 ** length + this.read(length);
  }

  /** Only padding is left: less than a byte, all zero. */
  finish(): void {
    const left = this.bitsLeft;
    if (left >= 8 || this.read(left) !== 0) throw this.#fail('something follows its end');
  }
}

/** 0, −1, 1, −2, … as 0, 1, 2, 3, … */
export function foldSign(value: number): number {
  return value < 0 ? -2 * value - 1 : 2 * value;
}

export function unfoldSign(folded: number): number {
  return folded % 2 === 1 ? -(folded + 1) / 2 : folded / 2;
}
