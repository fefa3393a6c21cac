import {
  base64ToBytes,
  builtinCodecs,
  bytesToBase64,
  type CodecPath,
  calibratedFiles,
  type FileRef,
  findCodecKind,
  type Manifest,
  type NamedTensors,
  PlaneDecoder,
  PlaneEncoder,
  parseCalibratedTables,
  type Runtime,
  type TensorType,
  tensorFromBytes,
  tensorToBytes,
} from '@isthmus/core';

/** A tensor as JSON, which goes into a page and comes out of it; `data` is base64. */
export interface PackedTensor {
  type: TensorType;
  shape: readonly number[];
  data: string;
}

export type PackedTensors = Record<string, PackedTensor>;

/**
 * The codecs of a bundle at one end of a link. The same code runs in a page and in Node, over another runtime and
 * another engine's arithmetic; all that goes in and out is JSON, bytes as base64.
 */
export interface CodecEnd {
  encode(codec: string, path: CodecPath, tensors: PackedTensors): Promise<string>;
  decode(codec: string, path: CodecPath, payload: string): Promise<PackedTensors>;
  /** What the integers of a coded payload of `calibrated` stand for, before any network runs: a number to each. */
  decodePlanes(codec: string, path: CodecPath, payload: string): Promise<string[]>;
  /** The stream of integers for what the codec's transform gave, without running it. */
  encodePlanes(codec: string, path: CodecPath, transformed: readonly string[]): Promise<string>;
}

export function createCodecEnd(
  manifest: Manifest,
  readFile: (path: string) => Promise<Uint8Array>,
  runtime: Runtime,
): CodecEnd {
  const open = (id: string) => {
    const entry = manifest.codecs.find((candidate) => candidate.id === id)!;
    const kind = findCodecKind(builtinCodecs, entry);
    const context = { manifest, entry, readFile: ({ path }: FileRef) => readFile(path), runtime };
    return Promise.all([kind.createEncoder(context), kind.createDecoder(context)]);
  };
  const opened = new Map<string, ReturnType<typeof open>>();
  const codecOf = (id: string) => {
    const codec = opened.get(id) ?? open(id);
    opened.set(id, codec);
    return codec;
  };
  const readTables = async (id: string) =>
    parseCalibratedTables(new TextDecoder().decode(await readFile(calibratedFiles.tables(id))));
  return {
    async encode(codec, path, tensors) {
      const [encoder] = await codecOf(codec);
      return bytesToBase64(await encoder.encode(unpackTensors(tensors), path));
    },
    async decode(codec, path, payload) {
      const [, decoder] = await codecOf(codec);
      return packTensors(await decoder.decode(base64ToBytes(payload), path));
    },
    async decodePlanes(codec, { from, level }, payload) {
      const bytes = base64ToBytes(payload);
      if (bytes[0] !== 0) throw new Error('Not a coded payload: it has no integers.');
      if (manifest.cuts[from]!.tensors.some(({ type }) => type !== 'float32')) {
        throw new Error('Behind the integers are other tensors.');
      }
      const planes = new PlaneDecoder(await readTables(codec)).decode(bytes.slice(1), level);
      return planes.map(packFloats);
    },
    async encodePlanes(codec, { level }, transformed) {
      const stream = new PlaneEncoder(await readTables(codec)).encode(transformed.map(unpackFloats), level);
      return bytesToBase64(stream!);
    },
  };
}

export function packTensors(tensors: NamedTensors): PackedTensors {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, tensor]) => [
      name,
      { type: tensor.type, shape: [...tensor.shape], data: bytesToBase64(tensorToBytes(tensor)) },
    ]),
  );
}

export function unpackTensors(packed: PackedTensors): NamedTensors {
  return Object.fromEntries(
    Object.entries(packed).map(([name, { type, shape, data }]) => [
      name,
      tensorFromBytes(type, shape, base64ToBytes(data)),
    ]),
  );
}

export function packFloats(values: Float32Array): string {
  return bytesToBase64(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
}

function unpackFloats(packed: string): Float32Array {
  return new Float32Array(base64ToBytes(packed).slice().buffer);
}
