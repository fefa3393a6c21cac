import { cpus } from 'node:os';
import {
  builtinCodecs,
  type Clock,
  type CodecEntry,
  type CodecKind,
  createPictureCodecs,
  IsthmusError,
  isIsthmusError,
  type Manifest,
  type Runtime,
  toIsthmusError,
} from '@isthmus/core';
import { createSharpCoder } from '@isthmus/runtime/pictures';
import { compareMethods } from './bd-rates.js';
import { type EarlierFile, identifyBundle, takeOver } from './earlier.js';
import type { FrameSet } from './frame-set.js';
import { readBoxes, readLabels } from './ground-truth.js';
import { publishedFor } from './literature.js';
import { type BundleFiles, batchOf, loadSpan, measurePoints } from './measure.js';
import { createFrameReader, type Frame, listPictures, spread } from './pictures.js';
import type { RdPoint, RdResult } from './result.js';
import {
  type Answer,
  createClassScorer,
  createDetectionScorer,
  labelClasses,
  refuseTask,
  type Scorer,
} from './score.js';

export interface RdOptions {
  bundle: BundleFiles;
  runtime: Runtime;
  images: string;
  /** A file of labels, for models that classify. */
  labels?: string | undefined;
  /** A file of boxes, for models that detect. */
  boxes?: string | undefined;
  /** @default all pictures */
  limit?: number | undefined;
  /** Ids of codecs. @default all that this version knows and that earlier results lack */
  methods?: readonly string[] | undefined;
  /** Of earlier runs over the same pictures, whose points are taken over where they are not measured again. */
  earlier?: readonly EarlierFile[] | undefined;
  /** For people, about what takes long or was left out. */
  note(text: string): void;
  /** `done` of `total` pictures times points. */
  onProgress(done: number, total: number): void;
  clock: Clock;
  signal: AbortSignal;
}

/**
 * Measures rate and accuracy of every codec of a bundle, at every path and level.
 *
 * @throws IsthmusError `usage/invalid` for pictures, labels or methods that are not there or do not fit; the codecs'
 * and the runtime's
 */
export async function runRd(options: RdOptions): Promise<{ result: RdResult; frameSet: FrameSet }> {
  const { bundle, runtime, note, clock, signal } = options;
  const { manifest } = bundle;
  const { preprocess } = manifest;
  if (preprocess === null) {
    throw new IsthmusError(
      'usage/invalid',
      `${manifest.model} does not take pictures. Say how when splitting: isthmus split --picture …`,
    );
  }
  const kinds: readonly CodecKind[] = [...builtinCodecs, ...createPictureCodecs(createSharpCoder())];
  const methods = chooseMethods(options, kinds);
  const { scorer, names } = await chooseTruth(options);
  const readFrame = createFrameReader(options.images, preprocess, manifest.cuts[0]!.tensors[0]!.name);
  const { readable, skipped, answers } = await answerUncompressed(options, names, readFrame, scorer);
  for (const { name, error } of skipped) note(`${name} is left out: ${error.message}`);
  const identity = await identifyBundle(manifest, readable);
  const ids = methods.map(({ id }) => id);
  // Before an hour of measuring, not after it.
  const earlier = takeOver(options.earlier ?? [], { metric: scorer.metric, identity, methods: ids });
  const measured = await measurePoints({
    bundle,
    runtime,
    codecs: kinds,
    methods,
    scorer,
    names: readable,
    readFrame,
    reference: answers,
    clock,
    signal,
    onProgress: options.onProgress,
  });
  const { top1, ap50 } = scorer.score(answers, answers, readable);
  const points = inOrder(manifest, [...earlier.points, ...measured.map(({ point }) => point)]);
  const run = {
    methods: ids,
    machine: `${cpus()[0]?.model ?? 'unknown processor'}, ${cpus().length} cores, Node ${process.version}, ${runtime.description}`,
    date: new Date().toISOString().slice(0, 10),
  };
  const result: RdResult = {
    model: manifest.model,
    images: readable.length,
    skipped: skipped.map(({ name }) => name),
    metric: scorer.metric,
    uncompressed: { top1, ...(ap50 !== undefined && { ap50 }) },
    points,
    bdRate: compareMethods(points, scorer.metric),
    published: manifest.task.kind === 'classification' ? publishedFor(labelClasses(manifest).numClasses) : [],
    identity: {
      ...identity,
      codecs: { ...earlier.codecs, ...Object.fromEntries(ids.map((id) => [id, identity.codecs[id] ?? ''])) },
    },
    runs: methods.length === 0 ? earlier.runs : [...earlier.runs, run],
  };
  const trials = measured.map(({ frames }) => frames);
  return { result, frameSet: { model: manifest.model, names: readable, trials } };
}

