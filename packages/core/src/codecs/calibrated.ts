import { concatBytes } from '../bytes.js';
import { IsthmusError, isIsthmusError } from '../errors.js';
import { type CutTensor, type FileRef, getCut } from '../manifest.js';
import type { RuntimeSession } from '../runtime.js';
import {
  createTensor,
  elementCount,
  type NamedTensors,
  type Tensor,
  tensorBytes,
  tensorFromBytes,
  tensorToBytes,
} from '../tensor.js';
import { type CalibratedTables, parseCalibratedTables } from './calibrated/model.js';
import { PlaneDecoder, PlaneEncoder } from './calibrated/planes.js';
import { type CodecContext, type CodecKind, corrupt, getLevel } from './codec.js';
import { checkTensor } from './raw.js';

/** The first byte of a payload. */
const modes = { coded: 0, plain: 1 } as const;

/** Values beyond travel uncompressed: sums of their products may overflow. */
const largestMagnitude = 1e18;

/** The files of a calibrated codec in a bundle, by what they are; `index` counts the cut's float32 tensors. */
export const calibratedFiles = {
  tables: (id: string): string => `codecs/${id}/tables.json`,
  encoder: (id: string, index: number): string => `codecs/${id}/encoder-${index}.onnx`,
  decoder: (id: string, index: number): string => `codecs/${id}/decoder-${index}.onnx`,
} as const;

/**
 * `calibrated`: a linear transform fitted to frames and to what the model's output is sensitive to, one quantizer
 * step for all components, and static entropy coding in contexts. The transform and its inverse are small ONNX
 * models of the bundle; what crosses the wire are integers, coded with integer tables whose hash is part of the
 * handshake. See `docs/codecs.md` for the fit and `docs/protocol.md` for the bytes.
 *
 * A frame that would take more bytes than its float32 tensors travels as those, so that a payload is never larger
 * than `raw`'s and one byte.
 */
export const calibratedCodec: CodecKind = {
  kind: 'calibrated',
  version: 1,
  async createEncoder(context) {
    const parts = await openParts(context);
    const planes = new PlaneEncoder(parts.tables);
    const load = loader(context, calibratedFiles.encoder);
    return {
      async encode(tensors, path) {
        getLevel(context.entry, path);
        const cut = getCut(context.manifest, path.from);
        const values = cut.tensors.map((expected) => checkTensor(tensors[expected.name], expected));
        const floats = values.filter((_, index) => isCoded(cut.tensors[index]!)) as Tensor<'float32'>[];
        const largest = Math.max(
          ...floats.map((value, i) => magnitudeOf(value, parts.tables.tensors[i]!.name)),
        );
        const rest = values.filter((_, index) => !isCoded(cut.tensors[index]!)).map(tensorToBytes);
        if (largest <= largestMagnitude) {
          const transformed: Float32Array[] = [];
          for (const [index, value] of floats.entries()) {
            transformed.push(await runOne(await load(index), value));
          }
          parts.checkTransformed(transformed);
          const stream = planes.encode(transformed, path.level);
          if (
            stream !== undefined &&
            stream.byteLength < floats.reduce((sum, { data }) => sum + data.byteLength, 0)
          ) {
            return concatBytes([Uint8Array.of(modes.coded), stream, ...rest]);
          }
        }
        return concatBytes([Uint8Array.of(modes.plain), ...values.map(tensorToBytes)]);
      },
    };
  },
  async createDecoder(context) {
    const parts = await openParts(context);
    let planes: PlaneDecoder | undefined;
    const load = loader(context, calibratedFiles.decoder);
    return {
      maxPayloadBytes: (path) => 1 + plainBytes(getCut(context.manifest, path.from).tensors),
      async decode(payload, path) {
        getLevel(context.entry, path);
        const { tensors } = getCut(context.manifest, path.from);
        const body = payload.subarray(1);
        if (payload[0] === modes.plain) return decodePlain(context, body, tensors);
        if (payload[0] !== modes.coded) throw corrupt(context.entry, 'it is of an unknown mode');
        const others = tensors.filter((tensor) => !isCoded(tensor));
        const streamBytes = body.byteLength - plainBytes(others);
        if (streamBytes < 0) throw corrupt(context.entry, 'it ends too early');
        // Decoding tables take megabytes: a receiver makes them when first wanted.
        planes ??= new PlaneDecoder(parts.tables);
        let components: Float32Array[];
        try {
          components = planes.decode(body.slice(0, streamBytes), path.level);
        } catch (cause) {
          if (isIsthmusError(cause, 'codec/corrupt')) throw corrupt(context.entry, cause.message, cause);
          throw cause;
        }
        const decoded: Record<string, Tensor> = Object.fromEntries(
          Object.entries(decodePlain(context, body.subarray(streamBytes), others)),
        );
        for (const [index, { name, scales, height, width }] of parts.tables.tensors.entries()) {
          const input = createTensor(
            'float32',
            [1, scales.length, height, width],
            components[index]! as Float32Array<ArrayBuffer>,
          );
          const { shape } = tensors.find((tensor) => tensor.name === name)!;
          const data = await runOne(await load(index), input);
          if (data.length !== elementCount(shape))
            throw misfit(context, `its decoder gives another size for ${name}`);
          decoded[name] = createTensor('float32', shape, data);
        }
        return decoded;
      },
    };
  },
};

