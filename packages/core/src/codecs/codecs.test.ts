import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isIsthmusError } from '../errors.js';
import { float16ToFloat32, float32ToFloat16 } from '../float16.js';
import type { Manifest } from '../manifest.js';
import { createTensor, elementCount, type Tensor } from '../tensor.js';
import { makeCodecs, makeManifest } from '../testing/manifest.js';
import { builtinCodecs } from './builtin.js';
import { type CodecContext, findCodecKind } from './codec.js';

async function makeCodec(manifest: Manifest, id: string) {
  const entry = manifest.codecs.find((codec) => codec.id === id)!;
  // Neither codec reads files or runs a network; asking for either would fail the test.
  const context = { manifest, entry } as CodecContext;
  const kind = findCodecKind(builtinCodecs, entry);
  return { encoder: await kind.createEncoder(context), decoder: await kind.createDecoder(context) };
}

const makeTestManifest = (shape: number[]) => makeManifest([{ shape }, { shape: [1] }], makeCodecs([0]));
const float32 = (shape: number[], values: ArrayLike<number>): Tensor<'float32'> =>
  createTensor('float32', shape, Float32Array.from(values));
const at = (level: number) => ({ from: 0, to: 0, level });

const shapes = fc.constantFrom<number[][]>(
  [1, 3, 5, 7],
  [1, 8, 1, 1],
  [1, 2, 5, 5],
  [1, 1000],
  [2, 3, 4],
  [7],
  [],
);
const tensors = shapes.chain((shape) =>
  fc
    .array(fc.float({ noNaN: true, min: Math.fround(-1e30), max: Math.fround(1e30) }), {
      minLength: elementCount(shape),
      maxLength: elementCount(shape),
    })
    .map((values) => float32(shape, values)),
);

describe('float16', () => {
  it('keeps every half exactly', () => {
    const halves = Uint16Array.from({ length: 65536 }, (_, i) => i).filter(
      (half) => (half & 0x7c00) !== 0x7c00,
    );
    expect(float32ToFloat16(float16ToFloat32(halves))).toEqual(halves);
  });

  it('rounds to nearest, ties to even', () => {
    const cases: [number, number][] = [
      [1 + 2 ** -11, 0x3c00],
      [1 + 3 * 2 ** -11, 0x3c02],
      [65519, 0x7bff],
      [65520, 0x7c00],
      [2 ** -25, 0],
      [2 ** -25 * 1.001, 1],
      [-(2 ** -24), 0x8001],
      [2 ** -14 * (1 - 2 ** -12), 0x0400],
      [Number.NaN, 0x7e00],
      [-Infinity, 0xfc00],
    ];
    expect(Array.from(float32ToFloat16(Float32Array.from(cases, ([value]) => value)))).toEqual(
      cases.map(([, half]) => half),
    );
  });
});

describe('raw', () => {
  it('gives back every tensor bit for bit', async () => {
    await fc.assert(
      fc.asyncProperty(tensors, async (tensor) => {
        const { encoder, decoder } = await makeCodec(makeTestManifest([...tensor.shape]), 'raw');
        const payload = await encoder.encode({ t0: tensor }, at(0));
        expect(payload.byteLength).toBe(decoder.maxPayloadBytes(at(0)));
        expect(await decoder.decode(payload, at(0))).toEqual({ t0: tensor });
      }),
    );
  });

  it('halves the bytes at level float16', async () => {
    const { encoder, decoder } = await makeCodec(makeTestManifest([1, 3]), 'raw');
    const payload = await encoder.encode({ t0: float32([1, 3], [1, 0.1, -7]) }, at(1));
    expect(Buffer.from(payload).toString('hex')).toBe('003c662e00c7');
    expect((await decoder.decode(payload, at(1))).t0!.data).toEqual(Float32Array.of(1, 0.0999755859375, -7));
  });
});

