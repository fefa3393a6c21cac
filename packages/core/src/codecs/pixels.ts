import type { CodecContext, CodecKind, EncoderKind } from './codec.js';
import { misfit } from './codec-models.js';
import {
  createPictureDecoder,
  createPictureEncoder,
  type PictureCoder,
  type PictureEncoder,
} from './picture-frame.js';

/**
 * `pixels`: the frame itself, as a JPEG (ITU-T T.81), WebP (RFC 9649) or AVIF file. Where the tensor of cut 0 was
 * made from pixels by the manifest's preprocessing, this makes it pixels again: normalization undone, rounded to
 * 8 bits, at the size of the model's input. So its rate counts over the same pixels as every other codec's. The
 * decoder normalizes as preprocessing does.
 *
 * Which bytes an encoder writes, and to a level or two which pixels a decoder reads, is the platform's affair.
 *
 * @param pictures `createSharpCoder()` of `@isthmus/runtime/pictures` in Node.
 * @returns Encoders for cut 0's one tensor, float32 [1, 3, height, width]; both halves throw `bundle/invalid` for
 * bundles that do not take pictures.
 *
 * @example
 * ```ts
 * const receiver = await createReceiver({ bundles, codecs: [...builtinCodecs, ...createPictureCodecs(coder)] });
 * ```
 */
export function createPixelsCodec(pictures: PictureCoder): CodecKind {
  return {
    ...createPixelsEncoder(pictures),
    async createDecoder(context) {
      checkPaths(context);
      return createPictureDecoder(context, pictures);
    },
  };
}

/** The device's half of {@link createPixelsCodec}. */
export function createPixelsEncoder(pictures: PictureEncoder): EncoderKind {
  return {
    kind: 'pixels',
    version: 1,
    async createEncoder(context) {
      checkPaths(context);
      return createPictureEncoder(context, pictures);
    },
  };
}

function checkPaths(context: CodecContext): void {
  if (!context.entry.paths.every(({ to }) => to === 0)) {
    throw misfit(context, 'it does not lead from cut 0 to cut 0');
  }
}
