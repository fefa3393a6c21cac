import sharp from 'sharp';
import { expect, test } from 'vitest';
import { decodePicture } from './index.js';

// Red on the left, blue on the right.
const data = Uint8Array.from({ length: 8 * 4 * 3 }, (_, i) => {
  const isLeft = Math.floor(i / 3) % 8 < 4;
  return i % 3 === (isLeft ? 0 : 2) ? 250 : 5;
});
const picture = sharp(data, { raw: { width: 8, height: 4, channels: 3 } });

test.each(['png', 'webp', 'tiff'] as const)('a lossless %s gives its pixels', async (format) => {
  const bytes = await picture.clone().toFormat(format, { lossless: true, compression: 'lzw' }).toBuffer();
  expect(await decodePicture(bytes)).toEqual({ data: expect.anything(), width: 8, height: 4, channels: 3 });
  expect(new Uint8Array((await decodePicture(bytes)).data)).toEqual(data);
});

test('grey, 16-bit, CMYK and transparent pictures become three 8-bit channels', async () => {
  const variants = [
    await picture.clone().greyscale().png().toBuffer(),
    await picture.clone().toColourspace('rgb16').png().toBuffer(),
    await picture.clone().toColourspace('cmyk').jpeg().toBuffer(),
    await picture.clone().ensureAlpha(0.5).png().toBuffer(),
  ];
  for (const bytes of variants) {
    const { width, height, channels, data: values } = await decodePicture(bytes);
    expect({ width, height, channels }).toEqual({ width: 8, height: 4, channels: 3 });
    expect(values).toHaveLength(96);
  }
});

test('a photograph taken sideways is turned upright', async () => {
  const bytes = await picture.clone().withMetadata({ orientation: 6 }).png().toBuffer();
  expect(await decodePicture(bytes)).toMatchObject({ width: 4, height: 8 });
});

test('what is cut short, no picture, or far too large is refused', async () => {
  const noise = Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => (i * i * 31) % 251);
  const jpeg = await sharp(noise, { raw: { width: 64, height: 64, channels: 3 } })
    .jpeg()
    .toBuffer();
  const huge = sharp({ create: { width: 12_000, height: 12_000, channels: 3, background: '#000' } });
  const broken = [
    jpeg.subarray(0, jpeg.length * 0.6),
    new TextEncoder().encode('not a picture'),
    new Uint8Array(0),
    await huge.png({ compressionLevel: 1 }).toBuffer(),
  ];
  for (const bytes of broken) {
    await expect(decodePicture(bytes)).rejects.toMatchObject({ code: 'image/decode-failed' });
  }
});
