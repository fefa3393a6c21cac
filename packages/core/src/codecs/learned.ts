import { concatBytes } from '../bytes.js';
import { type CodecEntry, getCut } from '../manifest.js';
import type { RuntimeSession } from '../runtime.js';
import {
  createTensor,
  elementCount,
  type NamedTensors,
  type Tensor,
  tensorBytes,
  tensorToBytes,
} from '../tensor.js';
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
import { createCodecModels, fitting, misfit, readTables } from './codec-models.js';
import { decodePlain, magnitudeOf, type PlainTensor } from './plain-tensors.js';
import { checkTensor } from './raw.js';
import { openTunedTail, type TunedTail } from './tuned-tail.js';

/** The files of a learned codec in a bundle. */
export const learnedFiles = {
  tables: (id: string): string => `codecs/${id}/tables.json`,
  encoder: (id: string): string => `codecs/${id}/encoder.onnx`,
  decoder: (id: string): string => `codecs/${id}/decoder.onnx`,
  /** Only where segments are tuned. */
  tuned: (id: string): string => `codecs/${id}/tuned.bin`,
} as const;

/** What the tensors of its networks are called that are not of the model. */
export const learnedTensors = {
  /** float32 [1, C, H, W]: what the encoder gives, what is quantized and sent, and what the decoder takes. */
  latent: 'latent',
  /** float32 [1]: an input that a decoder may have, the level's index over the last one's. */
  level: 'level',
} as const;

/**
 * `learned`: an encoder that somebody trained, from the float32 tensors of cut `from` to one latent, and its decoder,
 * from the latent to all tensors of cut `to`, which may be a later one: then the decoder is in place of the segments
 * between. The latent is quantized and coded as the components of {@link calibratedCodec} are, with integer tables of
 * the same form; a level is a step of the quantizer, so that one set of weights serves all rates. See `docs/codecs.md`
 * for how to import one and `docs/protocol.md` for the bytes.
 *
 * A latent that the coder cannot hold, or not in fewer bytes, travels as float32, so that a payload is never larger
 * than the latent and one byte.
 */
export const learnedCodec: CodecKind = {
  kind: 'learned',
  version: 1,
  createEncoder: createLearnedEncoder,
  createDecoder: (context) => createLearnedDecoder(context),
};

/**
 * {@link learnedCodec} that goes on: its decoder lands at a cut before `to`, and from there segments of the bundle lead to
 * `to`, with weights that were trained along, as differences from the bundle's (`tuned.bin`). For the device it is the same.
 */
export const tunedLearnedCodec: CodecKind = {
  kind: 'learned',
  version: 2,
  createEncoder: createLearnedEncoder,
  async createDecoder(context) {
    return createLearnedDecoder(context, await openTunedTail(context, learnedFiles.tuned(context.entry.id)));
  },
};

/** The device's half of {@link learnedCodec}. */
export const learnedEncoder: EncoderKind = {
  kind: 'learned',
  version: 1,
  createEncoder: createLearnedEncoder,
};

/** The device's half of {@link tunedLearnedCodec}. */
export const tunedLearnedEncoder: EncoderKind = {
  kind: 'learned',
  version: 2,
  createEncoder: createLearnedEncoder,
};

async function createLearnedEncoder(context: CodecContext): Promise<Encoder> {
  const { entry, manifest } = context;
  const { tables, latent } = await openParts(context);
  const planes = new PlaneEncoder(tables);
  const models = createCodecModels(context);
  return {
    async encode(tensors, path) {
      getLevel(entry, path);
      const inputs: Record<string, Tensor> = {};
      for (const expected of getCut(manifest, path.from).tensors.filter(isFloat)) {
        const value = checkTensor(tensors[expected.name], expected);
        magnitudeOf(value as Tensor<'float32'>, expected.name, 'check the frame and the model.');
        inputs[expected.name] = value;
      }
      const { outputs } = await models.use(learnedFiles.encoder(entry.id), (session) =>
        session.run(inputs, [learnedTensors.latent]),
      );
      const value = fitting(context, 'encoder', outputs, latent) as Tensor<'float32'>;
      magnitudeOf(value, `The latent of ${entry.id}`, 'its encoder cannot take this frame.');
      const stream = planes.encode([value.data], path.level);
      return stream !== undefined && stream.byteLength < value.data.byteLength
        ? concatBytes([Uint8Array.of(payloadModes.coded), stream])
        : concatBytes([Uint8Array.of(payloadModes.plain), tensorToBytes(value)]);
    },
    prepare: () => models.use(learnedFiles.encoder(entry.id), async () => {}),
    release: models.release,
  };
}

