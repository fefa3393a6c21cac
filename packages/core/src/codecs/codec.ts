import { IsthmusError } from '../errors.js';
import type { CodecEntry, CodecLevel, FileRef, Manifest } from '../manifest.js';
import type { Runtime } from '../runtime.js';
import type { NamedTensors } from '../tensor.js';

/** From which cut on the device, to which cut in the cloud, at which level. */
export interface CodecPath {
  from: number;
  to: number;
  level: number;
}

/** What a codec may need to get ready. */
export interface CodecContext {
  manifest: Manifest;
  entry: CodecEntry;
  /** The contents of a file of the bundle, its hash verified. */
  readFile: (file: FileRef) => Promise<Uint8Array>;
  /** For codecs that are networks. */
  runtime: Runtime;
}

/** The device's half. */
export interface Encoder {
  /**
   * @param tensors The tensors of cut `path.from`, for one frame.
   * @throws IsthmusError `codec/no-such-path`, `codec/no-such-level`, `tensor/not-finite`
   */
  encode(tensors: NamedTensors, path: CodecPath): Promise<Uint8Array>;
  /** Fetches and loads what the first frame would wait for. */
  prepare?(): Promise<void>;
  /** Gives memory back once no frame is being encoded; what is encoded later loads it again. */
  release?(): Promise<void>;
}

/** Whoever has something decoded, while networks of the codec load and run. */
export interface DecodeWatch {
  /**
   * Waits, so that what a decoder waits for is not taken for its own work: for a network to load, or for its turn to run.
   *
   * @param workMs How much of the wait was work for this payload.
   * @throws what ends the decoding, and then has not begun: a deadline that has passed, say
   */
  wait<Value>(begin: () => Promise<Value>, workMs: (value: Value) => number): Promise<Value>;
}

/** The cloud's half. */
export interface Decoder {
  /** The largest payload {@link Encoder.encode} can make; the receiver refuses more before allocating. */
  maxPayloadBytes(path: CodecPath): number;
  /**
   * The tensors of cut `path.to`.
   *
   * @param watch Asked before every network that the codec loads or runs. @default nobody watches
   * @throws IsthmusError `codec/corrupt` for any payload that is not whole and sound; else what `watch` and the runtime
   * throw, and nothing that a payload could bring about.
   */
  decode(payload: Uint8Array, path: CodecPath, watch?: DecodeWatch): Promise<NamedTensors>;
  /** Bytes of the bundle's segments that it loads once more, with weights of its own. @default 0 */
  readonly segmentBytes?: number;
  /** Gives memory back once no frame is being decoded; what is decoded later loads it again. */
  release?(): Promise<void>;
}

/** What says which entries of a manifest are a kind's. */
export type CodecVersion = Pick<CodecEntry, 'kind' | 'version'>;

/** The device's half of a {@link CodecKind}: a page need not load the other. */
export interface EncoderKind extends Readonly<CodecVersion> {
  createEncoder(context: CodecContext): Promise<Encoder>;
}

/** A way of coding, as code; a {@link CodecEntry} in a bundle is that way with its parameters. */
export interface CodecKind extends EncoderKind {
  createDecoder(context: CodecContext): Promise<Decoder>;
}

/** The kind an entry of the manifest asks for. @throws IsthmusError `codec/unknown` */
export function findCodecKind<Kind extends CodecVersion>(kinds: readonly Kind[], entry: CodecEntry): Kind {
  const found = kinds.find((kind) => kind.kind === entry.kind && kind.version === entry.version);
  if (found === undefined) {
    throw new IsthmusError(
      'codec/unknown',
      `Codec ${entry.id} is of kind ${entry.kind} version ${entry.version}, which this version of Isthmus does not know. Update it, or choose another codec.`,
    );
  }
  return found;
}

/** The level an entry gives for a path. @throws IsthmusError `codec/no-such-path`, `codec/no-such-level` */
export function getLevel(entry: CodecEntry, path: CodecPath): CodecLevel {
  if (!entry.paths.some(({ from, to }) => from === path.from && to === path.to)) {
    const paths = entry.paths.map(({ from, to }) => `${from}→${to}`).join(', ');
    throw new IsthmusError(
      'codec/no-such-path',
      `Codec ${entry.id} has no path ${path.from}→${path.to}, only ${paths}.`,
    );
  }
  const level = entry.levels[path.level];
  if (level === undefined) {
    throw new IsthmusError(
      'codec/no-such-level',
      `Codec ${entry.id} has levels 0 to ${entry.levels.length - 1}; there is no level ${path.level}.`,
    );
  }
  return level;
}

/** The error for a payload that cannot be decoded. */
export function corrupt(entry: CodecEntry, what: string, cause?: unknown): IsthmusError {
  return new IsthmusError('codec/corrupt', `A payload of codec ${entry.id} is corrupt: ${what}.`, { cause });
}
