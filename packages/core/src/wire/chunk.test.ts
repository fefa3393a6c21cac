import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createManualClock } from '../clock.js';
import { IsthmusError, isIsthmusError } from '../errors.js';
import { type AssembledPacket, PacketAssembler } from './assembler.js';
import { ChunkScheduler, decodeChunk } from './chunk.js';
import { maxChunkBytes, messageKind } from './constants.js';

const pattern = (numBytes: number, seed: number) =>
  Uint8Array.from({ length: numBytes }, (_, i) => i * seed + seed);

function makeAssembler(lengths: ReadonlyMap<number, number>, maxOpen = 8) {
  const clock = createManualClock();
  const assembler = new PacketAssembler({
    clock,
    maxOpen,
    admit: (id) => {
      const numBytes = lengths.get(id);
      if (numBytes === undefined) throw new IsthmusError('wire/too-large', 'not you');
      return numBytes;
    },
  });
  return { clock, assembler };
}

describe('chunks', () => {
  it('have exactly these bytes', () => {
    const scheduler = new ChunkScheduler();
    scheduler.add(messageKind.requestChunk, 7, Uint8Array.of(0xaa, 0xbb));
    expect(Buffer.from(scheduler.next()!.message).toString('hex')).toBe('020100000700000000000000aabb');
    expect(scheduler.next()).toBeUndefined();
  });

  it('are never larger than 16 KiB', () => {
    const scheduler = new ChunkScheduler();
    scheduler.add(messageKind.resultChunk, 1, new Uint8Array(100_000));
    for (let chunk = scheduler.next(); chunk !== undefined; chunk = scheduler.next()) {
      expect(chunk.message.byteLength).toBeLessThanOrEqual(maxChunkBytes);
    }
  });

  it('of several packets take turns and come back together as they were', () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 60_000 }), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(sizes, (lengths) => {
        const packets = lengths.map((numBytes, index) => pattern(numBytes, index + 1));
        const { assembler } = makeAssembler(new Map(lengths.map((numBytes, index) => [index, numBytes])));
        const scheduler = new ChunkScheduler();
        packets.forEach((packet, index) => {
          scheduler.add(messageKind.requestChunk, index, packet);
        });
        const first = lengths.map(() => scheduler.next()!);
        expect(first.map((chunk) => chunk.id).sort()).toEqual(lengths.map((_, index) => index));
        const whole: AssembledPacket[] = [];
        const take = (message: Uint8Array) => {
          const event = assembler.take(decodeChunk(message));
          if (event?.type === 'packet') whole.push(event.packet);
        };
        for (const chunk of first) take(chunk.message);
        for (let chunk = scheduler.next(); chunk !== undefined; chunk = scheduler.next()) take(chunk.message);
        expect(whole.length).toBe(packets.length);
        for (const { id, packet } of whole) expect(packet).toEqual(packets[id]);
        expect(assembler.numOpen).toBe(0);
      }),
      { numRuns: 30 },
    );
  });

  it('stop when their packet is cancelled, and the others go on', () => {
    const scheduler = new ChunkScheduler();
    scheduler.add(messageKind.requestChunk, 1, new Uint8Array(50_000));
    scheduler.add(messageKind.requestChunk, 2, new Uint8Array(20_000));
    expect(scheduler.next()?.id).toBe(1);
    expect(scheduler.cancel(1)).toBe(true);
    expect([scheduler.next()?.id, scheduler.next()?.id, scheduler.next()?.id]).toEqual([2, 2, undefined]);
    expect(scheduler.cancel(1)).toBe(false);
  });
});

describe('assembler', () => {
  const chunksOf = (id: number, numBytes: number) => {
    const scheduler = new ChunkScheduler();
    scheduler.add(messageKind.requestChunk, id, pattern(numBytes, 3));
    const chunks = [];
    for (let chunk = scheduler.next(); chunk !== undefined; chunk = scheduler.next()) {
      chunks.push(decodeChunk(chunk.message));
    }
    return chunks;
  };

  it('tells when the first and the last chunk came', () => {
    const { assembler, clock } = makeAssembler(new Map([[1, 40_000]]));
    const [a, b, c] = chunksOf(1, 40_000);
    clock.advance(5);
    assembler.take(a!);
    clock.advance(10);
    assembler.take(b!);
    clock.advance(2);
    expect(assembler.take(c!)).toMatchObject({ packet: { id: 1, firstMs: 5, lastMs: 17 } });
  });

  it('refuses one packet and goes on with the next', () => {
    const { assembler } = makeAssembler(new Map([[2, 10]]));
    const [a, b] = chunksOf(1, 20_000);
    expect(assembler.take(a!)).toMatchObject({ type: 'refused', id: 1, error: { code: 'wire/too-large' } });
    expect(assembler.take(chunksOf(2, 10)[0]!)).toMatchObject({ type: 'packet' });
    expect(assembler.take(b!)).toBeUndefined();
  });

  it('refuses more packets at once than allowed', () => {
    const { assembler } = makeAssembler(
      new Map([
        [1, 20_000],
        [2, 20_000],
      ]),
      1,
    );
    assembler.take(chunksOf(1, 20_000)[0]!);
    expect(assembler.take(chunksOf(2, 20_000)[0]!)).toMatchObject({ error: { code: 'limit/in-flight' } });
  });

  it('ignores what is left of a cancelled packet', () => {
    const { assembler } = makeAssembler(new Map([[1, 20_000]]));
    const [a, b] = chunksOf(1, 20_000);
    assembler.take(a!);
    expect(assembler.cancel(1)).toBe(true);
    expect(assembler.take(b!)).toBeUndefined();
    expect(assembler.numOpen).toBe(0);
  });

  it('will not go on after a gap, a second beginning, or a chunk from nowhere', () => {
    const [a, b, c] = chunksOf(1, 40_000);
    for (const bad of [[a, c], [a, a], [b]]) {
      const { assembler } = makeAssembler(new Map([[1, 40_000]]));
      expect(() => {
        for (const chunk of bad) assembler.take(chunk!);
      }).toThrow(/Packet 1/);
    }
  });

  it('answers any bytes with a chunk or a typed error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        const { assembler } = makeAssembler(new Map([[0, 100]]));
        try {
          assembler.take(decodeChunk(bytes));
        } catch (error) {
          expect(isIsthmusError(error, 'wire/malformed')).toBe(true);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
