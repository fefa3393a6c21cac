import { createManualClock, decodeChunk, PacketAssembler } from '@isthmus/core';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createChunkPump } from './pump.js';

// A socket that sends so many bytes a millisecond.
function createSocket(bytesPerMs: number) {
  const clock = createManualClock();
  let buffered = 0;
  let most = 0;
  const sent: Uint8Array[] = [];
  const pump = createChunkPump({
    clock,
    bufferedBytes: () => buffered,
    send(message) {
      sent.push(message);
      buffered += message.byteLength;
      most = Math.max(most, buffered);
    },
  });
  const run = (durationMs: number): void => {
    for (let ms = 0; ms < durationMs; ms++) {
      clock.advance(1);
      buffered = Math.max(0, buffered - bytesPerMs);
    }
  };
  return { pump, run, sent, clock, most: () => most };
}

test('whatever is added comes out whole, whatever the speed', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 300_000 }), { minLength: 1, maxLength: 5 }),
      fc.integer({ min: 500, max: 100_000 }),
      (sizes, bytesPerMs) => {
        const { pump, run, sent, clock } = createSocket(bytesPerMs);
        sizes.forEach((size, id) => {
          pump.add(id, new Uint8Array(size).fill(id + 1));
        });
        run(Math.ceil(2_000_000 / bytesPerMs) + 100);
        const whole = new Map<number, Uint8Array>();
        const assembler = new PacketAssembler({ clock, maxOpen: 10, admit: (id) => sizes[id]! });
        for (const message of sent) {
          const event = assembler.take(decodeChunk(message));
          if (event?.type === 'packet') whole.set(event.packet.id, event.packet.packet);
        }
        expect(whole.size).toBe(sizes.length);
        for (const [id, packet] of whole) {
          expect(packet.length).toBe(sizes[id]);
          expect(packet.every((byte) => byte === id + 1)).toBe(true);
        }
      },
    ),
    { numRuns: 50 },
  );
});

test('a slow socket is given little ahead, so that what is cancelled is mostly not sent', () => {
  const { pump, run, sent, most } = createSocket(100);
  pump.add(1, new Uint8Array(5_000_000));
  run(1000);
  expect(most()).toBeLessThan(200_000);
  pump.cancel(1);
  const before = sent.length;
  run(1000);
  expect(sent.length).toBe(before);
  pump.add(2, new Uint8Array(100));
  run(1000);
  expect(decodeChunk(sent.at(-1)!)).toMatchObject({ id: 2, last: true });
});

test('a fast socket is given more and more', () => {
  const { pump, run, most } = createSocket(1_000_000);
  pump.add(1, new Uint8Array(20_000_000));
  run(100);
  expect(most()).toBeGreaterThan(900_000);
});

test('nothing is sent after stop', () => {
  const { pump, run, sent } = createSocket(1000);
  pump.add(1, new Uint8Array(1_000_000));
  pump.stop();
  const before = sent.length;
  run(1000);
  expect(sent.length).toBe(before);
});
