import {
  type CodecKind,
  elementCount,
  type FileRef,
  IsthmusError,
  type Manifest,
  type NamedTensors,
  type Runtime,
} from '@isthmus/core';
import type { BuiltCodec } from '../build-codec.js';
import type { LevelMeasure } from './choose-levels.js';
import { type Fidelity, meanFidelity } from './fidelity.js';

/** Frames on which steps are tried. */
export const numTried = 5;
/** Frames on which levels are measured; more say little more and take long. */
export const maxMeasured = 20;

/** Frames at a cut that nothing was fitted to, with the uncompressed model's outputs. */
export type HeldOut = readonly { frame: NamedTensors; outputs: NamedTensors }[];

export interface TryOptions {
  manifest: Manifest;
  kind: CodecKind;
  codec: BuiltCodec;
  runtime: Runtime;
  /** Runs from the cut where the codec lands to the model's end. */
  tail: (tensors: NamedTensors) => Promise<NamedTensors>;
  comparison: (expected: NamedTensors, actual: NamedTensors) => Fidelity;
  heldOut: HeldOut;
  /** @default all of the codec's */
  levels?: readonly number[];
}

/** Codes the frames as device and receiver will, at levels of a codec's one path. */
export async function tryLevels(options: TryOptions): Promise<LevelMeasure[]> {
  return (await tryLevelsExactly(options)).map(withWholeBytes);
}

/** The same with mean bytes that are no whole numbers, to be averaged further. */
export async function tryLevelsExactly(options: TryOptions): Promise<LevelMeasure[]> {
  const { manifest, kind, codec, runtime, tail, comparison, heldOut } = options;
  const { levels = [...codec.entry.levels.keys()] } = options;
  const { entry, files } = codec;
  const readFile = async ({ path }: FileRef): Promise<Uint8Array> => {
    const bytes = files.get(path);
    if (bytes === undefined) throw new IsthmusError('bundle/not-found', `${entry.id} lacks ${path}.`);
    return bytes;
  };
  const context = { manifest, entry, runtime, readFile };
  const [encoder, decoder] = [await kind.createEncoder(context), await kind.createDecoder(context)];
  const { from, to } = entry.paths[0]!;
  const numElements = manifest.cuts[from]!.tensors.filter(({ type }) => type === 'float32').reduce(
    (sum, { shape }) => sum + elementCount(shape),
    0,
  );
  const measures: LevelMeasure[] = [];
  for (const level of levels) {
    const path = { from, to, level };
    const fidelities: Fidelity[] = [];
    let numBytes = 0;
    for (const { frame, outputs } of heldOut) {
      const payload = await encoder.encode(frame, path);
      numBytes += payload.byteLength / heldOut.length;
      fidelities.push(comparison(outputs, await tail(await decoder.decode(payload, path))));
    }
    measures.push({
      ...meanFidelity(fidelities),
      numBytes,
      bitsPerElement: (8 * numBytes) / numElements,
    });
  }
  return measures;
}

export const withWholeBytes = (measure: LevelMeasure): LevelMeasure => ({
  ...measure,
  numBytes: Math.round(measure.numBytes),
});