const isCoded = ({ type, shape }: CutTensor): boolean => type === 'float32' && elementCount(shape) > 0;

function plainBytes(tensors: readonly CutTensor[]): number {
  return tensors.reduce((sum, { type, shape }) => sum + tensorBytes(type, shape), 0);
}

interface Parts {
  tables: CalibratedTables;
  checkTransformed(transformed: readonly Float32Array[]): void;
}

async function openParts(context: CodecContext): Promise<Parts> {
  const { entry, manifest } = context;
  const text = new TextDecoder().decode(
    await context.readFile(findFile(context, calibratedFiles.tables(entry.id))),
  );
  const tables = parseCalibratedTables(text);
  const names = getCut(manifest, entry.paths[0]!.from)
    .tensors.filter(isCoded)
    .map(({ name }) => name);
  const [path, ...others] = entry.paths;
  if (others.length > 0 || path!.from !== path!.to) throw misfit(context, 'it has not exactly one cut');
  if (names.join('\n') !== tables.tensors.map(({ name }) => name).join('\n')) {
    throw misfit(context, 'its tables are of other tensors');
  }
  if (tables.levels.length !== entry.levels.length) throw misfit(context, 'its tables have other levels');
  return {
    tables,
    checkTransformed(transformed) {
      const fits = tables.tensors.every(
        ({ scales, height, width }, index) => transformed[index]!.length === scales.length * height * width,
      );
      if (!fits) throw misfit(context, 'its encoder gives another size than its tables say');
    },
  };
}

function misfit({ entry }: CodecContext, what: string): IsthmusError {
  return new IsthmusError('bundle/invalid', `Codec ${entry.id} contradicts itself: ${what}. Split again.`);
}

function findFile(context: CodecContext, path: string): FileRef {
  const file = context.entry.files.find((candidate) => candidate.path === path);
  if (file === undefined) throw misfit(context, `it lacks its file ${path}`);
  return file;
}

// Sessions are loaded when first wanted, each once; a failure is not kept.
function loader(
  context: CodecContext,
  pathOf: (id: string, index: number) => string,
): (index: number) => Promise<RuntimeSession> {
  const sessions = new Map<number, Promise<RuntimeSession>>();
  const open = async (index: number): Promise<RuntimeSession> =>
    context.runtime.load(await context.readFile(findFile(context, pathOf(context.entry.id, index))));
  return (index) => {
    const existing = sessions.get(index);
    if (existing !== undefined) return existing;
    const opened = open(index);
    sessions.set(index, opened);
    opened.catch(() => sessions.delete(index));
    return opened;
  };
}

async function runOne(session: RuntimeSession, input: Tensor): Promise<Float32Array<ArrayBuffer>> {
  const { outputs } = await session.run({ [session.inputNames[0]!]: input });
  return outputs[session.outputNames[0]!]!.data as Float32Array<ArrayBuffer>;
}

function magnitudeOf({ data }: Tensor<'float32'>, name: string): number {
  let largest = 0;
  let sum = 0;
  for (let i = 0; i < data.length; i++) {
    const magnitude = Math.abs(data[i]!);
    // NaN and infinity stay in a sum, though not in a maximum.
    sum += magnitude;
    if (magnitude > largest) largest = magnitude;
  }
  if (!Number.isFinite(sum)) {
    throw new IsthmusError(
      'tensor/not-finite',
      `${name} holds NaN or infinity; check the frame and the model.`,
    );
  }
  return largest;
}

function decodePlain(context: CodecContext, bytes: Uint8Array, tensors: readonly CutTensor[]): NamedTensors {
  const expected = plainBytes(tensors);
  if (bytes.byteLength !== expected) {
    throw corrupt(context.entry, `it has ${bytes.byteLength} plain bytes, not ${expected}`);
  }
  let offset = 0;
  return Object.fromEntries(
    tensors.map(({ name, type, shape }) => {
      const numBytes = tensorBytes(type, shape);
      const tensor = tensorFromBytes(type, shape, bytes.subarray(offset, offset + numBytes));
      offset += numBytes;
      return [name, tensor];
    }),
  );
}
