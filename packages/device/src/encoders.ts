import {
  type CodecEntry,
  codecBytes,
  type Encoder,
  type EncoderKind,
  findCodecKind,
  IsthmusError,
  type Manifest,
  type Runtime,
} from '@isthmus/core';
import { deviceBytes } from '@isthmus/planner';
import type { Holding, Memory } from './memory.js';
import type { ReadFile } from './segments.js';
import { checkRoom } from './spans.js';

/** Which encoder, at which cut. */
interface EncoderAt {
  /** The id of one of the manifest's codecs. */
  codec: string;
  from: number;
}

/** The device's halves of the codecs, made when first wanted: tables fetched, networks loaded. */
export interface Encoders {
  /**
   * Works with an encoder.
   *
   * @throws IsthmusError `codec/unknown`, `request/invalid-plan` if it and the span before it are larger than
   * `maxDeviceBytes`, and as {@link ReadFile} and {@link Runtime}
   */
  use<Value>(at: EncoderAt, work: (encoder: Encoder) => Promise<Value>): Promise<Value>;
  /** Makes an encoder ready beside the frames, unless something else would have to go for it. */
  warm(at: EncoderAt): Promise<void>;
  /** Gives back those that leave from no cut that `isUsed` holds for. */
  keep(isUsed: (from: number) => boolean): Promise<void>;
}

export interface EncodersOptions {
  manifest: Manifest;
  readFile: ReadFile;
  runtime: Runtime;
  codecs: readonly EncoderKind[];
  memory: Memory;
  maxDeviceBytes: number;
}

const keyOf = (codec: string): string => `encoder ${codec}`;

export function createEncoders(options: EncodersOptions): Encoders {
  const { manifest, readFile, runtime, codecs, memory, maxDeviceBytes } = options;

  const holdingOf = (codec: string): Holding<Encoder> => {
    const entry = manifest.codecs.find(({ id }) => id === codec);
    if (entry === undefined) throw new IsthmusError('codec/unknown', `There is no codec ${codec}.`);
    return {
      key: keyOf(codec),
      numBytes: codecBytes(entry, 'encoder'),
      load: () => open(entry),
      release: async (encoder) => encoder.release?.(),
    };
  };
  const open = async (entry: CodecEntry): Promise<Encoder> => {
    const encoder = await findCodecKind(codecs, entry).createEncoder({ manifest, entry, readFile, runtime });
    // Else the first frame would wait for the networks, and its time would be taken for that of encoding.
    await encoder.prepare?.();
    return encoder;
  };

  return {
    async use({ codec, from }, work) {
      const holding = holdingOf(codec);
      const numBytes = deviceBytes(manifest, from, codec);
      checkRoom(`Codec ${codec} at cut ${from}`, numBytes, maxDeviceBytes, { codec, cut: from });
      return memory.use(holding, work);
    },
    async warm({ codec }) {
      const holding = holdingOf(codec);
      if (memory.hasRoom(holding)) await memory.use(holding, async () => {});
    },
    async keep(isUsed) {
      const unused = manifest.codecs.filter(({ paths }) => !paths.some(({ from }) => isUsed(from)));
      await Promise.all(unused.map(({ id }) => memory.drop(keyOf(id))));
    },
  };
}
