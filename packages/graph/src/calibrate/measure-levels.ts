import {
  type Clock,
  type CodecEntry,
  type CodecKind,
  type CodecPath,
  type Decoder,
  type Encoder,
  findCodecKind,
  IsthmusError,
  type Manifest,
  type MeasuredLevel,
  type NamedTensors,
  type Runtime,
} from '@isthmus/core';
import type { Bundle } from '../bundle.js';
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
  /** Ids of the entries to measure; others stay as they are. @default all */
  only?: readonly string[];
  clock: Clock;
  onProgress?: (progress: { cut: number; numCuts: number }) => void;
}

// More say little more, and take long.
const maxFrames = 12;

/** One level at one path, over all frames. */
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
  const froms = wantedCodecs(manifest, options).flatMap(({ paths }) => paths.map(({ from }) => from));
  const deepest = Math.min(lastCut - 1, Math.max(-1, ...froms));
  for (let cut = 0; cut <= deepest; cut++) {
    onProgress?.({ cut, numCuts: lastCut });
    if (cut > 0) {
      const before = atCut;
      atCut = await withSpan(bundle, cut - 1, cut, runtime, (segment) => runAll(segment, before));
    }
    trials.push(...(await measureCut(bundle, options, cut, atCut, expected)));
  }
  const quality = fitQuality(trials.flatMap(({ fidelities }) => fidelities));
  const codecs = manifest.codecs.map((entry) => {
    const own = trials.filter((trial) => trial.entry === entry);
    if (own.length === 0) return entry;
    const at = (from: number, to: number): Trial[] =>
      own.filter(({ path }) => path.from === from && path.to === to);
    return {
      ...entry,
      measured: entry.paths.map(({ from, to }) => at(from, to).map((trial) => summarize(trial, quality))),
    };
  });
  return { ...bundle, manifest: { ...manifest, codecs } };
}

function wantedCodecs(manifest: Manifest, { codecs, only }: MeasureOptions): CodecEntry[] {
  return manifest.codecs.filter(
    ({ id, kind, version }) =>
      only?.includes(id) !== false && codecs.some((one) => one.kind === kind && one.version === version),
  );
}

async function measureCut(
  bundle: Bundle,
  options: MeasureOptions,
  from: number,
  frames: readonly NamedTensors[],
  expected: readonly NamedTensors[],
): Promise<Trial[]> {
  const { runtime, codecs, clock } = options;
  const { manifest } = bundle;
  const lastCut = manifest.cuts.length - 1;
  const compare = createComparison(manifest);
  const known = wantedCodecs(manifest, options);
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
          for (const [at, frame] of frames.entries()) {
            const outputs = await tail(await carry(trial, encoder, decoder, frame, clock));
            trial.fidelities.push(compare(expected[at] ?? {}, outputs));
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
  clock: Clock,
): Promise<NamedTensors> {
  const startMs = clock.now();
  const payload = await encoder.encode(frame, trial.path);
  const encodedMs = clock.now();
  const decoded = await decoder.decode(payload, trial.path);
  trial.numBytes.push(payload.byteLength);
  trial.encodeMs.push(encodedMs - startMs);
  trial.decodeMs.push(clock.now() - encodedMs);
  return decoded;
}

function summarize(trial: Trial, quality: (divergence: number) => number): MeasuredLevel {
  const { numBytes, fidelities } = trial;
  const mean = (values: readonly number[]): number =>
    values.reduce((sum, value) => sum + value, 0) / values.length;
  const meanBytes = mean(numBytes);
  return {
    numBytes: Math.round(meanBytes),
    numBytesDeviation: Math.round(Math.sqrt(mean(numBytes.map((value) => (value - meanBytes) ** 2)))),
    quality: round(mean(fidelities.map(({ divergence }) => quality(divergence)))),
    encodeMs: round(median(trial.encodeMs)),
    decodeMs: round(median(trial.decodeMs)),
  };
}

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
