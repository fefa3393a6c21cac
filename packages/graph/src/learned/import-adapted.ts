import {
  type Clock,
  IsthmusError,
  type NamedTensors,
  type PictureCoder,
  type PictureFormat,
  type Runtime,
} from '@isthmus/core';
import type { BuiltCodec } from '../build-codec.js';
import type { Bundle } from '../bundle.js';
import type { ModelProto } from '../onnx_pb.js';
import type { ImportProgress } from './import-codec.js';
import type { TunedWeights } from './tuned-weights.js';

export interface ImportAdaptedOptions {
  /** Of its files, those of the segments are needed. */
  bundle: Bundle;
  runtime: Runtime;
  clock: Clock;
  /** Encodes and decodes pictures: `createSharpCoder()` of `@isthmus/runtime/pictures`. */
  pictures: PictureCoder;
  /** The codec's name in the manifest: lower-case letters, digits, `.`, `_`, `-`. */
  id: string;
  format: PictureFormat;
  /** What encoders count 1…100 by, the finest first; those off the convex hull of bytes and divergence are dropped. */
  qualities: readonly number[];
  /**
   * ONNX, from the decoded picture, the tensor of cut 0 by its name, to the tensors of cut `tuned.via`, or of `to` where
   * nothing is tuned. A network cannot give what it takes, so where that is cut 0 again, its only output may have any
   * name. May take `level`, a float32 [1]: the quality's index among `qualities` over the last one's.
   * @default none: the tuned segments take the picture as it is
   */
  adapter?: Uint8Array | ModelProto;
  /** @default none */
  tuned?: TunedWeights;
  /** The cut where the codec lands. */
  to: number;
  /** Tensors of cut 0, of pictures that nothing was trained on: levels are measured on them. */
  frames: readonly NamedTensors[];
  onProgress?: (progress: ImportProgress) => void;
}

/** Makes an `adapted` codec: a picture file, and what mends in the cloud what coding it did. */
export async function importAdapted({ id }: ImportAdaptedOptions): Promise<BuiltCodec> {
  throw new IsthmusError('internal', `${id} cannot be imported yet.`);
}
