import {
  type CalibratedTables,
  type CodecEntry,
  type CodecLevel,
  calibratedCodec,
  calibratedFiles,
  elementCount,
  type FileRef,
  formatCalibratedTables,
  IsthmusError,
  type Manifest,
  type NamedTensors,
  type Runtime,
  type RuntimeSession,
  sha256Hex,
} from '@isthmus/core';
import { type Bundle, bundleSpan } from '../bundle.js';
import {
  type CalibrationTuning,
  calibrateCut,
  defaultTuning,
  type FittedCut,
  spread,
} from './calibrate-cut.js';
import { createComparison, type Fidelity, meanFidelity } from './fidelity.js';
import { createOutputMetric, type OutputMetric } from './sensitivity.js';
import type { TransformModels } from './transform-models.js';

const isHeldOut = (at: number): boolean => at % 4 === 3;

/** Of the frames given to {@link calibrateBundle}, those it fits nothing to. */
export function heldOutFrames<Frame>(frames: readonly Frame[]): Frame[] {
  return frames.filter((_, at) => isHeldOut(at));
}

/** What calibrating is busy with. */
export interface CalibrationProgress {
  cut: number;
  numCuts: number;
}

export interface CalibrateOptions {
  runtime: Runtime;
  /** Tensors of cut 0 of at least {@link minFrames} frames as the model will meet them. A quarter is held out to measure on. */
  frames: readonly NamedTensors[];
  /** @default every cut with float32 tensors but the last */
  cuts?: readonly number[];
  onProgress?: (progress: CalibrationProgress) => void;
  /** @default as in `defaultTuning` */
  tuning?: Partial<CalibrationTuning>;
}

/** A level as it was measured on the frames held out. */
export interface LevelMeasure extends Fidelity {
  /** Bits of the payload per element of the cut's float32 tensors. */
  bitsPerElement: number;
  /** Mean bytes of the payload. */
  numBytes: number;
}

const minFrames = 4;
/** Cuts being fitted together: one's arithmetic here fills the time in which the other's models run elsewhere. */
const numAtOnce = 2;
const numLevels = 10;
/** Steps tried to find the finest and the roughest level, as 8·log2: from 1/64 of the components' size to 128 times. */
const triedSteps: readonly number[] = Array.from({ length: 14 }, (_, i) => -48 + 8 * i);
/** Frames on which they are tried. */
const numTried = 5;
/** Frames on which levels are measured; more say little more and take long. */
const maxMeasured = 20;
// Shares of the divergence of a payload that says nothing.
const faithfulShare = 0.0002;
const uselessShare = 0.45;
/** Measures on a few frames are noisy: a level this little above the hull stays. */
const hullSlack = 1.1;

/**
 * Fits a `calibrated` codec for each cut and adds it to a bundle, with levels from near-lossless to rough.
 *
 * @throws IsthmusError `usage/invalid` for too few frames; `bundle/no-such-cut`; the runtime's.
 *
 * @example
 * ```ts
 * const calibrated = await calibrateBundle(bundle, { runtime, frames });
 * calibrated.manifest.codecs.map(({ id }) => id); // raw, quantized, calibrated-0, calibrated-1, …
 * ```
 */
export async function calibrateBundle(bundle: Bundle, options: CalibrateOptions): Promise<Bundle> {
  const { runtime, frames, onProgress } = options;
  if (frames.length < minFrames) {
    throw new IsthmusError(
      'usage/invalid',
      `Calibrating needs at least ${minFrames} frames, better a hundred; there are ${frames.length}.`,
    );
  }
  const { manifest } = bundle;
  const lastCut = manifest.cuts.length - 1;
  const cuts = (options.cuts ?? manifest.cuts.slice(0, -1).map(({ index }) => index)).filter((index) =>
    manifest.cuts[index]?.tensors.some(({ type, shape }) => type === 'float32' && elementCount(shape) > 0),
  );
  const files = new Map(bundle.files);
  const codecs = manifest.codecs.filter(({ kind }) => kind !== calibratedCodec.kind);
  const comparison = createComparison(manifest);
  let atCut: NamedTensors[] = [...frames];
  let wholeOutputs: NamedTensors[] | undefined;
  let fitting: Promise<Entry[]>[] = [];
  const take = async (): Promise<void> => {
    for (const added of fitting) {
      for (const { entry, files: own } of await added) {
        for (const [path, bytes] of own) files.set(path, bytes);
        codecs.push(entry);
      }
    }
    fitting = [];
  };
  for (let index = 0; index < lastCut; index++) {
    if (index > 0) atCut = await runAll(runtime, bundleSpan(bundle, index - 1, index), atCut);
    if (!cuts.includes(index)) continue;
    onProgress?.({ cut: index, numCuts: lastCut });
    const tail = await runtime.load(bundleSpan(bundle, index, lastCut));
    const outputs = wholeOutputs ?? (await runSession(tail, atCut));
    wholeOutputs = outputs;
    const added = fitCodecs({
      manifest,
      index,
      runtime,
      tail,
      frames: atCut,
      outputs,
      comparison,
      metric: createOutputMetric(manifest),
      tuning: { ...defaultTuning, ...options.tuning },
    }).finally(() => tail.release());
    // Whoever awaits it later is told; until then nobody must think it went unheard.
    added.catch(() => {});
    fitting.push(added);
    if (fitting.length === numAtOnce) await take();
  }
  await take();
  return { manifest: { ...manifest, codecs }, files };
}

