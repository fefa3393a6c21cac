import * as v from 'valibot';
import { IsthmusError } from './errors.js';
import {
  integerFrom,
  listOf,
  measure,
  number,
  parseAs,
  type Schema,
  share,
  textLike,
  textUpTo,
} from './schema.js';
import { type TensorType, tensorBytes, tensorTypes } from './tensor.js';

/** A file of the bundle: its path relative to manifest.json, its size and its hash. */
export interface FileRef {
  path: string;
  numBytes: number;
  /** Lower-case hexadecimal. */
  sha256: string;
}

/** One tensor of a cut. `shape` is that of a single frame (batch size 1). */
export interface CutTensor {
  name: string;
  type: TensorType;
  shape: number[];
  /** Whether the first axis is the batch; false for what does not depend on it (a shape, a constant). */
  batched: boolean;
  /** Base64 of the ONNX fragment that declares this tensor as a graph input. */
  asInput: string;
  /** Base64 of the ONNX fragment that declares this tensor as a graph output. */
  asOutput: string;
}

/** A set of tensors through which everything flows. Cut 0 is the frame, the last cut the model's outputs. */
export interface Cut {
  index: number;
  tensors: CutTensor[];
  /** Bytes of all tensors, uncompressed, for one frame. */
  numBytes: number;
}

/** What a segment costs, for one frame. Measured where it says so, counted from the graph elsewhere. */
export interface SegmentProfile {
  /** Floating-point operations; a multiply-add counts as two. */
  flops: number;
  parameters: number;
  weightBytes: number;
  /** Bytes of all tensors the segment produces. */
  activationBytes: number;
  /** Largest sum of tensors alive at once, weights not included. */
  peakActivationBytes: number;
  /** Median milliseconds on the machine that split the model; see {@link Manifest.profiledOn}. */
  durationMs: number;
}

/** The subgraph between cut `index` and cut `index + 1`. */
export interface Segment {
  index: number;
  numNodes: number;
  file: FileRef;
  /** Indices into {@link Manifest.shared} of what this segment uses together with others. */
  shared: number[];
  profile: SegmentProfile;
}

/**
 * How a picture becomes the tensor of cut 0: resized to `width` × `height`, channels in `colorOrder`,
 * `(pixel − mean) / std` per channel of that order with pixels in 0…255, laid out NCHW float32.
 */
export interface Preprocess {
  width: number;
  height: number;
  colorOrder: 'rgb' | 'bgr';
  /** `cover` crops the centre, `contain` pads with grey, `fill` stretches. */
  fit: 'cover' | 'contain' | 'fill';
  mean: [number, number, number];
  std: [number, number, number];
}

/** What the model's output means. */
export type Task =
  | {
      kind: 'classification';
      output: string;
      /** `none` when the model ends in a softmax, `softmax` when it ends in logits. */
      activation: 'none' | 'softmax';
      labels: string[];
    }
  | {
      kind: 'detection';
      output: string;
      /** Grid decoding of YOLOv2 (arXiv 1612.08242): anchors as multiples of a grid cell. */
      decoder: 'yolo-v2';
      anchors: [number, number][];
      scoreThreshold: number;
      iouThreshold: number;
      labels: string[];
    }
  | { kind: 'tensor' };

/** One rate of a codec. What `params` holds is the codec's own affair. */
export interface CodecLevel {
  name: string;
  params: Record<string, unknown>;
}

/** What one level of a codec took and kept on pictures that nothing was fitted to. */
export interface MeasuredLevel {
  /** Of the payload, the mean. */
  numBytes: number;
  /** Standard deviation of the payload's bytes from frame to frame. */
  numBytesDeviation: number;
  /** Expected share of frames answered as the uncompressed model does, 0…1; for tensors 1 − relative error. */
  quality: number;
  /** Median milliseconds on the machine that split the model. */
  encodeMs: number;
  decodeMs: number;
}

/** Carries data from cut `from` on the device to cut `to ≥ from` in the cloud. */
export interface CodecEntry {
  id: string;
  kind: string;
  version: number;
  paths: { from: number; to: number }[];
  levels: CodecLevel[];
  /** By path and level; absent from bundles that were split without pictures. */
  measured?: MeasuredLevel[][];
  /** Hash of the integer tables both ends must share; null for codecs without. */
  tablesSha256: string | null;
  files: FileRef[];
}

