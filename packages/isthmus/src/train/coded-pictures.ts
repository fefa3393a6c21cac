import {
  createPixelsCodec,
  type Manifest,
  type NamedTensors,
  type PictureCoder,
  type PictureFormat,
  type Runtime,
  type Tensor,
} from '@isthmus/core';
import { pixelsEntries } from '@isthmus/graph';

/** A frame as it arrives as a picture file of some quality. */
interface CodedPicture {
  /** The tensor of cut 0. */
  picture: Tensor;
  /** Of the file. */
  numBytes: number;
}

/** Frames as a picture codec brings them to the cloud. */
export interface CodedPictures {
  readonly numLevels: number;
  /** @param level The quality's index, 0 for the finest. */
  get(name: string, frame: NamedTensors, level: number): Promise<CodedPicture>;
}

/** The qualities of a format that a bundle's own picture codec has, the finest first. */
export function qualitiesOf(manifest: Manifest, format: PictureFormat): number[] {
  const entries = [...manifest.codecs.filter(({ kind }) => kind === 'pixels'), ...pixelsEntries(manifest)];
  const entry = entries.find(({ levels }) => levels[0]?.params.format === format);
  return (entry?.levels ?? []).flatMap(({ params: { quality } }) =>
    typeof quality === 'number' ? [quality] : [],
  );
}

/** Codes frames when they are wanted, and keeps the files: they are small, and coding takes longer than decoding. */
export async function openCodedPictures(options: {
  manifest: Manifest;
  runtime: Runtime;
  coder: PictureCoder;
  format: PictureFormat;
  qualities: readonly number[];
}): Promise<CodedPictures> {
  const { manifest, runtime, coder, format, qualities } = options;
  const entry = {
    ...{ id: format, kind: 'pixels', version: 1, paths: [{ from: 0, to: 0 }], tablesSha256: null, files: [] },
    levels: qualities.map((quality) => ({ name: `q${quality}`, params: { format, quality } })),
  };
  const context = { manifest, runtime, entry, readFile: async () => new Uint8Array() };
  const codec = createPixelsCodec(coder);
  const [encoder, decoder] = [await codec.createEncoder(context), await codec.createDecoder(context)];
  const name = manifest.cuts[0]?.tensors[0]?.name ?? '';
  const kept = new Map<string, Uint8Array>();
  return {
    numLevels: qualities.length,
    async get(picture, frame, level) {
      const path = { from: 0, to: 0, level };
      const key = `${level} ${picture}`;
      const bytes = kept.get(key) ?? (await encoder.encode(frame, path));
      kept.set(key, bytes);
      const decoded = (await decoder.decode(bytes, path))[name];
      if (decoded === undefined) throw new TypeError('A picture codec lost its picture.');
      return { picture: decoded, numBytes: bytes.byteLength };
    },
  };
}
