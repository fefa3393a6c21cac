import { calibratedCodec, calibratedEncoder } from './calibrated.js';
import type { CodecKind, EncoderKind } from './codec.js';
import { learnedCodec, learnedEncoder, tunedLearnedCodec, tunedLearnedEncoder } from './learned.js';
import { quantizedCodec, quantizedEncoder } from './quantized.js';
import { rawCodec, rawEncoder } from './raw.js';

/** The codec kinds that need nothing but this package. */
export const builtinCodecs: readonly CodecKind[] = [
  rawCodec,
  quantizedCodec,
  calibratedCodec,
  learnedCodec,
  tunedLearnedCodec,
];

/**
 * Their device's halves, which are all that a page loads. Each is written out beside its codec: bundlers keep a codec that
 * spreads its half, and the decoder with it.
 */
export const builtinEncoders: readonly EncoderKind[] = [
  rawEncoder,
  quantizedEncoder,
  calibratedEncoder,
  learnedEncoder,
  tunedLearnedEncoder,
];
