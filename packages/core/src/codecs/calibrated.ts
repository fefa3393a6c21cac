import { concatBytes } from '../bytes.js';
import { type CutTensor, getCut } from '../manifest.js';
import type { RuntimeSession } from '../runtime.js';
import { createTensor, elementCount, type Tensor, tensorToBytes } from '../tensor.js';
import type { CalibratedTables } from './calibrated/model.js';
import { decodePlanes, payloadModes } from './calibrated/payload.js';
import { PlaneDecoder, PlaneEncoder } from './calibrated/planes.js';
import {
  type CodecContext,
  type CodecKind,
  corrupt,
  type Decoder,
  type Encoder,
  type EncoderKind,
  getLevel,
} from './codec.js';
import { createCodecModels, misfit, readTables } from './codec-models.js';
import { decodePlain, magnitudeOf, plainBytes } from './plain-tensors.js';
import { checkTensor } from './raw.js';

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
  createEncoder: createCalibratedEncoder,
  createDecoder: createCalibratedDecoder,
};

/** The device's half of {@link calibratedCodec}. */
export const calibratedEncoder: EncoderKind = {
  kind: 'calibrated',
  version: 1,
  createEncoder: createCalibratedEncoder,
};

async function createCalibratedEncoder(context: CodecContext): Promise<Encoder> {
  const { id } = context.entry;
  const parts = await openParts(context);
  const planes = new PlaneEncoder(parts.tables);
  const models = createCodecModels(context);
  return {
    async encode(tensors, path) {
      getLevel(context.entry, path);
      const cut = getCut(context.manifest, path.from);
      const values = cut.tensors.map((expected) => checkTensor(tensors[expected.name], expected));
      const floats = values.filter((_, index) => isCoded(cut.tensors[index]!)) as Tensor<'float32'>[];
      const largest = Math.max(
        ...floats.map((value, i) =>
          magnitudeOf(value, parts.tables.tensors[i]!.name, 'check the frame and the model.'),
        ),
      );
      const rest = values.filter((_, index) => !isCoded(cut.tensors[index]!)).map(tensorToBytes);
      if (largest <= largestMagnitude) {
        const transformed: Float32Array[] = [];
        for (const [index, value] of floats.entries()) {
          transformed.push(
            await models.use(calibratedFiles.encoder(id, index), (session) => runOne(session, value)),
          );
        }
        parts.checkTransformed(transformed);
        const stream = planes.encode(transformed, path.level);
        if (
          stream !== undefined &&
          stream.byteLength < floats.reduce((sum, { data }) => sum + data.byteLength, 0)
        ) {
          return concatBytes([Uint8Array.of(payloadModes.coded), stream, ...rest]);
        }
      }
      return concatBytes([Uint8Array.of(payloadModes.plain), ...values.map(tensorToBytes)]);
    },
    async prepare() {
      for (const index of parts.tables.tensors.keys()) {
        await models.use(calibratedFiles.encoder(id, index), async () => {});
      }
    },
    release: models.release,
  };
}

async function createCalibratedDecoder(context: CodecContext): Promise<Decoder> {
  const { entry, manifest } = context;
  const parts = await openParts(context);
  let planes: PlaneDecoder | undefined;
  const models = createCodecModels(context);
  return {
    maxPayloadBytes: (path) => 1 + plainBytes(getCut(manifest, path.from).tensors),
    async decode(payload, path, watch) {
      getLevel(entry, path);
      const { tensors } = getCut(manifest, path.from);
      const body = payload.subarray(1);
      if (payload[0] === payloadModes.plain) return decodePlain(entry, body, tensors);
      if (payload[0] !== payloadModes.coded) throw corrupt(entry, 'it is of an unknown mode');
      const others = tensors.filter((tensor) => !isCoded(tensor));
      const streamBytes = body.byteLength - plainBytes(others);
      if (streamBytes < 0) throw corrupt(entry, 'it ends too early');
      // Decoding tables take megabytes: a receiver makes them when first wanted.
      planes ??= new PlaneDecoder(parts.tables);
      const components = decodePlanes(entry, planes, body.subarray(0, streamBytes), path.level);
      const decoded: Record<string, Tensor> = {
        ...decodePlain(entry, body.subarray(streamBytes), others),
      };
      for (const [index, { name, scales, height, width }] of parts.tables.tensors.entries()) {
        const input = createTensor(
          'float32',
          [1, scales.length, height, width],
          components[index]! as Float32Array<ArrayBuffer>,
        );
        const { shape } = tensors.find((tensor) => tensor.name === name)!;
        const data = await models.use(
          calibratedFiles.decoder(entry.id, index),
          (session) => runOne(session, input),
          watch,
        );
        if (data.length !== elementCount(shape))
          throw misfit(context, `its decoder gives another size for ${name}`);
        decoded[name] = createTensor('float32', shape, data);
      }
      return decoded;
    },
    release() {
      planes = undefined;
      return models.release();
    },
  };
}

const isCoded = ({ type, shape }: CutTensor): boolean => type === 'float32' && elementCount(shape) > 0;

interface Parts {
  tables: CalibratedTables;
  checkTransformed(transformed: readonly Float32Array[]): void;
}

async function openParts(context: CodecContext): Promise<Parts> {
  const { entry, manifest } = context;
  const tables = await readTables(context, calibratedFiles.tables(entry.id));
  const [path, ...others] = entry.paths;
  if (others.length > 0 || path!.from !== path!.to) throw misfit(context, 'it has not exactly one cut');
  const names = getCut(manifest, path!.from)
    .tensors.filter(isCoded)
    .map(({ name }) => name);
  if (names.join('\n') !== tables.tensors.map(({ name }) => name).join('\n')) {
    throw misfit(context, 'its tables are of other tensors');
  }
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

async function runOne(session: RuntimeSession, input: Tensor): Promise<Float32Array<ArrayBuffer>> {
  const { outputs } = await session.run({ [session.inputNames[0]!]: input });
  return outputs[session.outputNames[0]!]!.data as Float32Array<ArrayBuffer>;
}
