import {
  type Clock,
  type CodecEntry,
  type CodecKind,
  checkCrc,
  composeSpan,
  type Decoder,
  decodeRequestHeader,
  describeSpan,
  type Encoder,
  encodeRequestPacket,
  type FileRef,
  findCodecKind,
  type Manifest,
  type NamedTensors,
  type Runtime,
  type RuntimeSession,
  requestHeaderBytes,
} from '@isthmus/core';
import { stackFrames, unstackFrames } from './batch.js';
import type { FrameTrial } from './frame-set.js';
import type { Frame } from './pictures.js';
import type { RdPoint } from './result.js';
import { type Answer, type Scorer, scoreEach } from './score.js';

/** A bundle of a model that takes pictures, wherever its files are. */
export interface BundleFiles {
  manifest: Manifest;
  /** A file's contents, their hash verified. */
  readFile(file: FileRef): Promise<Uint8Array>;
}

export interface MeasureOptions {
  bundle: BundleFiles;
  runtime: Runtime;
  codecs: readonly CodecKind[];
  /** Which of the manifest's codecs. */
  methods: readonly CodecEntry[];
  scorer: Scorer;
  /** The pictures to measure, all of them readable. */
  names: readonly string[];
  readFrame(name: string): Promise<Frame>;
  /** The uncompressed model's answers. */
  reference: readonly Answer[];
  clock: Clock;
  signal: AbortSignal;
  /** Pictures times points. */
  onProgress(done: number, total: number): void;
}

// Frames run together where the model allows it: fewer, longer runs.
const batchSize = 8;
// Runs of a single frame that time is taken of, after one that is not.
const timedFrames = 9;

/** A point, and the pictures it is made of. */
export interface Measured {
  point: RdPoint;
  frames: FrameTrial;
}

/** Frames to a batch for this bundle. */
export function batchOf(manifest: Manifest): number {
  return manifest.dynamicBatch ? batchSize : 1;
}

/** A span, ready to run several frames. */
export interface LoadedSpan {
  run(frames: readonly NamedTensors[]): Promise<NamedTensors[]>;
  /** Median milliseconds of one frame. */
  time(frames: readonly NamedTensors[]): Promise<number>;
  release(): Promise<void>;
}

/** @throws as `describeSpan`, `readFile` and the runtime */
export async function loadSpan(
  { manifest, readFile }: BundleFiles,
  from: number,
  to: number,
  runtime: Runtime,
): Promise<LoadedSpan> {
  if (from === to)
    return { run: async (frames) => [...frames], time: async () => 0, release: async () => {} };
  const span = describeSpan(manifest, from, to);
  const bodies = await Promise.all(span.files.map(readFile));
  const session: RuntimeSession = await runtime.load(composeSpan(manifest, span, bodies));
  const wanted = span.outputs.map(({ name }) => name);
  return {
    async run(frames) {
      const { outputs } = await session.run(stackFrames(frames, span.inputs), wanted);
      return unstackFrames(outputs, span.outputs, frames.length);
    },
    async time(frames) {
      const durations: number[] = [];
      for (const frame of [frames[0]!, ...frames]) {
        durations.push((await session.run(frame, wanted)).durationMs);
      }
      return median(durations.slice(1));
    },
    release: () => session.release(),
  };
}

/** One codec at one level on one path, while it is measured. */
interface Trial {
  entry: CodecEntry;
  codec: number;
  from: number;
  to: number;
  level: number;
  encoder: Encoder;
  decoder: Decoder;
  numBytes: number[];
  encodeMs: number[];
  decodeMs: number[];
  answers: Answer[];
}

/**
 * Every method at every path and level, on every picture: the real encoder, the packet as it would be sent, the
 * real decoder, the rest of the model. Cut by cut, so that a frame's tensors are computed once for all that starts
 * there.
 *
 * @throws IsthmusError the codecs' and the runtime's; the signal's reason when aborted
 */
export async function measurePoints(options: MeasureOptions): Promise<Measured[]> {
  const { methods, names, onProgress } = options;
  const froms = [...new Set(methods.flatMap(({ paths }) => paths.map(({ from }) => from)))].sort(
    (a, b) => a - b,
  );
  const numTrials = methods.reduce((sum, { paths, levels }) => sum + paths.length * levels.length, 0);
  const total = numTrials * names.length;
  let done = 0;
  const onDone = (numFrames: number): void => {
    done += numFrames;
    onProgress(done, total);
  };
  const points: Measured[] = [];
  for (const from of froms) points.push(...(await measureCut(options, from, onDone)));
  return points;
}

