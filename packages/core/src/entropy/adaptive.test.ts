import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sha256Hex } from '../bytes.js';
import { isIsthmusError } from '../errors.js';
import { AdaptiveDecoder } from './adaptive-decoder.js';
import { AdaptiveEncoder } from './adaptive-encoder.js';
import { symbolContexts, valueContexts } from './adaptive-model.js';
import { mutate } from './testing/mutate.js';
import { makeRandom } from './testing/random.js';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const usage = expect.objectContaining({ code: 'usage/invalid' });

type Item =
  | { kind: 'bit'; context: number; bit: 0 | 1 }
  | { kind: 'bits'; bits: number; count: number }
  | { kind: 'symbol'; context: number; symbol: number; numBits: number }
  | { kind: 'value'; context: number; value: number };

const numContexts = 4 * valueContexts;
const context = fc.nat(3).map((index) => index * valueContexts);
const item: fc.Arbitrary<Item> = fc.oneof(
  fc.record({
    kind: fc.constant('bit' as const),
    context: fc.nat(numContexts - 1),
    bit: fc.constantFrom(0 as const, 1 as const),
  }),
  fc.nat(15).chain((count) =>
    fc.record({
      kind: fc.constant('bits' as const),
      bits: fc.nat(2 ** count - 1),
      count: fc.constant(count),
    }),
  ),
  fc.nat(5).chain((numBits) =>
    fc.record({
      kind: fc.constant('symbol' as const),
      context,
      symbol: fc.nat(2 ** numBits - 1),
      numBits: fc.constant(numBits),
    }),
  ),
  fc.record({
    kind: fc.constant('value' as const),
    context,
    value: fc.oneof(
      fc.integer({ min: -20, max: 20 }),
      fc.integer(),
      fc.constantFrom(-(2 ** 31), 2 ** 31 - 1),
    ),
  }),
);

function write(encoder: Pick<AdaptiveEncoder, 'writeBit' | 'writeBits'> & AdaptiveEncoder, item: Item): void {
  if (item.kind === 'bit') encoder.writeBit(item.context, item.bit);
  else if (item.kind === 'bits') encoder.writeBits(item.bits, item.count);
  else if (item.kind === 'symbol') encoder.writeSymbol(item.context, item.symbol, item.numBits);
  else encoder.writeValue(item.context, item.value);
}

function read(decoder: AdaptiveDecoder, item: Item): number {
  if (item.kind === 'bit') return decoder.readBit(item.context);
  if (item.kind === 'bits') return decoder.readBits(item.count);
  if (item.kind === 'symbol') return decoder.readSymbol(item.context, item.numBits);
  return decoder.readValue(item.context);
}

function payloadOf(item: Item): number {
  if (item.kind === 'bit') return item.bit;
  if (item.kind === 'bits') return item.bits;
  return item.kind === 'symbol' ? item.symbol : item.value;
}

function encode(items: readonly Item[]): Uint8Array {
  const encoder = new AdaptiveEncoder(numContexts);
  for (const one of items) write(encoder, one);
  return encoder.finish();
}

/** The same stream the slow way, from docs/entropy.md: one integer without bounds, so that there are no carries. */
class SlowEncoder {
  #low = 0n;
  #range = 0xffffffffn;
  #numBytes = 4;
  readonly #slow = new Map<number, number>();
  readonly #quick = new Map<number, number>();
  readonly #seen = new Map<number, number>();

