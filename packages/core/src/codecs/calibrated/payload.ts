import { isIsthmusError } from '../../errors.js';
import type { CodecEntry } from '../../manifest.js';
import { corrupt } from '../codec.js';
import type { PlaneDecoder } from './planes.js';

/** The first byte of a payload: whether integers follow, or tensors as they are. */
export const payloadModes = { coded: 0, plain: 1 } as const;

/** The values of a stream of integers. @throws IsthmusError `codec/corrupt`, naming the codec */
export function decodePlanes(
  entry: CodecEntry,
  planes: PlaneDecoder,
  stream: Uint8Array,
  level: number,
): Float32Array[] {
  try {
    return planes.decode(stream.slice(), level);
  } catch (cause) {
    if (isIsthmusError(cause, 'codec/corrupt')) throw corrupt(entry, cause.message, cause);
    throw cause;
  }
}