/** Where the model came from. */
export interface Provenance {
  /** A package name and version, a URL or a file name. */
  source: string;
  licence: string;
  /** Hash of the ONNX file that was split. */
  sha256: string;
}

/** The contract between all parts: what `isthmus split` writes as manifest.json. */
export interface Manifest {
  format: 'isthmus-bundle';
  version: 1;
  model: string;
  provenance: Provenance;
  /** Whether spans accept any number of frames along the first axis of batched tensors. */
  dynamicBatch: boolean;
  /** Null when the model does not take a picture. */
  preprocess: Preprocess | null;
  task: Task;
  /** Base64 of the ONNX fragment with IR version, operator sets and graph name, that starts every span. */
  header: string;
  cuts: Cut[];
  segments: Segment[];
  /** Fragments with weights or constants that several segments use, each stored once. */
  shared: FileRef[];
  codecs: CodecEntry[];
  /** Machine, threads and runtime of the profile, and its date. */
  profiledOn: string;
}

/** The most tensors, cuts, codecs and so on that a manifest may hold: generous, but finite. */
export const manifestLimits = {
  numBytes: 16_777_216,
  cuts: 64,
  tensorsPerCut: 32,
  codecs: 256,
  levels: 64,
  rank: 8,
  /** A codec's file of tuned segments. */
  tunedBytes: 16_777_216,
} as const;