interface AddOptions {
  manifest: Manifest;
  index: number;
  runtime: Runtime;
  tail: RuntimeSession;
  frames: readonly NamedTensors[];
  outputs: readonly NamedTensors[];
  comparison: (expected: NamedTensors, actual: NamedTensors) => Fidelity;
  metric: OutputMetric;
  tuning: CalibrationTuning;
}

type Entry = { entry: CodecEntry; files: Map<string, Uint8Array> };
type HeldOut = readonly { frame: NamedTensors; outputs: NamedTensors }[];

/** Fits both codecs of a cut, and keeps of their levels those that are of use when one may choose among all. */
async function fitCodecs(options: AddOptions): Promise<Entry[]> {
  const { manifest, index, runtime, tail, metric, frames, outputs, tuning } = options;
  const heldOut = frames.flatMap((frame, at) => (isHeldOut(at) ? [{ frame, outputs: outputs[at]! }] : []));
  const { principal, channels } = await calibrateCut({
    cut: manifest.cuts[index]!,
    runtime,
    tail,
    metric,
    frames: frames.filter((_, at) => !isHeldOut(at)),
    tuning,
  });
  const candidates: Candidate[] = [];
  for (const [id, fitted] of [
    [`calibrated-${index}`, principal],
    [`calibrated-${index}-channels`, channels],
  ] as const) {
    const measure = async (tables: CalibratedTables, on: HeldOut): Promise<LevelMeasure[]> => {
      const levels = tables.levels.map((_, level) => ({ name: `level-${level}`, params: {} }));
      return measureLevels(options, await buildEntry(index, id, fitted.models, tables, levels), on);
    };
    const rough = await measure(fitted.fitTables(triedSteps, false), spread(heldOut, numTried));
    const tables = fitted.fitTables(chooseSteps(rough), true);
    const measures = await measure(tables, spread(heldOut, maxMeasured));
    measures.forEach((one, level) => {
      candidates.push({ id, fitted, tables, level, measure: one });
    });
  }
  const kept = onHull(candidates.map(({ measure }) => measure)).map((at) => candidates[at]!);
  const entries: Entry[] = [];
  for (const id of new Set(kept.map((candidate) => candidate.id))) {
    const own = kept.filter((candidate) => candidate.id === id);
    const { fitted, tables } = own[0]!;
    entries.push(
      await buildEntry(
        index,
        id,
        fitted.models,
        { ...tables, levels: own.map(({ level }) => tables.levels[level]!) },
        own.map(({ measure }, place) => ({ name: `level-${place}`, params: { ...measure } })),
      ),
    );
  }
  return entries;
}

/** A level of one of a cut's codecs. */
interface Candidate {
  id: string;
  fitted: FittedCut;
  tables: CalibratedTables;
  level: number;
  measure: LevelMeasure;
}

/** Steps from the roughest that still changes next to nothing to the finest that leaves next to nothing. */
function chooseSteps(rough: readonly LevelMeasure[]): number[] {
  const most = largestDivergence(rough);
  const lastFaithful = rough.findLastIndex(({ divergence }) => divergence <= faithfulShare * most);
  const firstUseless = rough.findIndex(({ divergence }) => divergence > uselessShare * most);
  const finest = triedSteps[Math.max(0, lastFaithful)]!;
  const roughest = Math.max(
    finest + numLevels,
    triedSteps[firstUseless < 0 ? triedSteps.length - 1 : firstUseless]!,
  );
  return Array.from({ length: numLevels }, (_, i) =>
    Math.round(finest + ((roughest - finest) * i) / (numLevels - 1)),
  );
}

