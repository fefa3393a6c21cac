import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '@isthmus/core';
import { connect, createMemoryCache, type Frame, type FrameResult, type Session } from '@isthmus/device';
import { createNodeRuntime } from '@isthmus/runtime/node';
import {
  type LinkTrace,
  type LiveLine,
  type LiveSummary,
  openTraces,
  type Pause,
  type Photo,
  parseFrameSet,
  type ReplayResult,
  readManifest,
  readPhotos,
  replay,
  runLive,
  shapeReceiver,
  summarizeLive,
} from 'isthmus';
import { watchPauses } from './pauses.js';
import { serveFolders } from './receiver-process.js';

export interface LinkSocketsOptions {
  bundle: string;
  /** A folder that holds the pictures of the frame set. */
  images: string;
  /** What `isthmus bench rd --frames` wrote. */
  frames: string;
  traces: readonly string[];
  deadlinesMs: readonly number[];
  durationMs: number;
  /** Of the device's memory, which says how deep it can compute. */
  maxDeviceBytes: number;
  /** Of ONNX Runtime, in both processes. */
  threads: number | undefined;
  /** With every frame of both. */
  onRun: (result: LinkComparison, live: LiveRun, simulated: ReplayResult) => void;
}

/** What came of a camera's frames. */
interface LinkRun {
  hitRate: number;
  /** Expected of the answers, and of all frames with 0 for those without. */
  quality: number | null;
  utility: number;
  latencyMs: { p50: number; p95: number; p99: number } | null;
  /** Over the uplink. */
  bytesPerFrame: number;
}

/** The same trace through sockets and in simulation. */
export interface LinkComparison {
  trace: string;
  deadlineMs: number;
  frames: number;
  sockets: LinkRun;
  simulation: LinkRun;
  /** Of the hit rate: simulation less sockets. */
  difference: number;
  /** Milliseconds: how long the device's event loop was held up in all, and medians of what frames took. */
  machine: { pausedMs: number; prepareMs: number; deviceMs: number; encodeMs: number; cloudMs: number };
}

const framesPerSecond = 10;
// That of the simulation.
const downlinkBps = 20e6;
// What the buffers of both sockets take on loopback before the sender notices: nothing in them can be taken back.
const windowBytes = 4_194_304;
// Until the first pings are answered.
const settleMs = 500;
const seed = 1;

/**
 * Plays pictures as a camera through a device, a shaped link and a receiver process, in real time, and simulates the same:
 * the same controller, bundle, pictures, trace, and times of the machines as they were measured meanwhile. The link
 * matters only if the device cannot do it all: it may not answer alone, and has little memory.
 */
export async function compareLinks(options: LinkSocketsOptions): Promise<LinkComparison[]> {
  const { durationMs, deadlinesMs } = options;
  const frameSet = parseFrameSet(await readFile(options.frames, 'utf8'), options.frames);
  const photos = new Map((await readPhotos(options.images)).map((photo) => [photo.name, photo]));
  const pictures = frameSet.names.map((name) => {
    const photo = photos.get(name);
    if (photo === undefined)
      throw new Error(`${options.images} lacks ${name}, which is in ${options.frames}.`);
    return photo;
  });
  const traces = await openTraces(options.traces, { durationMs, seed });
  const receiver = await serveFolders([options.bundle], options.threads);
  const results: LinkComparison[] = [];
  try {
    const manifest = await readManifest(options.bundle);
    for (const deadlineMs of deadlinesMs) {
      for (const trace of traces) {
        const setting = { url: receiver.url, trace, deadlineMs, pictures, model: manifest.model };
        const live = await runSockets(setting, options);
        const simulated = replay({
          ...{ manifest, frameSet, trace, deadlineMs, framesPerSecond, durationMs, windowBytes, seed },
          constraints: { mayRunLocally: false, maxDeviceBytes: options.maxDeviceBytes },
          ...{ answered: live.answered, begun: live.begun, pauses: live.pauses },
        });
        const result = compare(trace, deadlineMs, live, simulated);
        results.push(result);
        options.onRun(result, live, simulated);
      }
    }
  } finally {
    await receiver.stop();
  }
  return results;
}

/** A live session's frames, in their order, and what became of all. */
interface LiveRun {
  lines: LiveLine[];
  summary: LiveSummary;
  answered: (FrameResult & { frame: number })[];
  /** Milliseconds from capture until the plan was chosen. */
  begun: { frame: number; value: number }[];
  pauses: Pause[];
}