  bit(context: number, bit: number): void {
    let slow = this.#slow.get(context) ?? 32_768;
    let quick = this.#quick.get(context) ?? 32_768;
    const seen = this.#seen.get(context) ?? 0;
    const split = (this.#range >> 15n) * BigInt(Math.floor((slow + quick) / 4));
    if (bit === 1) {
      this.#low += split;
      this.#range -= split;
    } else this.#range = split;
    const age = Math.floor(Math.log2(seen + 1)) + 1;
    const move = (estimate: number, divisor: number) =>
      bit === 1
        ? estimate - Math.floor(estimate / divisor)
        : estimate + Math.floor((65_536 - estimate) / divisor);
    slow = move(slow, 2 ** Math.min(age, 7));
    quick = move(quick, 2 ** Math.min(age, 4));
    this.#slow.set(context, slow);
    this.#quick.set(context, quick);
    this.#seen.set(context, seen + 1);
    this.#normalize();
  }

  bits(bits: number, count: number): void {
    this.#range >>= BigInt(count);
    this.#low += this.#range * BigInt(bits);
    this.#normalize();
  }

  symbol(context: number, symbol: number, numBits: number): void {
    const path = numBits === 0 ? '' : symbol.toString(2).padStart(numBits, '0');
    [...path].forEach((bit, i) => {
      this.bit(context + Number.parseInt(`1${path.slice(0, i)}`, 2), Number(bit));
    });
  }

  value(context: number, value: number): void {
    this.bit(context, value === 0 ? 0 : 1);
    if (value === 0) return;
    this.bit(context + 1, value < 0 ? 1 : 0);
    const magnitude = Math.abs(value);
    for (let i = 1; i <= 12; i++) {
      this.bit(context + 1 + i, magnitude > i ? 1 : 0);
      if (magnitude === i) return;
    }
    const binary = (magnitude - 12).toString(2);
    for (let i = 0; i < 30; i++) {
      const more = i < binary.length - 1;
      this.bit(context + 14 + Math.min(i, 17), more ? 1 : 0);
      if (!more) break;
    }
    for (let at = 1; at < binary.length; at += 15) {
      const piece = binary.slice(at, at + 15);
      this.bits(Number.parseInt(piece, 2), piece.length);
    }
  }

  #normalize(): void {
    while (this.#range < 1n << 24n) {
      this.#range <<= 8n;
      this.#low <<= 8n;
      this.#numBytes++;
    }
  }

