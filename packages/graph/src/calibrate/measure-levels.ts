import {
  type Clock,
  type CodecEntry,
  type CodecKind,
  type CodecPath,
  type Decoder,
  type Encoder,
  findCodecKind,
  IsthmusError,
  type MeasuredLevel,
  type NamedTensors,
  type Runtime,
} from '@isthmus/core';
import type { Bundle } from '../bundle.js';
import { type Anchor, anchorQuality } from './anchor-quality.js';
import { createComparison, type Fidelity } from './fidelity.js';
import { fitQuality } from './fit-quality.js';
import { runAll, withSpan } from './run-span.js';
import { spread } from './spread.js';

export interface MeasureOptions {
  runtime: Runtime;
  /** Tensors of cut 0 of frames that no codec was fitted to: `heldOutFrames`. Twelve of them are used. */
  frames: readonly NamedTensors[];
  /** The codecs known here; entries of other kinds stay unmeasured. */
  codecs: readonly CodecKind[];
  /**
   * Ids of the entries to measure; others stay as they are, and those of the same cuts that were measured before are
   * measured along, to put the quality of the new ones on their scale. @default all
   */
  only?: readonly string[];
  clock: Clock;
  onProgress?: (progress: { cut: number; numCuts: number }) => void;
}

// More say little more, and take long.
const maxFrames = 12;
/** On so many of them codecs are timed, one frame after the other. */
const numTimed = 5;
/** Of the others so many are coded at once, which fills the time in which models run elsewhere. */
const numAtOnce = 3;

/** One level at one path, over all frames; times of some. */
interface Trial {
  entry: CodecEntry;
  path: CodecPath;
  numBytes: number[];
  encodeMs: number[];
  decodeMs: number[];
  fidelities: Fidelity[];
}

/**
 * Measures every level of every codec at every path, and writes into the manifest what a planner needs to know of it:
 * bytes, expected quality, coding times.
 *
 * @throws IsthmusError `usage/invalid` without frames; the codecs' and the runtime's.
 *
 * @example
 * ```ts
 * const measured = await measureLevels(bundle, { runtime, frames, codecs: builtinCodecs, clock: systemClock });
 * measured.manifest.codecs[0]?.measured?.[0]?.[0]; // { numBytes: 602112, quality: 1, … }
 * ```
 */
export async function measureLevels(bundle: Bundle, options: MeasureOptions): Promise<Bundle> {
  const { runtime, onProgress } = options;
  const { manifest } = bundle;
  if (options.frames.length === 0) {
    throw new IsthmusError('usage/invalid', 'Measuring codecs needs at least one frame; there are none.');
  }
  const lastCut = manifest.cuts.length - 1;
  let atCut: NamedTensors[] = spread(options.frames, maxFrames);
  const expected = await withSpan(bundle, 0, lastCut, runtime, (whole) => runAll(whole, atCut));
  const trials: Trial[] = [];
  const isWanted = ({ id }: CodecEntry): boolean => options.only?.includes(id) !== false;
  const known = knownCodecs(bundle, options);
  const froms = new Set(known.filter(isWanted).flatMap(({ paths }) => paths.map(({ from }) => from)));
  const tried = known.filter((entry) => isWanted(entry) || entry.measured !== undefined);
  const deepest = Math.min(lastCut - 1, Math.max(-1, ...froms));
  for (let cut = 0; cut <= deepest; cut++) {
    onProgress?.({ cut, numCuts: lastCut });
    if (cut > 0) {
      const before = atCut;
      atCut = await withSpan(bundle, cut - 1, cut, runtime, (segment) => runAll(segment, before));
    }
    if (froms.has(cut)) trials.push(...(await measureCut(bundle, options, tried, cut, atCut, expected)));
  }
  const ofFrame = fitQuality(trials.flatMap(({ fidelities }) => fidelities));
  const anchored = anchorQuality(trials.flatMap((trial) => (isWanted(trial.entry) ? [] : anchorOf(trial))));
  const quality = (frames: readonly Fidelity[]): number => {
    const fitted = mean(frames.map(({ divergence }) => ofFrame(divergence)));
    return anchored === undefined ? fitted : anchored(frames, fitted);
  };
  const codecs = manifest.codecs.map((entry) => {
    const own = trials.filter((trial) => trial.entry === entry);
    if (own.length === 0 || !isWanted(entry)) return entry;
    const at = (from: number, to: number): Trial[] =>
      own.filter(({ path }) => path.from === from && path.to === to);
    return {
      ...entry,
      measured: entry.paths.map(({ from, to }) => at(from, to).map((trial) => summarize(trial, quality))),
    };
  });
  return { ...bundle, manifest: { ...manifest, codecs } };
}

