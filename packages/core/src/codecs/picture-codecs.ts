import { createAdaptedCodec, createAdaptedEncoder } from './adapted.js';
import type { CodecKind, EncoderKind } from './codec.js';
import type { PictureCoder, PictureEncoder } from './picture-frame.js';
import { createPixelsCodec, createPixelsEncoder } from './pixels.js';

/**
 * The codec kinds that need a platform's picture encoders and decoders, to be used beside `builtinCodecs`.
 *
 * @param pictures `createSharpCoder()` of `@isthmus/runtime/pictures` in Node.
 *
 * @example
 * ```ts
 * const receiver = await createReceiver({ bundles, codecs: [...builtinCodecs, ...createPictureCodecs(coder)] });
 * ```
 */
export function createPictureCodecs(pictures: PictureCoder): readonly CodecKind[] {
  return [createPixelsCodec(pictures), createAdaptedCodec(pictures)];
}

/** Their device's halves, to be used beside `builtinEncoders`. */
export function createPictureEncoders(pictures: PictureEncoder): readonly EncoderKind[] {
  return [createPixelsEncoder(pictures), createAdaptedEncoder(pictures)];
}