// As the bundle lists its codecs, whenever they were measured.
function inOrder({ codecs }: Manifest, points: readonly RdPoint[]): RdPoint[] {
  const order = new Map(codecs.map(({ id }, index) => [id, index]));
  const place = ({ method }: RdPoint): number => order.get(method) ?? codecs.length;
  return [...points].sort(
    (a, b) => a.from - b.from || place(a) - place(b) || a.to - b.to || a.level - b.level,
  );
}

function chooseMethods(
  { bundle: { manifest }, methods, earlier = [], note }: RdOptions,
  kinds: readonly CodecKind[],
): CodecEntry[] {
  const isKnown = ({ kind, version }: CodecEntry): boolean =>
    kinds.some((known) => known.kind === kind && known.version === version);
  const known = manifest.codecs.filter(isKnown);
  for (const entry of manifest.codecs.filter((entry) => !isKnown(entry))) {
    note(`Codec ${entry.id} is left out: kind ${entry.kind} version ${entry.version} is not known here.`);
  }
  const measured = new Set(earlier.flatMap(({ result }) => Object.keys(result.identity.codecs)));
  if (methods === undefined) return known.filter(({ id }) => !measured.has(id));
  return methods.map((id) => {
    const entry = known.find((codec) => codec.id === id);
    if (entry === undefined) {
      const ids = known.map((codec) => codec.id).join(', ');
      throw new IsthmusError('usage/invalid', `${manifest.model} has no method "${id}"; it has ${ids}.`);
    }
    return entry;
  });
}

async function chooseTruth(options: RdOptions): Promise<{ scorer: Scorer; names: string[] }> {
  const { bundle, images, labels: labelsPath, boxes: boxesPath, limit = Infinity, note } = options;
  const { model, task } = bundle.manifest;
  if (task.kind === 'tensor') return refuseTask(model);
  const [wanted, unwanted] = task.kind === 'detection' ? ['boxes', labelsPath] : ['labels', boxesPath];
  if (unwanted !== undefined) {
    throw new IsthmusError('usage/invalid', `${model} is for ${task.kind}: its truth goes in --${wanted}.`);
  }
  const pictures = await listPictures(images);
  const withTruth = (truth: ReadonlyMap<string, unknown> | undefined, path: string): string[] => {
    if (truth === undefined) return spread(pictures, limit);
    const names = pictures.filter((name) => truth.has(name));
    if (names.length === 0) {
      const example = [...truth.keys()][0];
      throw new IsthmusError(
        'usage/invalid',
        `No file that ${path} names is in ${images}: it names ${example}, the folder has ${pictures[0]}.`,
      );
    }
    if (names.length < pictures.length)
      note(`${pictures.length - names.length} pictures are not in ${path}.`);
    return spread(names, limit);
  };
  if (task.kind === 'detection') {
    const boxes = boxesPath === undefined ? undefined : await readBoxes(boxesPath, task.labels);
    return { scorer: createDetectionScorer(task, boxes), names: withTruth(boxes, boxesPath ?? '') };
  }
  const { numClasses, offset } = labelClasses(bundle.manifest);
  const labels = labelsPath === undefined ? undefined : await readLabels(labelsPath, numClasses);
  return { scorer: createClassScorer(task, labels, offset), names: withTruth(labels, labelsPath ?? '') };
}

/** What the model says when nothing is lost on the way, and which pictures can be read at all. */
async function answerUncompressed(
  { bundle, runtime, signal }: RdOptions,
  names: readonly string[],
  readFrame: (name: string) => Promise<Frame>,
  scorer: Scorer,
): Promise<{ readable: string[]; skipped: { name: string; error: IsthmusError }[]; answers: Answer[] }> {
  const { manifest } = bundle;
  const whole = await loadSpan(bundle, 0, manifest.cuts.length - 1, runtime);
  const readable: string[] = [];
  const skipped: { name: string; error: IsthmusError }[] = [];
  const answers: Answer[] = [];
  try {
    for (let start = 0; start < names.length; start += batchOf(manifest)) {
      signal.throwIfAborted();
      const frames: Frame[] = [];
      for (const name of names.slice(start, start + batchOf(manifest))) {
        try {
          frames.push(await readFrame(name));
          readable.push(name);
        } catch (cause) {
          const error = toIsthmusError(cause, 'image/decode-failed', `${name} cannot be read`);
          if (!isIsthmusError(error, 'image/decode-failed')) throw error;
          skipped.push({ name, error });
        }
      }
      if (frames.length === 0) continue;
      const outputs = await whole.run(frames.map(({ tensors }) => tensors));
      answers.push(...outputs.map((output, i) => scorer.read(output, frames[i]!.geometry)));
    }
  } finally {
    await whole.release();
  }
  if (readable.length === 0) throw skipped[0]!.error;
  return { readable, skipped, answers };
}