const count = integerFrom(0);
const sha256 = textLike(/^[0-9a-f]{64}$/);
// A path that cannot leave the bundle's folder, on any system.
const filePath = v.pipe(
  v.string(),
  v.maxLength(200),
  v.regex(/^[A-Za-z0-9_-][A-Za-z0-9_.-]*(\/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$/),
);
const base64 = v.pipe(v.string(), v.maxLength(64 * 1024), v.base64());
const fileRef: Schema<FileRef> = v.object({ path: filePath, numBytes: count, sha256 });
const triple = v.strictTuple([number, number, number]);
const labels = listOf(textUpTo(200), 0, 100_000);

const cutTensor: Schema<CutTensor> = v.object({
  name: v.pipe(v.string(), v.minLength(1), v.maxLength(1000)),
  type: v.picklist(tensorTypes),
  shape: listOf(integerFrom(0, 2 ** 31), 0, manifestLimits.rank),
  batched: v.boolean(),
  asInput: base64,
  asOutput: base64,
});

const measuredLevel: Schema<MeasuredLevel> = v.object({
  numBytes: measure,
  numBytesDeviation: measure,
  quality: share,
  encodeMs: measure,
  decodeMs: measure,
});

const task: Schema<Task> = v.variant('kind', [
  v.object({
    kind: v.literal('classification'),
    output: v.string(),
    activation: v.picklist(['none', 'softmax']),
    labels,
  }),
  v.object({
    kind: v.literal('detection'),
    output: v.string(),
    decoder: v.literal('yolo-v2'),
    anchors: listOf(v.strictTuple([number, number]), 0, 64),
    scoreThreshold: number,
    iouThreshold: number,
    labels,
  }),
  v.object({ kind: v.literal('tensor') }),
]);

const manifestSchema: Schema<Manifest> = v.object({
  format: v.literal('isthmus-bundle'),
  version: v.literal(1),
  model: textLike(/^[a-z0-9][a-z0-9._-]{0,99}$/),
  provenance: v.object({ source: v.string(), licence: v.string(), sha256 }),
  dynamicBatch: v.boolean(),
  preprocess: v.nullable(
    v.object({
      width: integerFrom(1, 16384),
      height: integerFrom(1, 16384),
      colorOrder: v.picklist(['rgb', 'bgr']),
      fit: v.picklist(['cover', 'contain', 'fill']),
      mean: triple,
      std: triple,
    }),
  ),
  task,
  header: base64,
  cuts: listOf(
    v.object({
      index: count,
      tensors: listOf(cutTensor, 1, manifestLimits.tensorsPerCut),
      numBytes: count,
    }),
    2,
    manifestLimits.cuts,
  ),
  segments: v.array(
    v.object({
      index: count,
      numNodes: count,
      file: fileRef,
      shared: v.array(count),
      profile: v.object({
        flops: measure,
        parameters: count,
        weightBytes: count,
        activationBytes: count,
        peakActivationBytes: count,
        durationMs: measure,
      }),
    }),
  ),
  shared: listOf(fileRef, 0, 10_000),
  codecs: listOf(
    v.object({
      id: textLike(/^[a-z0-9][a-z0-9._-]{0,99}$/),
      kind: textUpTo(100),
      version: count,
      paths: listOf(v.object({ from: count, to: count }), 1, 10_000),
      levels: listOf(
        v.object({ name: textUpTo(100), params: v.record(v.string(), v.unknown()) }),
        1,
        manifestLimits.levels,
      ),
      measured: v.exactOptional(v.array(v.array(measuredLevel))),
      tablesSha256: v.nullable(sha256),
      files: v.array(fileRef),
    }),
    0,
    manifestLimits.codecs,
  ),
  profiledOn: v.string(),
});

/**
 * A checked manifest from its JSON text.
 *
 * @throws IsthmusError `bundle/invalid` with what is wrong and where.
 */
export function parseManifest(text: string): Manifest {
  if (text.length > manifestLimits.numBytes) {
    throw new IsthmusError('bundle/invalid', `The manifest is larger than ${manifestLimits.numBytes} bytes.`);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new IsthmusError('bundle/invalid', 'The manifest is not JSON. Was the bundle written whole?', {
      cause,
    });
  }
  const parsed = parseAs(manifestSchema, json);
  if (!parsed.ok) {
    throw new IsthmusError('bundle/invalid', `The manifest does not fit: ${parsed.problem}`, {
      cause: parsed.cause,
    });
  }
  checkConsistency(parsed.value);
  return parsed.value;
}

/** The text of a manifest, the same for equal manifests; its SHA-256 identifies the bundle. */
export function formatManifest(manifest: Manifest): string {
  return `${JSON.stringify(manifest, null, 1)}\n`;
}

/**
 * The cut of that index.
 *
 * @throws IsthmusError `bundle/no-such-cut`
 */
export function getCut(manifest: Manifest, index: number): Cut {
  const cut = manifest.cuts[index];
  if (cut === undefined) {
    throw new IsthmusError(
      'bundle/no-such-cut',
      `${manifest.model} has cuts 0 to ${manifest.cuts.length - 1}; there is no cut ${index}.`,
      { details: { cut: index, lastCut: manifest.cuts.length - 1 } },
    );
  }
  return cut;
}

// What the schema's types cannot say: counts that must agree, references that must point somewhere.
function checkConsistency(manifest: Manifest): void {
  const problems: string[] = [];
  if (manifest.segments.length !== manifest.cuts.length - 1) {
    problems.push(`${manifest.cuts.length} cuts need ${manifest.cuts.length - 1} segments`);
  }
  manifest.cuts.forEach((cut, index) => {
    if (cut.index !== index) problems.push(`cut ${index} is numbered ${cut.index}`);
    const numBytes = cut.tensors.reduce((sum, tensor) => sum + tensorBytes(tensor.type, tensor.shape), 0);
    if (numBytes !== cut.numBytes) problems.push(`cut ${index} holds ${numBytes} bytes, not ${cut.numBytes}`);
    if (new Set(cut.tensors.map((tensor) => tensor.name)).size !== cut.tensors.length) {
      problems.push(`cut ${index} names a tensor twice`);
    }
  });
  manifest.segments.forEach((segment, index) => {
    if (segment.index !== index) problems.push(`segment ${index} is numbered ${segment.index}`);
    if (segment.shared.some((shared) => shared >= manifest.shared.length)) {
      problems.push(`segment ${index} refers to a shared fragment that is not there`);
    }
  });
  for (const codec of manifest.codecs) {
    for (const { from, to } of codec.paths) {
      if (to < from || to >= manifest.cuts.length)
        problems.push(`codec ${codec.id} has no path ${from}→${to}`);
    }
    const { measured, paths, levels } = codec;
    const isWhole = measured?.length === paths.length && measured.every((of) => of.length === levels.length);
    if (measured !== undefined && !isWhole) problems.push(`codec ${codec.id} is not measured at every level`);
  }
  if (new Set(manifest.codecs.map((codec) => codec.id)).size !== manifest.codecs.length) {
    problems.push('two codecs have the same id');
  }
  if (problems.length > 0) {
    throw new IsthmusError('bundle/invalid', `The manifest contradicts itself: ${problems.join('; ')}.`);
  }
}
