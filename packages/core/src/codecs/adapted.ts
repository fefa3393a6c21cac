import * as v from 'valibot';
import { getCut } from '../manifest.js';
import { share } from '../schema.js';
import type { NamedTensors } from '../tensor.js';
import {
  type CodecContext,
  type CodecKind,
  type CodecPath,
  type Decoder,
  type DecodeWatch,
  type EncoderKind,
  getLevel,
} from './codec.js';
import { createCodecModels, fitting, misfit } from './codec-models.js';
import { tellLevel } from './learned.js';
import {
  createPictureDecoder,
  createPictureEncoder,
  type PictureCoder,
  type PictureEncoder,
} from './picture-frame.js';
import { openTunedTail, type TunedTail } from './tuned-tail.js';

/** The files of an adapted codec in a bundle; it has one of them or both. */
export const adaptedFiles = {
  adapter: (id: string): string => `codecs/${id}/adapter.onnx`,
  tuned: (id: string): string => `codecs/${id}/tuned.bin`,
} as const;

// Of a level, besides what pixels have: what the adapter is told, if it asks.
const params = v.object({
  level: v.exactOptional(share),
});

/**
 * `adapted`: the frame as a picture file, coded on the device as {@link createPixelsCodec} does it, with nothing to fetch
 * for it; in the cloud, an adapter network mends what coding did to the picture, or segments of the model that were tuned to
 * such pictures go on with it, or both: the adapter leads to the cut where the tuned segments begin, usually cut 0 itself.
 * Its bytes are those of a picture, and its cost is all in the cloud.
 *
 * @param pictures As for {@link createPixelsCodec}.
 */
export function createAdaptedCodec(pictures: PictureCoder): CodecKind {
  return {
    ...createAdaptedEncoder(pictures),
    createDecoder: (context) => createAdaptedDecoder(context, pictures),
  };
}

/** The device's half of {@link createAdaptedCodec}. */
export function createAdaptedEncoder(pictures: PictureEncoder): EncoderKind {
  return {
    kind: 'adapted',
    version: 1,
    async createEncoder(context) {
      checkEntry(context);
      return createPictureEncoder(context, pictures);
    },
  };
}

async function createAdaptedDecoder(context: CodecContext, pictures: PictureCoder): Promise<Decoder> {
  const { entry } = context;
  checkEntry(context);
  const picture = await createPictureDecoder(context, pictures);
  const tail = hasFile(context, adaptedFiles.tuned(entry.id))
    ? await openTunedTail(context, adaptedFiles.tuned(entry.id))
    : undefined;
  const adapter = hasFile(context, adaptedFiles.adapter(entry.id)) ? createAdapter(context, tail) : undefined;
  if (adapter === undefined && tail?.via !== 0) {
    throw misfit(context, 'its tuned segments do not begin at the picture, and no adapter leads there');
  }
  return {
    maxPayloadBytes: picture.maxPayloadBytes,
    async decode(payload, path, watch) {
      const decoded = await picture.decode(payload, path);
      const adapted = adapter === undefined ? decoded : await adapter.run(decoded, path, watch);
      return tail === undefined ? adapted : tail.run(adapted, watch);
    },
    segmentBytes: tail?.numBytes ?? 0,
    async release() {
      await Promise.all([adapter?.release(), tail?.release()]);
    },
  };
}

interface Adapter {
  run(picture: NamedTensors, path: CodecPath, watch?: DecodeWatch): Promise<NamedTensors>;
  release(): Promise<void>;
}

function createAdapter(context: CodecContext, tail: TunedTail | undefined): Adapter {
  const { entry, manifest } = context;
  const via = tail?.via ?? entry.paths[0]!.to;
  const wanted = getCut(manifest, via).tensors;
  const models = createCodecModels(context);
  return {
    async run(picture, path, watch) {
      const level = levelOf(context, path);
      const given = await models.use(
        adaptedFiles.adapter(entry.id),
        async (session) => {
          const { outputs } = await session.run({ ...picture, ...tellLevel(session, level) });
          // A network cannot give what it takes: there its one output may have any name.
          const [only] = Object.values(outputs);
          return via === 0 && only !== undefined ? { [wanted[0]!.name]: only } : { ...picture, ...outputs };
        },
        watch,
      );
      return Object.fromEntries(
        wanted.map((expected) => [expected.name, fitting(context, 'adapter', given, expected)]),
      );
    },
    release: models.release,
  };
}

function levelOf({ entry }: CodecContext, path: CodecPath): number {
  const { level } = v.parse(params, getLevel(entry, path).params);
  return level ?? path.level / Math.max(1, entry.levels.length - 1);
}

function checkEntry(context: CodecContext): void {
  const { entry } = context;
  if (entry.paths.length !== 1) throw misfit(context, 'it has not exactly one path');
  if (!entry.levels.every((level) => v.is(params, level.params))) {
    throw misfit(context, 'a level is told as no number from 0 to 1');
  }
  const files = [adaptedFiles.adapter(entry.id), adaptedFiles.tuned(entry.id)];
  if (!files.some((path) => hasFile(context, path))) {
    throw misfit(context, 'it has neither an adapter nor tuned segments');
  }
}

const hasFile = ({ entry }: CodecContext, path: string): boolean =>
  entry.files.some((file) => file.path === path);
