import {
  type CalibratedTables,
  type CodecLevel,
  calibratedCodec,
  calibratedFiles,
  elementCount,
  IsthmusError,
  type Manifest,
  type NamedTensors,
  type Runtime,
  type RuntimeSession,
} from '@isthmus/core';
import { type BuiltCodec, buildCodec } from '../build-codec.js';
import { type Bundle, bundleSpan } from '../bundle.js';
import { calibrateCut, type FittedCut } from './calibrate-cut.js';
import { chooseSteps, type LevelMeasure, nearHull, onHull, pooled, triedSteps } from './choose-levels.js';
import { createComparison, type Fidelity } from './fidelity.js';
import { isHeldOut } from './held-out.js';
import { createOutputMetric, type OutputMetric } from './sensitivity.js';
import { spread } from './spread.js';
import type { TransformModels } from './transform-models.js';
import { type HeldOut, maxMeasured, numTried, tryLevelsExactly, withWholeBytes } from './try-levels.js';
import { type CalibrationTuning, defaultTuning } from './tuning.js';

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

const minFrames = 4;
/** Cuts being fitted together: one's arithmetic here fills the time in which the other's models run elsewhere. */
const numAtOnce = 2;

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
  const fitting: Promise<BuiltCodec[]>[] = [];
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
    await fitting.at(-numAtOnce);
  }
  for (const { entry, files: own } of (await Promise.all(fitting)).flat()) {
    for (const [path, bytes] of own) files.set(path, bytes);
    codecs.push(entry);
  }
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

/** Fits both codecs of a cut, and keeps of their levels those that are of use when one may choose among all. */
async function fitCodecs(options: AddOptions): Promise<BuiltCodec[]> {
  const { manifest, index, runtime, tail, comparison, metric, frames, outputs, tuning } = options;
  const heldOut = frames.flatMap((frame, at) => (isHeldOut(at) ? [{ frame, outputs: outputs[at]! }] : []));
  const { principal, channels } = await calibrateCut({
    cut: manifest.cuts[index]!,
    runtime,
    tail,
    metric,
    frames: frames.filter((_, at) => !isHeldOut(at)),
    tuning,
  });
  const few = spread(heldOut, numTried);
  const others = spread(heldOut, maxMeasured).filter((frame) => !few.includes(frame));
  const measure = async (
    { id, fitted, tables }: Pick<Candidate, 'id' | 'fitted' | 'tables'>,
    on: HeldOut,
    levels = [...tables.levels.keys()],
  ): Promise<LevelMeasure[]> => {
    const named = tables.levels.map((_, level) => ({ name: `level-${level}`, params: {} }));
    return tryLevelsExactly({
      manifest,
      kind: calibratedCodec,
      codec: await buildEntry(index, id, fitted.models, tables, named),
      runtime,
      tail: async (tensors) => (await tail.run(tensors)).outputs,
      comparison,
      heldOut: on,
      levels,
    });
  };
  const tried: Candidate[] = [];
  for (const [id, fitted] of [
    [`calibrated-${index}`, principal],
    [`calibrated-${index}-channels`, channels],
  ] as const) {
    const rough = await measure({ id, fitted, tables: fitted.fitTables(triedSteps, false) }, few);
    const own = { id, fitted, tables: fitted.fitTables(chooseSteps(rough), true) };
    const measures = await measure(own, few);
    tried.push(...measures.map((one, level) => ({ ...own, level, measure: one })));
  }
  // What another level beats by far on a few frames need not be measured on more.
  const near = nearHull(tried.map((one) => one.measure)).map((at) => tried[at]!);
  const candidates = await measureAgain(near, few.length, others, measure);
  const kept = onHull(candidates.map(({ measure }) => measure)).map((at) => candidates[at]!);
  const entries: BuiltCodec[] = [];
  for (const id of new Set(kept.map((candidate) => candidate.id))) {
    const own = kept.filter((candidate) => candidate.id === id);
    const { fitted, tables } = own[0]!;
    entries.push(
      await buildEntry(
        index,
        id,
        fitted.models,
        { ...tables, levels: own.map(({ level }) => tables.levels[level]!) },
        own.map(({ measure }, place) => ({ name: `level-${place}`, params: { ...withWholeBytes(measure) } })),
      ),
    );
  }
  return entries;
}

/** Measures levels on more frames than they were measured on. */
async function measureAgain(
  tried: readonly Candidate[],
  numFrames: number,
  others: HeldOut,
  measure: (codec: Candidate, on: HeldOut, levels: number[]) => Promise<LevelMeasure[]>,
): Promise<Candidate[]> {
  if (others.length === 0) return [...tried];
  const again: Candidate[] = [];
  for (const id of new Set(tried.map((candidate) => candidate.id))) {
    const own = tried.filter((candidate) => candidate.id === id);
    const levels = own.map(({ level }) => level);
    const measures = await measure(own[0]!, others, levels);
    own.forEach((candidate, at) => {
      const all = pooled(candidate.measure, numFrames, measures[at]!, others.length);
      again.push({ ...candidate, measure: all });
    });
  }
  return again;
}

/** A level of one of a cut's codecs. */
interface Candidate {
  id: string;
  fitted: FittedCut;
  tables: CalibratedTables;
  level: number;
  measure: LevelMeasure;
}

function buildEntry(
  cut: number,
  id: string,
  models: readonly TransformModels[],
  tables: CalibratedTables,
  levels: CodecLevel[],
): Promise<BuiltCodec> {
  const networks = models.flatMap(({ encoder, decoder }, index): [string, Uint8Array][] => [
    [calibratedFiles.encoder(id, index), encoder],
    [calibratedFiles.decoder(id, index), decoder],
  ]);
  return buildCodec({
    id,
    kind: calibratedCodec,
    path: { from: cut, to: cut },
    levels,
    tables: [calibratedFiles.tables(id), tables],
    networks,
  });
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
