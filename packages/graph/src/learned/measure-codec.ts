import type { Clock, CodecKind, FileRef, NamedTensors, Runtime } from '@isthmus/core';
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
  const { manifest } = await measureLevels(bundle, { runtime, clock, frames, codecs, only: [id] });
  const entry = manifest.codecs.find((candidate) => candidate.id === id);
  return entry === undefined ? codec : { ...codec, entry };
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
  const [encoder, decoder] = [await kind.createEncoder(context), await kind.createDecoder(context)];
  try {
    const path = { ...entry.paths[0]!, level: 0 };
    await decoder.decode(await encoder.encode(frame, path), path);
  } finally {
    await Promise.all([encoder.release?.(), decoder.release?.()]);
  }
}
