import type { Clock, CodecKind, Decoder, Encoder, FileRef, NamedTensors, Runtime } from '@isthmus/core';
import type { BuiltCodec } from '../build-codec.js';
import type { Bundle } from '../bundle.js';
import { measureLevels } from '../calibrate/measure-levels.js';
import { addCodec } from './add-codec.js';

/**
 * A codec with its levels measured as `isthmus split` measures all others, and on the scale of what it found for those of
 * the same cut.
 */
export async function measureCodec(
  codec: BuiltCodec,
  options: {
    bundle: Bundle;
    runtime: Runtime;
    clock: Clock;
    frames: readonly NamedTensors[];
    codecs: readonly CodecKind[];
  },
): Promise<BuiltCodec> {
  const { runtime, clock, frames, codecs } = options;
  const { id } = codec.entry;
  const bundle = addCodec(options.bundle, codec);
  const { manifest } = await withCoders((held) =>
    measureLevels(bundle, { runtime, clock, frames, codecs: codecs.map(held), only: [id] }),
  );
  const entry = manifest.codecs.find((candidate) => candidate.id === id);
  return entry === undefined ? codec : { ...codec, entry };
}

/**
 * Works with codecs, and then gives back what their encoders and decoders hold.
 *
 * @param work Gets what makes a kind one whose coders are given back.
 */
export async function withCoders<Value>(
  work: (held: (kind: CodecKind) => CodecKind) => Promise<Value>,
): Promise<Value> {
  const coders: { release?: () => Promise<void> }[] = [];
  const hold = <Coder extends Encoder | Decoder>(coder: Coder): Coder => {
    coders.push(coder);
    return coder;
  };
  try {
    return await work((kind) => ({
      kind: kind.kind,
      version: kind.version,
      createEncoder: async (context) => hold(await kind.createEncoder(context)),
      createDecoder: async (context) => hold(await kind.createDecoder(context)),
    }));
  } finally {
    for (const coder of coders) await coder.release?.();
  }
}

/** A codec with the files of the segments, of which tuned ones are made. */
export function withSegments({ files }: Bundle, codec: BuiltCodec): BuiltCodec {
  return { ...codec, files: new Map([...files, ...codec.files]) };
}

/** Carries one frame, from the tensors of the cut where the codec begins, at its first level. */
export async function runCodec(
  codec: BuiltCodec,
  options: { bundle: Bundle; runtime: Runtime; kind: CodecKind; frame: NamedTensors },
): Promise<void> {
  const { bundle, runtime, kind, frame } = options;
  const { entry, files } = withSegments(bundle, codec);
  const readFile = async ({ path }: FileRef): Promise<Uint8Array> => files.get(path)!;
  const context = { manifest: bundle.manifest, entry, runtime, readFile };
  await withCoders(async (held) => {
    const own = held(kind);
    const [encoder, decoder] = [await own.createEncoder(context), await own.createDecoder(context)];
    const path = { ...entry.paths[0]!, level: 0 };
    await decoder.decode(await encoder.encode(frame, path), path);
  });
}
