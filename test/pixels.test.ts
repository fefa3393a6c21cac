import {
  type CodecContext,
  createPixelsCodec,
  createPreprocessor,
  createTensor,
  type Decoder,
  type Encoder,
  type Manifest,
  type NamedTensors,
  type PictureCoder,
  type PictureFormat,
  type Preprocess,
  pictureFormats,
  type RawImage,
} from '@isthmus/core';
import { pixelsEntries } from '@isthmus/graph';
import { createSharpCoder } from '@isthmus/runtime/pictures';
import fc from 'fast-check';
import sharp, { type Sharp } from 'sharp';
import { describe, expect, it } from 'vitest';

const [width, height] = [48, 32];
const signed: Preprocess = {
  width,
  height,
  colorOrder: 'rgb',
  fit: 'cover',
  mean: [127.5, 127.5, 127.5],
  std: [127.5, 127.5, 127.5],
};
const caffe: Preprocess = { ...signed, colorOrder: 'bgr', mean: [103.939, 116.779, 123.68], std: [1, 1, 1] };

// Smooth colours with an edge: what photographs are made of.
const photo: RawImage = {
  width,
  height,
  channels: 3,
  data: Uint8Array.from({ length: 3 * width * height }, (_, i) => {
    const [x, y, channel] = [Math.floor(i / 3) % width, Math.floor(i / 3 / width), i % 3];
    const shade = [x * 4, y * 6, 200 - x * 2][channel]!;
    return Math.min(255, x > 30 && y > 12 ? shade / 3 + 20 : shade);
  }),
};

function makeContext(format: PictureFormat, preprocess: Preprocess = signed): CodecContext {
  const { width: w, height: h } = preprocess;
  const tensor = { name: 'image', type: 'float32' as const, shape: [1, 3, h, w], batched: true };
  const cut = { tensors: [{ ...tensor, asInput: '', asOutput: '' }], numBytes: 12 * w * h };
  const manifest = {
    model: 'test',
    preprocess,
    cuts: [
      { index: 0, ...cut },
      { index: 1, ...cut },
    ],
  } as Pick<Manifest, 'model' | 'preprocess' | 'cuts'> as Manifest;
  const entry = pixelsEntries(manifest).find(({ id }) => id === format)!;
  return { manifest, entry } as CodecContext;
}

interface Codec {
  encoder: Encoder;
  decoder: Decoder;
  numLevels: number;
}

async function makeCodec(format: PictureFormat, preprocess: Preprocess = signed): Promise<Codec> {
  const kind = createPixelsCodec(createSharpCoder());
  const context = makeContext(format, preprocess);
  return {
    encoder: await kind.createEncoder(context),
    decoder: await kind.createDecoder(context),
    numLevels: context.entry.levels.length,
  };
}

const at = (level: number) => ({ from: 0, to: 0, level });
const frameOf = (image: RawImage, preprocess: Preprocess): NamedTensors => ({
  image: createPreprocessor(preprocess)(image),
});

// Root mean square of the difference, in 8-bit steps.
function difference(a: NamedTensors, b: NamedTensors, { std }: Preprocess): number {
  const [x, y] = [a.image!.data as Float32Array, b.image!.data as Float32Array];
  return std[0] * Math.sqrt(x.reduce((sum, value, i) => sum + (value - y[i]!) ** 2, 0) / x.length);
}