async function runSockets(
  setting: { url: string; trace: LinkTrace; deadlineMs: number; pictures: readonly Photo[]; model: string },
  { durationMs, maxDeviceBytes, threads }: LinkSocketsOptions,
): Promise<LiveRun> {
  const { url, trace, deadlineMs, pictures, model } = setting;
  const clock = systemClock;
  const runtime = createNodeRuntime(threads === undefined ? {} : { threads });
  const shaped = await shapeReceiver(url, trace, clock);
  const session = await connect(shaped.url, {
    ...{ model, runtime, maxDeviceBytes, cache: createMemoryCache() },
    ...{ mayRunLocally: false, target: { deadlineMs } },
  });
  const answered: LiveRun['answered'] = [];
  const decidedMs = new Map<number, number>();
  session.on('decision', ({ frame }) => decidedMs.set(frame, clock.now()));
  try {
    await warmReceiver(url, model, pictures, maxDeviceBytes);
    await sleep(settleMs);
    shaped.begin();
    shaped.shaper.setDownlink({ rateBps: downlinkBps, delayMs: trace.delayMs });
    const before = shaped.shaper.numBytes.up;
    const beginMs = clock.now();
    const watch = watchPauses(clock);
    let result: FrameResult | undefined;
    const lines = await runLive({
      ...{ session, pictures, fps: framesPerSecond, durationMs, deadlineMs, trace, clock, plan: 'auto' },
      signal: new AbortController().signal,
      describeAnswer(own) {
        result = own;
        return '';
      },
      onLine({ frame, outcome }) {
        if (outcome === 'answered' && result !== undefined) answered.push({ ...result, frame });
      },
    });
    const begun = lines.flatMap(({ frame, atMs }) => {
      const atDecisionMs = decidedMs.get(frame);
      return atDecisionMs === undefined ? [] : [{ frame, value: atDecisionMs - beginMs - atMs }];
    });
    const summary = summarizeLive(lines, shaped.shaper.numBytes.up - before);
    return { lines, answered, begun, pauses: watch.stop(), summary };
  } finally {
    await session.close();
    await runtime.close();
    await shaped.shaper.close();
  }
}

/** The receiver loads its spans when they are first wanted; in the simulation they are there. */
async function warmReceiver(
  url: string,
  model: string,
  pictures: readonly Photo[],
  maxDeviceBytes: number,
): Promise<void> {
  const session: Session<Frame> = await connect(url, {
    ...{ model, maxDeviceBytes, mayRunLocally: false, cache: createMemoryCache() },
  });
  try {
    for (const { id, paths } of session.manifest.codecs) {
      for (const { from, to } of paths) {
        const plan = { kind: 'split', codec: id, from, to, level: 0 } as const;
        // Spans too large for the device are never wanted.
        for (const { bytes } of pictures.slice(0, 3)) await session.run(bytes, { plan }).catch(() => {});
      }
    }
  } finally {
    await session.close();
  }
}

function compare(
  trace: LinkTrace,
  deadlineMs: number,
  { summary, answered, begun, pauses }: LiveRun,
  { metrics }: ReplayResult,
): LinkComparison {
  const { hitRate, meanQuality, latencyMs, bytesUp, frames } = summary;
  return {
    ...{ trace: trace.name, deadlineMs, frames },
    sockets: {
      ...{ hitRate, quality: meanQuality, utility: hitRate * (meanQuality ?? 0), latencyMs },
      bytesPerFrame: bytesUp / Math.max(1, frames),
    },
    simulation: {
      ...{ hitRate: metrics.hitRate, quality: metrics.quality, utility: metrics.utility },
      ...{ latencyMs: metrics.latencyMs, bytesPerFrame: metrics.bytesPerFrame },
    },
    difference: metrics.hitRate - hitRate,
    machine: {
      pausedMs: pauses.reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0),
      prepareMs: median(begun.map(({ value }) => value)),
      deviceMs: median(answered.map(({ timing }) => timing.deviceMs)),
      encodeMs: median(answered.map(({ timing }) => timing.encodeMs)),
      cloudMs: median(answered.map(({ timing }) => timing.decodeMs + timing.cloudMs)),
    },
  };
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

/** One row a trace and deadline; sockets, then simulation. */
export function formatComparisons(results: readonly LinkComparison[]): string {
  const percent = (share: number | null): string => (share === null ? '–' : `${(100 * share).toFixed(1)} %`);
  const both = ({ sockets, simulation }: LinkComparison, show: (run: LinkRun) => string): string =>
    `${show(sockets)}, ${show(simulation)}`;
  const rows = results.map((result) => [
    `${result.trace}, ${result.deadlineMs} ms`,
    both(result, ({ hitRate }) => percent(hitRate)),
    (100 * result.difference).toFixed(1),
    both(result, ({ quality }) => percent(quality)),
    both(result, ({ latencyMs }) => latencyMs?.p50.toFixed(0) ?? '–'),
    both(result, ({ latencyMs }) => latencyMs?.p95.toFixed(0) ?? '–'),
    both(result, ({ bytesPerFrame }) => bytesPerFrame.toFixed(0)),
  ]);
  const titles = ['', 'in time', 'points', 'quality', 'p50, ms', 'p95, ms', 'bytes a frame'];
  return [titles, titles.map((_, index) => (index === 0 ? '---' : '---:')), ...rows]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n');
}
