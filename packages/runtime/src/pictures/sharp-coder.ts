import { IsthmusError, type PictureCoder, type PictureFormat } from '@isthmus/core';
import type { Sharp } from 'sharp';
import { importSharp } from './sharp.js';

// Chroma at half size, as WebP always has it; JPEG from quality 90 on at full size, as libvips and ImageMagick do by
// themselves. JPEG with MozJPEG's trellis quantization, WebP and AVIF at their libraries' default efforts.
const encoders: Readonly<Record<PictureFormat, (picture: Sharp, quality: number) => Sharp>> = {
  jpeg: (picture, quality) =>
    picture.jpeg({ quality, mozjpeg: true, chromaSubsampling: quality < 90 ? '4:2:0' : '4:4:4' }),
  webp: (picture, quality) => picture.webp({ quality, effort: 4 }),
  avif: (picture, quality) => picture.avif({ quality, effort: 4, chromaSubsampling: '4:2:0' }),
};

/**
 * Encodes and decodes pictures with the package sharp (0.35 or later, to be installed next to this package), on
 * libuv's thread pool. A picture of another size than expected is refused before it is decoded.
 *
 * Everything but `encode` and `decode` throws IsthmusError `runtime/unavailable` if sharp is not installed.
 *
 * @example
 * ```ts
 * import { builtinCodecs, createPictureCodecs } from '@isthmus/core';
 * import { createSharpCoder } from '@isthmus/runtime/pictures';
 *
 * const codecs = [...builtinCodecs, ...createPictureCodecs(createSharpCoder())];
 * ```
 */
export function createSharpCoder(): PictureCoder {
  return {
    async prepare(format, direction) {
      const sharp = await load();
      // Builds of libvips without AV1 exist.
      const name = format === 'avif' ? 'heif' : format;
      if (!sharp.format[name]?.[direction === 'encode' ? 'output' : 'input'].buffer) {
        throw new IsthmusError('codec/unknown', `The installed sharp cannot ${direction} ${format}.`);
      }
    },
    async encode(rgb, width, height, format, quality) {
      const sharp = await load();
      const picture = sharp(rgb, { raw: { width, height, channels: 3 } });
      return encoders[format](picture, quality).toBuffer();
    },
    async decode(bytes, _format, { width, height }) {
      const sharp = await load();
      const picture = sharp(bytes, { failOn: 'warning', limitInputPixels: width * height });
      const { data, info } = await picture
        .toColourspace('srgb')
        .raw({ depth: 'uchar' })
        .toBuffer({ resolveWithObject: true });
      if (info.width !== width || info.height !== height || info.channels !== 3) {
        throw new Error(`it is ${info.width}×${info.height}×${info.channels}`);
      }
      return data;
    },
  };
}

function load(): ReturnType<typeof importSharp> {
  return importSharp('runtime/unavailable', 'Picture codecs need the package sharp: npm install sharp.');
}
