import { IsthmusError, type RawImage } from '@isthmus/core';
import { importSharp } from './sharp.js';

// A picture of a few kilobytes can unpack to gigabytes.
const maxPixels = 100_000_000;

/**
 * Decodes a JPEG, PNG, WebP or another file that sharp reads, turned upright as its EXIF data says, as sRGB.
 *
 * @throws IsthmusError `image/decode-failed` for what is not whole, not a picture or too large,
 * `image/unsupported` if sharp is not installed
 */
export async function decodePicture(bytes: Uint8Array): Promise<RawImage> {
  const sharp = await importSharp(
    'image/unsupported',
    'Decoding pictures needs the package sharp: npm install sharp. Or pass pixels as { data, width, height }.',
  );
  try {
    const { data, info } = await sharp(bytes, { failOn: 'truncated', limitInputPixels: maxPixels })
      .rotate()
      .toColourspace('srgb')
      .removeAlpha()
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    return toRgb(data, info.width, info.height, info.channels);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new IsthmusError(
      'image/decode-failed',
      `The picture of ${bytes.byteLength} bytes does not decode: ${reason}. Is the file whole?`,
      { cause },
    );
  }
}

// A grey picture stays grey in sharp; models take three channels.
function toRgb(data: Uint8Array, width: number, height: number, channels: number): RawImage {
  if (channels === 3 || channels === 4) return { data, width, height, channels };
  const rgb = new Uint8Array(3 * width * height);
  for (let i = 0; i < rgb.length; i++) rgb[i] = data[Math.floor(i / 3) * channels]!;
  return { data: rgb, width, height, channels: 3 };
}