/** The codecs that can be tried here, and whose files are here. */
function knownCodecs({ manifest, files }: Bundle, { codecs }: MeasureOptions): CodecEntry[] {
  return manifest.codecs.filter(
    (entry) =>
      codecs.some((one) => one.kind === entry.kind && one.version === entry.version) &&
      (entry.measured === undefined || entry.files.every(({ path }) => files.has(path))),
  );
}

/** What is known of a level that was measured before. */
function anchorOf({ entry, path, fidelities }: Trial): Anchor[] {
  const at = entry.paths.findIndex(({ from, to }) => from === path.from && to === path.to);
  const quality = entry.measured?.[at]?.[path.level]?.quality;
  return quality === undefined ? [] : [{ frames: fidelities, quality }];
}

async function measureCut(
  bundle: Bundle,
  { runtime, codecs, clock }: MeasureOptions,
  known: readonly CodecEntry[],
  from: number,
  frames: readonly NamedTensors[],
  expected: readonly NamedTensors[],
): Promise<Trial[]> {
  const { manifest } = bundle;
  const lastCut = manifest.cuts.length - 1;
  const compare = createComparison(manifest);
  const trials: Trial[] = [];
  for (let to = from; to <= lastCut; to++) {
    const entries = known.filter(({ paths }) => paths.some((path) => path.from === from && path.to === to));
    if (entries.length === 0) continue;
    await withSpan(bundle, to, lastCut, runtime, async (tail) => {
      for (const entry of entries) {
        const kind = findCodecKind(codecs, entry);
        const context = { manifest, entry, runtime, readFile: readFileOf(bundle) };
        const [encoder, decoder] = [await kind.createEncoder(context), await kind.createDecoder(context)];
        for (const level of entry.levels.keys()) {
          const trial: Trial = { entry, path: { from, to, level }, ...emptyFigures() };
          const measure = async (at: number, isTimed: boolean): Promise<void> => {
            const outputs = await tail(
              await carry(trial, encoder, decoder, frames[at]!, isTimed ? clock : undefined),
            );
            trial.fidelities.push(compare(expected[at] ?? {}, outputs));
          };
          for (let at = 0; at < Math.min(numTimed, frames.length); at++) await measure(at, true);
          for (let at = numTimed; at < frames.length; at += numAtOnce) {
            const together = frames.slice(at, at + numAtOnce);
            await Promise.all(together.map((_, i) => measure(at + i, false)));
          }
          trials.push(trial);
        }
      }
    });
  }
  return trials;
}

const emptyFigures = (): Pick<Trial, 'numBytes' | 'encodeMs' | 'decodeMs' | 'fidelities'> => ({
  numBytes: [],
  encodeMs: [],
  decodeMs: [],
  fidelities: [],
});

async function carry(
  trial: Trial,
  encoder: Encoder,
  decoder: Decoder,
  frame: NamedTensors,
  clock: Clock | undefined,
): Promise<NamedTensors> {
  const startMs = clock?.now() ?? 0;
  const payload = await encoder.encode(frame, trial.path);
  const encodedMs = clock?.now() ?? 0;
  const decoded = await decoder.decode(payload, trial.path);
  trial.numBytes.push(payload.byteLength);
  if (clock === undefined) return decoded;
  trial.encodeMs.push(encodedMs - startMs);
  trial.decodeMs.push(clock.now() - encodedMs);
  return decoded;
}

function summarize(trial: Trial, quality: (frames: readonly Fidelity[]) => number): MeasuredLevel {
  const { numBytes, fidelities } = trial;
  const meanBytes = mean(numBytes);
  return {
    numBytes: Math.round(meanBytes),
    numBytesDeviation: Math.round(Math.sqrt(mean(numBytes.map((value) => (value - meanBytes) ** 2)))),
    quality: round(quality(fidelities)),
    encodeMs: round(median(trial.encodeMs)),
    decodeMs: round(median(trial.decodeMs)),
  };
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

const round = (value: number): number => Math.round(value * 1e4) / 1e4;

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
}

function readFileOf({ files }: Bundle): (file: { path: string }) => Promise<Uint8Array> {
  return async ({ path }) => {
    const bytes = files.get(path);
    if (bytes === undefined) throw new IsthmusError('bundle/not-found', `The bundle has no file ${path}.`);
    return bytes;
  };
}
