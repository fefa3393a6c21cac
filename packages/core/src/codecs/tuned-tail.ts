import { getCut, manifestLimits } from '../manifest.js';
import { composeSpan, describeSpan, type Span } from '../span.js';
import type { NamedTensors } from '../tensor.js';
import type { CodecContext, DecodeWatch } from './codec.js';
import { createCodecModels, findFile, misfit } from './codec-models.js';
import { checkTensor } from './raw.js';
import { type PackedSegments, parseTunedSegments } from './tuned-segments.js';

/** What leads a codec on from where its own network lands: segments of the bundle with the codec's weights. */
export interface TunedTail {
  /** The cut whose tensors it takes. */
  readonly via: number;
  /** Bytes of the segments' files. */
  readonly numBytes: number;
  /** The tensors of the cut where the codec lands. @throws IsthmusError the runtime's, and what `watch` throws */
  run(tensors: NamedTensors, watch?: DecodeWatch): Promise<NamedTensors>;
  /** Gives memory back; what is run later loads it again. */
  release(): Promise<void>;
}

/**
 * Checks a codec's tuned segments. They are put together and loaded when first run.
 *
 * @param file Path of the codec's `tuned.bin`.
 * @throws IsthmusError `bundle/invalid`
 */
export async function openTunedTail(context: CodecContext, file: string): Promise<TunedTail> {
  const { manifest, entry, readFile } = context;
  const [path, ...others] = entry.paths;
  if (path === undefined || others.length > 0) throw misfit(context, 'it has not exactly one path');
  const ref = findFile(context, file);
  if (ref.numBytes > manifestLimits.tunedBytes) {
    throw misfit(context, `its tuned segments take more than ${manifestLimits.tunedBytes} bytes`);
  }
  // Megabytes, of which only the beginning is of use before the first payload.
  const read = async (): Promise<PackedSegments> => parseTunedSegments(await readFile(ref), manifest, path);
  const { via } = await read();
  const wanted = getCut(manifest, path.to).tensors;
  const span = computedSpan(describeSpan(manifest, via, path.to));
  const models = createCodecModels(context, async () => {
    const tuned = await read();
    const bodies = await Promise.all(span.files.map(async (one) => tuned.apply(one, await readFile(one))));
    return composeSpan(manifest, span, bodies);
  });
  return {
    via,
    numBytes: span.files.reduce((sum, { numBytes }) => sum + numBytes, 0),
    async run(tensors, watch) {
      let reached = tensors;
      if (span.outputs.length > 0) {
        const feeds = Object.fromEntries(span.inputs.map(({ name }) => [name, tensors[name]!]));
        const { outputs } = await models.use(file, (session) => session.run(feeds), watch);
        reached = { ...tensors, ...outputs };
      }
      return Object.fromEntries(
        wanted.map((expected) => [expected.name, checkTensor(reached[expected.name], expected)]),
      );
    },
    release: models.release,
  };
}

// What is in both cuts passes by: it is no output to compute.
function computedSpan(span: Span): Span {
  const given = new Set(span.inputs.map(({ name }) => name));
  return { ...span, outputs: span.outputs.filter(({ name }) => !given.has(name)) };
}
