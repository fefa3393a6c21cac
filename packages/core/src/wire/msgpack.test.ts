import fc from 'fast-check';
import { Packr, Unpackr } from 'msgpackr';
import { describe, expect, it } from 'vitest';
import { isIsthmusError } from '../errors.js';
import { decodeMsgpack, encodeMsgpack, type MsgpackValue } from './msgpack.js';

// Another implementation of the same format, without its own extensions.
const theirs = { useRecords: false, variableMapSize: true, int64AsType: 'number' } as const;
const unpackr = new Unpackr(theirs);
const packr = new Packr(theirs);

const { value: values } = fc.letrec<{ value: MsgpackValue }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', maxDepth: 5 },
    fc.constant(null),
    fc.boolean(),
    fc.double({ noNaN: true }),
    fc.integer(),
    fc.maxSafeInteger(),
    fc.string({ unit: 'binary', maxLength: 400 }),
    fc.uint8Array({ maxLength: 300 }),
    fc.array(tie('value'), { maxLength: 20 }),
    fc.dictionary(
      fc.string().filter((key) => key !== '__proto__'),
      tie('value'),
      { maxKeys: 20 },
    ),
  ),
}));

describe('MessagePack', () => {
  it('comes back as it was, and is read alike by another implementation', () => {
    fc.assert(
      fc.property(values, (value) => {
        const bytes = encodeMsgpack(value);
        expect(decodeMsgpack(bytes)).toEqual(value);
        expect(JSON.stringify(unpackr.unpack(bytes))).toBe(JSON.stringify(value));
      }),
    );
  });

  it('is written as another implementation writes it', () => {
    const lengths = [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536];
    const samples: MsgpackValue[] = [
      ...[null, true, false, 0, 1, 127, 128, 255, 256, 65_535, 65_536, 4_294_967_295, 0.5, -1.25, 1e300],
      ...[-1, -32, -33, -128, -129, -32_768, -32_769, -2_147_483_648, 4_294_967_296, -2_147_483_649],
      ...lengths.map((length) => 'x'.repeat(length)),
      ...lengths.slice(0, 8).map((length) => Array.from({ length }, (_, i) => i)),
      ...lengths
        .slice(0, 8)
        .map((length) => Object.fromEntries(Array.from({ length }, (_, i) => [`${i}`, i]))),
    ];
    for (const value of samples) {
      expect(
        Buffer.from(encodeMsgpack(value)).equals(packr.pack(value)),
        JSON.stringify(value).slice(0, 40),
      ).toBe(true);
    }
  });

  it('has these bytes', () => {
    const value = { a: [1, -1, 300, 1.5, null, true], b: 'é' };
    expect(Buffer.from(encodeMsgpack(value)).toString('hex')).toBe(
      '82a1619601ffcd012ccb3ff8000000000000c0c3a162a2c3a9',
    );
  });

  it('reads every width of number', () => {
    for (const [hex, expected] of [
      ['ca3fc00000', 1.5],
      ['cf00000001ffffffff', 8_589_934_591],
      ['d3ffffffff00000000', -4_294_967_296],
      ['d0ff', -1],
      ['d18000', -32_768],
      ['d280000000', -2_147_483_648],
    ] as const) {
      expect(decodeMsgpack(Buffer.from(hex, 'hex'))).toBe(expected);
    }
  });

  it('does not change what objects are', () => {
    const bytes = Buffer.from('81a95f5f70726f746f5f5f81a16101', 'hex'); // {"__proto__": {"a": 1}}
    const value = decodeMsgpack(bytes) as Record<string, unknown>;
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
    expect(value.a).toBeUndefined();
  });

  it('refuses what cannot be, with a typed error', () => {
    for (const [hex, why] of [
      ['', 'ends early'],
      ['91', 'ends early'],
      ['c0c0', 'left over'],
      ['c1', 'extension'],
      ['d4010000', 'extension'],
      ['810101', 'no string'],
      ['cfffffffffffffffff', '2\\^53'],
      ['91'.repeat(12), 'too deep'],
      [`dc4e20${'c0'.repeat(20_000)}`, 'too many'],
    ] as const) {
      expect(() => decodeMsgpack(Buffer.from(hex, 'hex'))).toThrow(new RegExp(why));
    }
  });

  it('answers any bytes with a value or a typed error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          decodeMsgpack(bytes);
        } catch (error) {
          expect(isIsthmusError(error, 'wire/malformed')).toBe(true);
        }
      }),
      { numRuns: 5000 },
    );
  });
});