async function measureCut(
  options: MeasureOptions,
  from: number,
  onDone: (numFrames: number) => void,
): Promise<Measured[]> {
  const { bundle, runtime, names, readFrame, scorer, signal } = options;
  const lastCut = bundle.manifest.cuts.length - 1;
  const trials = await createTrials(options, from);
  const loaded: LoadedSpan[] = [];
  const load = async (start: number, end: number): Promise<LoadedSpan> => {
    const span = await loadSpan(bundle, start, end, runtime);
    loaded.push(span);
    return span;
  };
  try {
    const prefix = await load(0, from);
    const suffixes = new Map<number, LoadedSpan>();
    for (const { to } of trials) if (!suffixes.has(to)) suffixes.set(to, await load(to, lastCut));
    const cloudMs = new Map<number, number>();
    const size = batchOf(bundle.manifest);
    for (let start = 0; start < names.length; start += size) {
      const frames = await Promise.all(names.slice(start, start + size).map(readFrame));
      const tensors = await prefix.run(frames.map((frame) => frame.tensors));
      for (const trial of trials) {
        signal.throwIfAborted();
        const decoded: NamedTensors[] = [];
        for (const frame of tensors) decoded.push(await carry(trial, frame, options.clock));
        const outputs = await suffixes.get(trial.to)!.run(decoded);
        outputs.forEach((output, i) => {
          trial.answers.push(scorer.read(output, frames[i]!.geometry));
        });
        if (!cloudMs.has(trial.to)) {
          const some = Array.from({ length: timedFrames }, (_, i) => decoded[i % decoded.length]!);
          cloudMs.set(trial.to, await suffixes.get(trial.to)!.time(some));
        }
        onDone(frames.length);
      }
    }
    const first = await readFrame(names[0]!);
    const deviceMs = await prefix.time(Array(timedFrames).fill(first.tensors));
    return trials.map((trial) => ({
      point: describeTrial(trial, options, deviceMs, cloudMs.get(trial.to)!),
      frames: describeFrames(trial, options),
    }));
  } finally {
    for (const span of loaded) await span.release();
    for (const { encoder, decoder } of trials) {
      await encoder.release?.();
      await decoder.release?.();
    }
  }
}

async function createTrials(options: MeasureOptions, from: number): Promise<Trial[]> {
  const { bundle, codecs, runtime, methods } = options;
  const { manifest, readFile } = bundle;
  const trials: Trial[] = [];
  for (const entry of methods) {
    const paths = entry.paths.filter((path) => path.from === from);
    if (paths.length === 0) continue;
    const kind = findCodecKind(codecs, entry);
    const context = { manifest, entry, readFile, runtime };
    const [encoder, decoder] = [await kind.createEncoder(context), await kind.createDecoder(context)];
    const codec = manifest.codecs.indexOf(entry);
    for (const { to } of paths) {
      entry.levels.forEach((_, level) => {
        const figures = { numBytes: [], encodeMs: [], decodeMs: [], answers: [] };
        trials.push({ entry, codec, from, to, level, encoder, decoder, ...figures });
      });
    }
  }
  return trials;
}

// From the tensors the device has to those the cloud gets, by way of the bytes between.
async function carry(trial: Trial, tensors: NamedTensors, clock: Clock): Promise<NamedTensors> {
  const { from, to, level, codec } = trial;
  const startMs = clock.now();
  const payload = await trial.encoder.encode(tensors, trial);
  trial.encodeMs.push(clock.now() - startMs);
  const packet = encodeRequestPacket({ from, to, level, codec, deadlineMs: 0 }, payload);
  trial.numBytes.push(packet.byteLength);
  const received = packet.subarray(requestHeaderBytes);
  checkCrc(received, decodeRequestHeader(packet).crc);
  const arrivedMs = clock.now();
  const decoded = await trial.decoder.decode(received, trial);
  trial.decodeMs.push(clock.now() - arrivedMs);
  return decoded;
}

function describeTrial(trial: Trial, options: MeasureOptions, deviceMs: number, cloudMs: number): RdPoint {
  const { entry, from, to, level, answers } = trial;
  const { width, height } = options.bundle.manifest.preprocess!;
  const totalBytes = trial.numBytes.reduce((sum, numBytes) => sum + numBytes, 0);
  return {
    method: entry.id,
    from,
    to,
    level,
    name: entry.levels[level]!.name,
    bpp: (8 * totalBytes) / answers.length / (width * height),
    ...options.scorer.score(answers, options.reference, options.names),
    encodeMs: median(trial.encodeMs),
    decodeMs: median(trial.decodeMs),
    deviceMs,
    cloudMs,
  };
}

function describeFrames(
  { entry, from, to, level, numBytes, answers }: Trial,
  options: MeasureOptions,
): FrameTrial {
  const { scorer, reference, names } = options;
  const scores = scoreEach(scorer, answers, reference, names);
  const right = scores.flatMap(({ top1 }) => (top1 === null ? [] : [top1]));
  return {
    codec: entry.id,
    from,
    to,
    level,
    numBytes,
    agreement: scores.map(({ agreement }) => agreement),
    ...(scorer.metric === 'top1' && { right }),
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