const largestDivergence = (measures: readonly LevelMeasure[]): number =>
  measures.reduce((most, { divergence }) => Math.max(most, divergence), 0);

/** The levels that are of use: those on the convex hull of bytes and divergence, from the most bytes. */
function onHull(measures: readonly LevelMeasure[]): number[] {
  const hull: number[] = [];
  const slack = faithfulShare * largestDivergence(measures);
  const order = [...measures.keys()].sort((a, b) => measures[b]!.numBytes - measures[a]!.numBytes);
  for (const level of order) {
    const next = measures[level]!;
    // More bytes for no less divergence are of no use.
    while (hull.length > 0 && measures[hull.at(-1)!]!.divergence >= next.divergence - slack / 4) hull.pop();
    while (hull.length >= 2) {
      const before = measures[hull.at(-2)!]!;
      const last = measures[hull.at(-1)!]!;
      const share = (before.numBytes - last.numBytes) / (before.numBytes - next.numBytes || 1);
      const between = before.divergence + share * (next.divergence - before.divergence);
      if (last.divergence <= between * hullSlack + slack) break;
      hull.pop();
    }
    hull.push(level);
  }
  return hull;
}

/** Codes the frames as device and receiver will, at every level. */
async function measureLevels(
  { manifest, index, runtime, tail, comparison }: AddOptions,
  { entry, files }: Entry,
  heldOut: HeldOut,
): Promise<LevelMeasure[]> {
  const context = { manifest, entry, runtime, readFile: async (file: FileRef) => files.get(file.path)! };
  const encoder = await calibratedCodec.createEncoder(context);
  const decoder = await calibratedCodec.createDecoder(context);
  const numElements = manifest.cuts[index]!.tensors.filter(({ type }) => type === 'float32').reduce(
    (sum, { shape }) => sum + elementCount(shape),
    0,
  );
  const measures: LevelMeasure[] = [];
  for (const level of entry.levels.keys()) {
    const path = { from: index, to: index, level };
    const fidelities: Fidelity[] = [];
    let numBytes = 0;
    for (const { frame, outputs } of heldOut) {
      const payload = await encoder.encode(frame, path);
      numBytes += payload.byteLength / heldOut.length;
      const result = await tail.run(await decoder.decode(payload, path));
      fidelities.push(comparison(outputs, result.outputs));
    }
    measures.push({
      ...meanFidelity(fidelities),
      numBytes: Math.round(numBytes),
      bitsPerElement: (8 * numBytes) / numElements,
    });
  }
  return measures;
}

async function buildEntry(
  cut: number,
  id: string,
  models: readonly TransformModels[],
  tables: CalibratedTables,
  levels: CodecLevel[],
): Promise<Entry> {
  const files = new Map<string, Uint8Array>();
  files.set(calibratedFiles.tables(id), new TextEncoder().encode(formatCalibratedTables(tables)));
  models.forEach(({ encoder, decoder }, index) => {
    files.set(calibratedFiles.encoder(id, index), encoder);
    files.set(calibratedFiles.decoder(id, index), decoder);
  });
  const refs: FileRef[] = [];
  for (const [path, bytes] of files) {
    refs.push({ path, numBytes: bytes.byteLength, sha256: await sha256Hex(bytes) });
  }
  const { kind, version } = calibratedCodec;
  const entry: CodecEntry = {
    id,
    kind,
    version,
    paths: [{ from: cut, to: cut }],
    levels,
    tablesSha256: refs[0]!.sha256,
    files: refs,
  };
  return { entry, files };
}

async function runAll(
  runtime: Runtime,
  span: Uint8Array,
  frames: readonly NamedTensors[],
): Promise<NamedTensors[]> {
  const session = await runtime.load(span);
  try {
    return await runSession(session, frames);
  } finally {
    await session.release();
  }
}

async function runSession(session: RuntimeSession, frames: readonly NamedTensors[]): Promise<NamedTensors[]> {
  const results: NamedTensors[] = [];
  for (const frame of frames) results.push((await session.run(frame)).outputs);
  return results;
}