describe.each(pictureFormats)('pixels as %s', (format) => {
  it.each([
    ['rgb, −1…1', signed],
    ['bgr, less the mean', caffe],
  ])('come back as they were, but for the loss, with %s', async (_, preprocess) => {
    const { encoder, decoder, numLevels } = await makeCodec(format, preprocess);
    const frame = frameOf(photo, preprocess);
    const sizes: number[] = [];
    const losses: number[] = [];
    for (let level = 0; level < numLevels; level++) {
      const payload = await encoder.encode(frame, at(level));
      expect(payload.byteLength).toBeLessThanOrEqual(decoder.maxPayloadBytes(at(level)));
      const decoded = await decoder.decode(payload, at(level));
      expect(decoded.image!.shape).toEqual([1, 3, height, width]);
      sizes.push(payload.byteLength);
      losses.push(difference(frame, decoded, preprocess));
    }
    expect(sizes).toEqual([...sizes].sort((a, b) => b - a));
    expect(losses[0]).toBeLessThan(8);
    expect(losses.at(-1)).toBeGreaterThan(losses[0]!);
  });

  it('hold every pixel to the step where the picture is even', async () => {
    const { encoder, decoder } = await makeCodec(format);
    for (const shade of [0, 1, 127, 254, 255]) {
      const even = { ...photo, data: new Uint8Array(3 * width * height).fill(shade) };
      const frame = frameOf(even, signed);
      const decoded = await decoder.decode(await encoder.encode(frame, at(0)), at(0));
      expect(difference(frame, decoded, signed)).toBeLessThanOrEqual(1.01);
    }
  });

  it('clip what is no colour, and refuse what is no number', async () => {
    const { encoder, decoder } = await makeCodec(format);
    const image = (value: number): NamedTensors => ({
      image: createTensor('float32', [1, 3, height, width], new Float32Array(3 * width * height).fill(value)),
    });
    const decoded = await decoder.decode(await encoder.encode(image(7), at(0)), at(0));
    expect(difference(image(1), decoded, signed)).toBeLessThanOrEqual(1.01);
    for (const value of [Number.NaN, Infinity]) {
      await expect(encoder.encode(image(value), at(0))).rejects.toMatchObject({ code: 'tensor/not-finite' });
    }
  });

  it('are refused as codec/corrupt when damaged, or decode to the right shape', async () => {
    const { encoder, decoder } = await makeCodec(format);
    const payload = await encoder.encode(frameOf(photo, signed), at(3));
    const change = fc.record({ at: fc.nat(payload.length - 1), value: fc.nat(255) });
    await fc.assert(
      fc.asyncProperty(
        fc.array(change, { maxLength: 4 }),
        fc.oneof(fc.constant(payload.length), fc.nat(payload.length)),
        async (changes, length) => {
          const damaged = Uint8Array.from(payload);
          for (const one of changes) damaged[one.at] = one.value;
          const decoded = await decoder.decode(damaged.subarray(0, length), at(3)).catch((error) => error);
          if (decoded instanceof Error) expect(decoded).toMatchObject({ code: 'codec/corrupt' });
          else expect(decoded.image.shape).toEqual([1, 3, height, width]);
        },
      ),
      { numRuns: 400 },
    );
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (bytes) => {
        await expect(decoder.decode(bytes, at(0))).rejects.toMatchObject({ code: 'codec/corrupt' });
      }),
    );
  });

  it('are never decoded at another size, in another format, grey, or with alpha', async () => {
    const { decoder, coder } = await makeWatchedDecoder(format);
    const real = sharp(photo.data, { raw: { width, height, channels: 3 } });
    const others = [
      await encodeAs(real.clone().resize(width, height + 2, { fit: 'fill' }), format),
      await encodeAs(real.clone(), format === 'webp' ? 'jpeg' : 'webp'),
      await real.clone().png().toBuffer(),
      Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"/>`),
    ];
    if (format !== 'jpeg') others.push(await encodeAs(real.clone().ensureAlpha(0.5), format));
    if (format === 'jpeg') others.push(await real.clone().toColourspace('b-w').jpeg().toBuffer());
    for (const bytes of others) {
      await expect(decoder.decode(bytes, at(0))).rejects.toMatchObject({ code: 'codec/corrupt' });
    }
    expect(coder.decoded).toBe(0);
  });

  it('refuse a bomb before a decoder sees it', async () => {
    const { decoder, coder } = await makeWatchedDecoder(format);
    const huge = { width: 4000, height: 4000, channels: 3 as const, background: '#888' };
    const bomb = await encodeAs(sharp({ create: huge }), format);
    const payload = await encodeAs(sharp(photo.data, { raw: { width, height, channels: 3 } }), format);
    const disguised = disguise(payload, format);
    if (format === 'avif') disguised.push(withSize(bomb, width, height));
    for (const bytes of [bomb, ...disguised]) {
      await expect(decoder.decode(bytes, at(0))).rejects.toMatchObject({ code: 'codec/corrupt' });
    }
    expect(coder.decoded).toBe(0);
    await decoder.decode(payload, at(0));
    expect(coder.decoded).toBe(1);
  });
});

describe('pixels', () => {
  it('are offered only for models that take a picture at cut 0', async () => {
    const { manifest, entry } = makeContext('jpeg');
    expect(pixelsEntries(manifest).map(({ id }) => id)).toEqual(['jpeg', 'webp', 'avif']);
    expect(pixelsEntries({ ...manifest, preprocess: null })).toEqual([]);
    expect(pixelsEntries({ ...manifest, preprocess: { ...signed, width: 64 } })).toEqual([]);
    const codec = createPixelsCodec(createSharpCoder());
    const blind = { manifest: { ...manifest, preprocess: null }, entry } as CodecContext;
    await expect(codec.createDecoder(blind)).rejects.toMatchObject({ code: 'bundle/invalid' });
    const later = { manifest, entry: { ...entry, paths: [{ from: 0, to: 1 }] } } as CodecContext;
    await expect(codec.createEncoder(later)).rejects.toMatchObject({ code: 'bundle/invalid' });
  });
});

// The real coder, counting how often it decodes.
async function makeWatchedDecoder(
  format: PictureFormat,
): Promise<{ decoder: Decoder; coder: { decoded: number } }> {
  const real = createSharpCoder();
  const coder: PictureCoder & { decoded: number } = {
    ...real,
    decoded: 0,
    decode(...args) {
      coder.decoded++;
      return real.decode(...args);
    },
  };
  return { decoder: await createPixelsCodec(coder).createDecoder(makeContext(format)), coder };
}

function encodeAs(picture: Sharp, format: PictureFormat): Promise<Buffer> {
  return picture.toFormat(format, { effort: 0, quality: 20 }).toBuffer();
}

// Whole files of the right size in one place and of a huge one in another.
function disguise(payload: Uint8Array, format: PictureFormat): Uint8Array[] {
  const patched = (position: number, bytes: readonly number[]): Uint8Array => {
    const copy = Uint8Array.from(payload);
    copy.set(bytes, position);
    return copy;
  };
  const find = (bytes: readonly number[]): number => Buffer.from(payload).indexOf(Buffer.from(bytes));
  if (format === 'jpeg') return [patched(find([0xff, 0xc0]) + 5, [0xff, 0xff, 0xff, 0xff])];
  if (format === 'webp') return [patched(find([0x9d, 0x01, 0x2a]) + 3, [0xff, 0x3f, 0xff, 0x3f])];
  return [withSize(payload, 65_535, 65_535)];
}

// An AVIF file whose container announces another size than its AV1 data has.
function withSize(avif: Uint8Array, announcedWidth: number, announcedHeight: number): Uint8Array {
  const copy = Buffer.from(avif);
  const position = copy.indexOf('ispe') + 8;
  copy.writeUInt32BE(announcedWidth, position);
  copy.writeUInt32BE(announcedHeight, position + 4);
  return copy;
}
