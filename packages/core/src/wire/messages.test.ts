import fc from 'fast-check';
import { Packr } from 'msgpackr';
import { describe, expect, it } from 'vitest';
import { isIsthmusError } from '../errors.js';
import { type ControlMessage, decodeControl, encodeControl, negotiateVersion } from './messages.js';

const hash = 'ab'.repeat(32);
const messages: ControlMessage[] = [
  {
    type: 'hello',
    protocol: [1],
    model: 'mobilenet-v1',
    codecs: ['raw', 'quantized'],
    token: 'secret',
    resume: null,
    bundle: hash,
    tables: { calibrated: hash },
    client: 'isthmus/0.1.0 node',
  },
  {
    type: 'accept',
    protocol: 1,
    session: 's',
    resumed: false,
    model: 'mobilenet-v1',
    bundle: hash,
    tables: {},
    codecs: ['raw'],
    limits: { packetBytes: 1e6, inFlight: 8, bytesPerSecond: 0 },
  },
  { type: 'arrived', id: 4294967295, numBytes: 12, firstMs: 1.5, lastMs: 2.25 },
  { type: 'receipt', id: 1, numBytes: 12, firstMs: 1, lastMs: 2, queueMs: 0.5, decodeMs: 1, runMs: 3 },
  { type: 'error', id: null, code: 'wire/malformed', message: 'no', retryable: false, retryAfterMs: null },
  { type: 'cancel', id: 3 },
  { type: 'ping', id: 1 },
  { type: 'pong', id: 1, atMs: 123.456 },
  { type: 'goodbye', code: 'receiver/draining', message: 'bye' },
];

describe('control messages', () => {
  it('come back as they were', () => {
    for (const message of messages) expect(decodeControl(encodeControl(message))).toEqual(message);
  });

  it('have exactly these bytes', () => {
    expect(Buffer.from(encodeControl({ type: 'cancel', id: 3 })).toString('hex')).toBe(
      '0182a474797065a663616e63656ca2696403', // kind, map of 2: "type" "cancel", "id" 3
    );
  });

  it('may carry fields this version does not know', () => {
    const bytes = new Packr({ useRecords: false }).pack({ type: 'cancel', id: 3, why: 'a later version' });
    expect(decodeControl(Buffer.concat([Buffer.of(1), bytes]))).toEqual({ type: 'cancel', id: 3 });
  });

  it('are refused, with a typed error, however they are damaged', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...messages),
        fc.array(fc.record({ at: fc.nat(300), value: fc.nat(255) }), { minLength: 1, maxLength: 4 }),
        fc.nat(300),
        (message, changes, length) => {
          const bytes = encodeControl(message);
          for (const { at, value } of changes) bytes[at % bytes.length] = value;
          try {
            decodeControl(bytes.subarray(0, length));
          } catch (error) {
            expect(isIsthmusError(error, 'wire/malformed')).toBe(true);
          }
        },
      ),
      { numRuns: 5000 },
    );
  });

  it('that announce more than they hold are refused before anything is allocated', () => {
    for (const lie of ['dd01ffffff', 'dfffffffff', 'c6ffffffff', 'dbffffffff', 'c7ff00', 'd60000000000']) {
      expect(() => decodeControl(Buffer.from(`01${lie}`, 'hex'))).toThrow(/Malformed control message/);
    }
    const nested = new Uint8Array(1000).fill(0x91);
    nested[0] = 1;
    expect(() => decodeControl(nested)).toThrow(/nested too deep/);
  });
});

describe('version negotiation', () => {
  it('takes the newest common one, or says what each end speaks', () => {
    expect(negotiateVersion([1, 2, 3], [2, 1])).toBe(2);
    expect(() => negotiateVersion([9], [1])).toThrow(/speaks 9, this one 1/);
  });
});