describe('quantized', () => {
  it('has exactly these bytes', async () => {
    const { encoder, decoder } = await makeCodec(makeTestManifest([1, 2, 16]), 'quantized');
    const channels = [
      [0, 1, 2, 3, 0, 0, 0, 0, 3, 3, 3, 3, 0, 1, 0, 1],
      [-1, -1, 2, 0.4, 2, 2, 2, 2, -1, -1, -1, -1, 0, 0, 0, 0],
    ];
    const payload = await encoder.encode({ t0: float32([1, 2, 16], channels.flat()) }, at(4));
    expect(Buffer.from(payload).toString('hex')).toBe(
      [
        '01', // least values follow
        '0000', // 0, as bfloat16
        '80bf', // −1
        '803f', // steps: 1
        '803f', // 1
        '2f000c000000', // 47 bytes of tables, 12 of rANS
        '010c08001258ff3713120c4d09ac3335f3cc332561fd0f09d6ff125845430a2f170a1e0002c03001c03001c0300100',
        'f2b74600790c0100a648d8a7',
      ].join(''),
    );
    const decoded = await decoder.decode(payload, at(4));
    expect(decoded.t0!.data).toEqual(Float32Array.from(channels.flat(), Math.round));
  });

  it('leaves out least values that are all zero, and shares one scale where a channel is a few elements', async () => {
    const { encoder } = await makeCodec(makeTestManifest([1, 4, 1, 1]), 'quantized');
    const payload = await encoder.encode({ t0: float32([1, 4, 1, 1], [0, 1, 2, 3]) }, at(4));
    expect(Buffer.from(payload).toString('hex')).toMatch(/^00803f/);
  });

  it('is off by half a step at most, in every channel, at every level', async () => {
    const levels = [8, 6, 4, 3, 2];
    await fc.assert(
      fc.asyncProperty(tensors, fc.nat(4), async (tensor, level) => {
        const { encoder, decoder } = await makeCodec(makeTestManifest([...tensor.shape]), 'quantized');
        const payload = await encoder.encode({ t0: tensor }, at(level));
        expect(payload.byteLength).toBeLessThanOrEqual(decoder.maxPayloadBytes(at(level)));
        const decoded = (await decoder.decode(payload, at(level))).t0!.data as Float32Array;
        const maps = tensor.shape.length >= 3 ? tensor.shape[0]! * tensor.shape[1]! : 1;
        const channels = tensor.data.length >= 16 * maps ? maps : 1;
        const perChannel = tensor.data.length / channels;
        for (let i = 0; i < tensor.data.length; i++) {
          const start = Math.floor(i / perChannel) * perChannel;
          const channel = tensor.data.subarray(start, start + perChannel);
          const range = Math.max(...channel) - Math.min(...channel);
          const largest = Math.max(...channel.map(Math.abs));
          // Scales are bfloat16: they may widen the range by a few parts in 256 of the largest value.
          const step = (range + largest / 64) / (2 ** levels[level]! - 1);
          expect(Math.abs(decoded[i]! - tensor.data[i]!)).toBeLessThanOrEqual(step * 0.52 + 1e-30);
        }
      }),
    );
  });

  it('is smaller at every further level on features as they are: mostly zeros', async () => {
    const values = Array.from({ length: 1024 }, (_, i) => Math.max(0, Math.sin(i * 12.9898) * 3 - 1));
    const { encoder } = await makeCodec(makeTestManifest([1, 4, 16, 16]), 'quantized');
    const sizes = await Promise.all(
      [0, 1, 2, 3, 4].map(
        async (level) =>
          (await encoder.encode({ t0: float32([1, 4, 16, 16], values) }, at(level))).byteLength,
      ),
    );
    expect(sizes).toEqual([...sizes].sort((a, b) => b - a));
    expect(sizes[4]!).toBeLessThan(sizes[0]! / 3);
  });

  it('refuses NaN and infinity', async () => {
    const { encoder } = await makeCodec(makeTestManifest([1, 3]), 'quantized');
    for (const bad of [Number.NaN, Infinity, -Infinity]) {
      await expect(encoder.encode({ t0: float32([1, 3], [0, bad, 1]) }, at(0))).rejects.toMatchObject({
        code: 'tensor/not-finite',
      });
    }
  });
});

describe('every codec', () => {
  it('answers damaged payloads with codec/corrupt or with tensors of the right shape', async () => {
    const shape = [1, 4, 8, 8];
    const manifest = makeTestManifest(shape);
    const values = Array.from({ length: elementCount(shape) }, (_, i) => Math.sin(i));
    for (const id of ['raw', 'quantized']) {
      const { encoder, decoder } = await makeCodec(manifest, id);
      const payload = await encoder.encode({ t0: float32(shape, values) }, at(1));
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.record({ at: fc.nat(payload.length - 1), value: fc.nat(255) }), { maxLength: 5 }),
          fc.nat(payload.length),
          async (changes, length) => {
            const damaged = Uint8Array.from(payload);
            for (const change of changes) damaged[change.at] = change.value;
            try {
              const decoded = await decoder.decode(damaged.subarray(0, length), at(1));
              expect(decoded.t0!.shape).toEqual(shape);
            } catch (error) {
              expect(isIsthmusError(error, 'codec/corrupt')).toBe(true);
            }
          },
        ),
        { numRuns: 300 },
      );
    }
  });

  it('says what is wrong with a path, a level, a tensor', async () => {
    const { encoder } = await makeCodec(makeTestManifest([1, 3]), 'raw');
    const t0 = float32([1, 3], [1, 2, 3]);
    await expect(encoder.encode({ t0 }, { from: 0, to: 1, level: 0 })).rejects.toMatchObject({
      code: 'codec/no-such-path',
    });
    await expect(encoder.encode({ t0 }, at(9))).rejects.toMatchObject({ code: 'codec/no-such-level' });
    await expect(encoder.encode({}, at(0))).rejects.toMatchObject({ code: 'tensor/shape-mismatch' });
    await expect(encoder.encode({ t0: float32([3, 1], [1, 2, 3]) }, at(0))).rejects.toMatchObject({
      code: 'tensor/shape-mismatch',
    });
    await expect(
      encoder.encode({ t0: createTensor('int32', [1, 3], Int32Array.of(1, 2, 3)) }, at(0)),
    ).rejects.toMatchObject({ code: 'tensor/type-mismatch' });
  });

  it('is found by kind and version, or named as unknown', () => {
    const entry = { ...makeCodecs([0])[0]!, kind: 'telepathy' };
    expect(() => findCodecKind(builtinCodecs, entry)).toThrow(/telepathy version 1/);
  });
});
