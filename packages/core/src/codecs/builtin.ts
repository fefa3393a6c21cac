import { calibratedCodec } from './calibrated.js';
import type { CodecKind } from './codec.js';
import { learnedCodec, tunedLearnedCodec } from './learned.js';
import { quantizedCodec } from './quantized.js';
import { rawCodec } from './raw.js';

/** The codec kinds that need nothing but this package. */
export const builtinCodecs: readonly CodecKind[] = [
  rawCodec,
  quantizedCodec,
  calibratedCodec,
  learnedCodec,
  tunedLearnedCodec,
];