async function createLearnedDecoder(context: CodecContext, tail?: TunedTail): Promise<Decoder> {
  const { entry, manifest } = context;
  const { tables, latent } = await openParts(context);
  let planes: PlaneDecoder | undefined;
  const models = createCodecModels(context);
  return {
    maxPayloadBytes: () => 1 + tensorBytes(latent.type, latent.shape),
    async decode(payload, path, watch) {
      getLevel(entry, path);
      const body = payload.subarray(1);
      let value: Tensor;
      if (payload[0] === payloadModes.plain) {
        value = decodeLatent(entry, body, latent);
      } else if (payload[0] === payloadModes.coded) {
        // Decoding tables take megabytes: a receiver makes them when first wanted.
        planes ??= new PlaneDecoder(tables);
        const [data] = decodePlanes(entry, planes, body, path.level);
        value = createTensor('float32', latent.shape, data as Float32Array<ArrayBuffer>);
      } else {
        throw corrupt(entry, 'it is of an unknown mode');
      }
      const { outputs } = await models.use(
        learnedFiles.decoder(entry.id),
        (session) =>
          session.run({
            [learnedTensors.latent]: value,
            ...tellLevel(session, path.level / Math.max(1, entry.levels.length - 1)),
          }),
        watch,
      );
      const wanted = getCut(manifest, tail?.via ?? path.to).tensors;
      const landed = Object.fromEntries(
        wanted.map((expected) => [expected.name, fitting(context, 'decoder', outputs, expected)]),
      );
      return tail === undefined ? landed : tail.run(landed, watch);
    },
    segmentBytes: tail?.numBytes ?? 0,
    async release() {
      planes = undefined;
      await Promise.all([models.release(), tail?.release()]);
    },
  };
}

const isFloat = ({ type, shape }: PlainTensor): boolean => type === 'float32' && elementCount(shape) > 0;

async function openParts(context: CodecContext): Promise<{ tables: CalibratedTables; latent: PlainTensor }> {
  const { entry } = context;
  const tables = await readTables(context, learnedFiles.tables(entry.id));
  if (entry.paths.length !== 1) throw misfit(context, 'it has not exactly one path');
  const [tensor, ...others] = tables.tensors;
  if (others.length > 0 || tensor?.name !== learnedTensors.latent) {
    throw misfit(context, `its tables are not of one tensor called ${learnedTensors.latent}`);
  }
  const shape = [1, tensor.scales.length, tensor.height, tensor.width];
  return { tables, latent: { name: tensor.name, type: 'float32', shape } };
}

// An encoder refuses what is not finite; so no sound payload holds it, and no decoder need bear it.
function decodeLatent(entry: CodecEntry, bytes: Uint8Array, latent: PlainTensor): Tensor {
  const value = decodePlain(entry, bytes, [latent])[latent.name]!;
  if (!(value.data as Float32Array).every(Number.isFinite)) {
    throw corrupt(entry, 'its latent holds NaN or infinity');
  }
  return value;
}

/** The input `level` of a network that is told it, from 0 for the finest to 1. */
export function tellLevel({ inputNames }: RuntimeSession, level: number): NamedTensors {
  if (!inputNames.includes(learnedTensors.level)) return {};
  return { [learnedTensors.level]: createTensor('float32', [1], Float32Array.of(level)) };
}
