import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isIsthmusError } from '../errors.js';
import { createTensor } from '../tensor.js';
import { makeManifest } from '../testing/manifest.js';
import { crc32 } from './crc32.js';
import {
  checkCrc,
  decodeRequestHeader,
  decodeResultPacket,
  encodeRequestPacket,
  encodeResultPacket,
} from './packet.js';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe('crc32', () => {
  it('is that of zlib', () => {
    expect(crc32(new TextEncoder().encode('123456789'))).toBe(0xcbf43926);
    expect(crc32(new Uint8Array(0))).toBe(0);
  });

  it('does not depend on how the bytes lie', () => {
    // The bitwise definition, to hold the sixteen-bytes-a-step one against.
    const reference = (bytes: Uint8Array): number => {
      let crc = -1;
      for (const byte of bytes) {
        crc ^= byte;
        for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
      }
      return ~crc >>> 0;
    };
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 70 }), fc.nat(5), (bytes, skipped) => {
        const part = bytes.subarray(skipped);
        expect(crc32(part)).toBe(reference(part));
      }),
    );
  });
});

describe('request packet', () => {
  it('has exactly these bytes', () => {
    const packet = encodeRequestPacket(
      { from: 3, to: 5, level: 2, codec: 0x0102, deadlineMs: 100.2 },
      Uint8Array.of(0xaa, 0xbb, 0xcc),
    );
    expect(hex(packet)).toBe(
      [
        '01', // version
        '03', // from
        '05', // to
        '02', // level
        '0201', // codec
        '0000', // reserved
        '03000000', // payload bytes
        '4cf84dbe', // crc
        '65000000', // deadline, rounded up
        'aabbcc',
      ].join(''),
    );
  });

  it('gives back every header', () => {
    const byte = fc.nat(255);
    const header = fc.record({
      from: byte,
      to: byte,
      level: byte,
      codec: fc.nat(0xffff),
      deadlineMs: fc.nat(0xffffffff),
    });
    fc.assert(
      fc.property(header, fc.uint8Array(), (fields, payload) => {
        const decoded = decodeRequestHeader(encodeRequestPacket(fields, payload));
        expect(decoded).toEqual({ ...fields, payloadBytes: payload.length, crc: crc32(payload) });
        checkCrc(payload, decoded.crc);
      }),
    );
  });

  it('refuses other versions, short headers and flipped payload bits', () => {
    const packet = encodeRequestPacket(
      { from: 0, to: 0, level: 0, codec: 0, deadlineMs: 0 },
      Uint8Array.of(1, 2),
    );
    expect(() => decodeRequestHeader(packet.subarray(0, 19))).toThrow(/header of 20 bytes/);
    expect(() => decodeRequestHeader(Uint8Array.from(packet, (b, i) => (i === 0 ? 9 : b)))).toThrow(
      /version 9/,
    );
    expect(() => checkCrc(Uint8Array.of(1, 3), decodeRequestHeader(packet).crc)).toThrow(/checksum/);
  });
});

describe('result packet', () => {
  const manifest = makeManifest([{ shape: [1, 2] }, { shape: [1, 2] }]);
  const packet = encodeResultPacket([createTensor('float32', [1, 2], Float32Array.of(1, -2))]);

  it('has exactly these bytes', () => {
    expect(hex(packet)).toBe(
      [
        '01', // version
        '00', // reserved
        '0100', // one tensor
        '14000000', // payload bytes
        '4d6b979f', // crc
        '00', // float32
        '02', // rank
        '0000', // reserved
        '01000000', // sizes
        '02000000',
        '0000803f', // 1
        '000000c0', // −2
      ].join(''),
    );
    expect(decodeResultPacket(packet, manifest)).toEqual({
      t1: { type: 'float32', shape: [1, 2], data: Float32Array.of(1, -2) },
    });
  });

  it('answers damage with a typed error, whatever the damage', () => {
    fc.assert(
      fc.property(
        fc.nat(packet.length - 1),
        fc.integer({ min: 1, max: 255 }),
        fc.boolean(),
        (at, flip, cut) => {
          const damaged = Uint8Array.from(packet);
          damaged[at]! ^= flip;
          try {
            decodeResultPacket(cut ? damaged.subarray(0, at) : damaged, manifest);
          } catch (error) {
            expect(isIsthmusError(error)).toBe(true);
            return;
          }
          // Only the reserved bytes are outside the checksum.
          expect(at).toBe(1);
        },
      ),
    );
  });

  it('does not believe sizes beyond its own length', () => {
    const huge = encodeResultPacket([createTensor('float32', [1, 2], Float32Array.of(1, -2))]);
    const view = new DataView(huge.buffer);
    view.setUint32(16, 0xffffffff, true);
    view.setUint32(20, 0xffffffff, true);
    view.setUint32(8, crc32(huge.subarray(12)), true);
    expect(() => decodeResultPacket(huge, manifest)).toThrow(/ends early/);
  });
});