  finish(): Uint8Array {
    return Uint8Array.from(Buffer.from(this.#low.toString(16).padStart(2 * this.#numBytes, '0'), 'hex'));
  }
}

function encodeSlowly(items: readonly Item[]): Uint8Array {
  const encoder = new SlowEncoder();
  for (const one of items) {
    if (one.kind === 'bit') encoder.bit(one.context, one.bit);
    else if (one.kind === 'bits') encoder.bits(one.bits, one.count);
    else if (one.kind === 'symbol') encoder.symbol(one.context, one.symbol, one.numBits);
    else encoder.value(one.context, one.value);
  }
  return encoder.finish();
}

const valuesIn = (values: readonly number[]): Item[] =>
  values.map((value, i) => ({ kind: 'value', context: (i % 4) * valueContexts, value }));

describe('the adaptive coder', () => {
  it('has exactly these bytes', () => {
    expect(hex(encode([]))).toBe('00000000');
    expect(hex(encode(valuesIn([0, 0, 1, 0, -1, 0, 0, 13, 0, 100, -70_000, 0])))).toBe(
      '238a3fee1dffdf68ffffffa7f85c400000',
    );
    const mixed: Item[] = [
      { kind: 'symbol', context: 0, symbol: 11, numBits: 4 },
      { kind: 'bits', bits: 0x5555, count: 15 },
      { kind: 'bit', context: 40, bit: 1 },
      { kind: 'value', context: 64, value: -(2 ** 31) },
    ];
    expect(hex(encode(mixed))).toBe('baaa7fffffffffffba3548580000');
  });

  it('has exactly these bytes for 50,000 values', async () => {
    const random = makeRandom(9);
    const values = Array.from({ length: 50_000 }, (_, i) => {
      const x = (random() * 4 - 2) * (1 + (i & 3));
      return Math.round(x * x * x);
    });
    const bytes = encode(valuesIn(values));
    expect([bytes.byteLength, await sha256Hex(bytes)]).toEqual([
      41017,
      '7c36c6792c067302b82a298e59151f50afe6d740b73060d3ff8045945dfbea73',
    ]);
  });

  it('gives back what it was given, and is the stream of a coder with unbounded integers', () => {
    fc.assert(
      fc.property(fc.array(item, { maxLength: 200 }), (items) => {
        const bytes = encode(items);
        expect(hex(bytes)).toBe(hex(encodeSlowly(items)));
        const decoder = new AdaptiveDecoder(bytes, numContexts);
        for (const one of items) expect(read(decoder, one)).toBe(payloadOf(one));
        decoder.finish();
      }),
      { numRuns: 400 },
    );
  });

  it('carries through runs of 255', () => {
    // The upper end of the interval, again and again, then a step down: what makes long runs of full bytes.
    for (let n = 1; n < 60; n++) {
      const items: Item[] = Array.from({ length: n }, () => ({ kind: 'bits', bits: 0x7fff, count: 15 }));
      for (const last of [0, 1, 0x3fff, 0x7fff]) {
        const all: Item[] = [
          ...items,
          { kind: 'bit', context: 0, bit: 1 },
          { kind: 'bits', bits: last, count: 15 },
        ];
        expect(hex(encode(all))).toBe(hex(encodeSlowly(all)));
      }
    }
  });

  it('comes within 4 % of the entropy of what it has never seen', () => {
    for (const [seed, zeros] of [
      [1, 0.5],
      [2, 0.8],
      [3, 0.95],
    ] as const) {
      const random = makeRandom(seed);
      const values = Array.from({ length: 40_000 }, () => {
        let magnitude = 0;
        while (random() > zeros) magnitude++;
        return random() < 0.5 ? magnitude : -magnitude;
      });
      const counts = new Map<number, number>();
      for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
      let bits = 0;
      for (const count of counts.values()) bits -= count * Math.log2(count / values.length);
      expect(encode(valuesIn(values)).byteLength).toBeLessThan((bits / 8) * 1.04 + 40);
    }
  });

  it('gains from contexts that tell something apart', () => {
    const random = makeRandom(4);
    const values = Array.from({ length: 20_000 }, (_, i) =>
      i % 4 === 0 ? Math.round(random() * 20 - 10) : 0,
    );
    const together = values.map((value): Item => ({ kind: 'value', context: 0, value }));
    expect(encode(valuesIn(values)).byteLength).toBeLessThan(0.9 * encode(together).byteLength);
  });

  it('refuses contexts and values that do not exist', () => {
    const encoder = new AdaptiveEncoder(valueContexts);
    expect(() => encoder.writeBit(valueContexts, 0)).toThrow(usage);
    expect(() => encoder.writeBit(-1, 0)).toThrow(usage);
    expect(() => encoder.writeValue(0, 2 ** 31)).toThrow(usage);
    expect(() => encoder.writeValue(0, 0.5)).toThrow(usage);
    expect(() => new AdaptiveEncoder(0)).toThrow(usage);
    expect(() => new AdaptiveDecoder(new Uint8Array(4), 2 ** 21)).toThrow(usage);
    expect(() => new AdaptiveDecoder(new Uint8Array(4), 1).readBit(1)).toThrow(usage);
    expect(symbolContexts(4)).toBe(16);
  });

  it('ends in codec/corrupt, or in 32-bit values, whatever the bytes', () => {
    const random = makeRandom(13);
    const values = Array.from({ length: 200 }, () =>
      Math.round((random() - 0.5) * (random() < 0.1 ? 1e5 : 6)),
    );
    const sound = encode(valuesIn(values));
    let refused = 0;
    const rounds = 20_000;
    for (let round = 0; round < rounds; round++) {
      const bytes = mutate(sound, random);
      const found: number[] = [];
      try {
        const decoder = new AdaptiveDecoder(bytes, numContexts);
        for (let i = 0; i < values.length; i++) found.push(decoder.readValue((i % 4) * valueContexts));
        decoder.finish();
        // What is accepted is the stream of what was found.
        expect(hex(encode(valuesIn(found)))).toBe(hex(bytes));
      } catch (error) {
        if (!isIsthmusError(error, 'codec/corrupt')) throw error;
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(0.98 * rounds);
  });

  it('finds every truncation and every extension', () => {
    const values = Array.from({ length: 50 }, (_, i) => (i * 7) % 5);
    const bytes = encode(valuesIn(values));
    const corrupt = expect.objectContaining({ code: 'codec/corrupt' });
    const decode = (stream: Uint8Array) => {
      const decoder = new AdaptiveDecoder(stream, numContexts);
      for (let i = 0; i < values.length; i++) decoder.readValue((i % 4) * valueContexts);
      decoder.finish();
    };
    decode(bytes);
    for (let length = 0; length < bytes.byteLength; length++) {
      expect(() => decode(bytes.subarray(0, length))).toThrow(corrupt);
    }
    expect(() => decode(Uint8Array.of(...bytes, 0))).toThrow(corrupt);
  });
});
