import { IsthmusError, systemClock } from '@isthmus/core';
import { type ConnectOptions, connect, type FrameResult, listModels } from '@isthmus/device';
import type { CliContext } from '../cli.js';
import { openTraces } from '../link-bench/open-traces.js';
import { parsePlans } from '../plan-options.js';
import { openCamera } from './camera.js';
import { formatLiveLine, type LiveLine, liveHead } from './live-line.js';
import { formatLiveSummary, type LiveSummary, summarizeLive } from './live-summary.js';
import { runLive } from './run-live.js';
import { shapeReceiver } from './shape-receiver.js';

export interface CameraCommand {
  url: string;
  connectOptions: ConnectOptions;
  camera: string;
  fps: number;
  durationMs: number;
  deadlineMs: number;
  /** As on the command line. */
  plan: readonly string[];
  /** A file, or `synthetic:KIND`. */
  trace: string | undefined;
  /** Whether every frame is shown. */
  isLive: boolean;
  isJson: boolean;
  describeAnswer: (result: FrameResult) => string;
}

/** The last line of `isthmus run --camera … --json`; those before are {@link LiveLine}s. */
interface LiveSummaryLine {
  summary: LiveSummary;
}

// Synthetic traces are the same each time.
const traceSeed = 1;

/**
 * `isthmus run --camera`: plays pictures, prints what becomes of them, and a summary, also when it was interrupted.
 *
 * @throws IsthmusError `usage/invalid`, and as `connect`; the code of the first frame that failed, after the summary
 */
export async function playCamera(command: CameraCommand, context: CliContext): Promise<void> {
  const { url, connectOptions, durationMs, isJson, isLive } = command;
  const clock = systemClock;
  const { signal } = context;
  const pictures = await openCamera(command.camera);
  const sources = command.trace === undefined ? [] : [command.trace];
  const [trace] = await openTraces(sources, { durationMs, seed: traceSeed });
  const shaped = trace && (await shapeReceiver(url, trace, clock));
  let lines: LiveLine[];
  try {
    // Through the proxy, nobody would say which receiver is not there.
    if (shaped !== undefined) await listModels(url, { signal, ...tokenOf(connectOptions) });
    const session = await connect(shaped?.url ?? url, connectOptions);
    try {
      const [plan, ...others] = parsePlans(command.plan, session.manifest);
      if (plan === undefined || others.length > 0) {
        throw new IsthmusError('usage/invalid', 'A camera plays with one --plan.');
      }
      if (plan !== 'auto') await session.prepare(plan);
      context.note(describeScene(command, pictures.length, trace));
      if (isLive && !isJson) context.out(liveHead);
      shaped?.begin();
      const bytesBefore = shaped?.shaper.numBytes.up ?? 0;
      lines = await runLive({
        ...{ ...command, session, pictures, plan, trace, clock, signal },
        onLine(line) {
          if (isJson) context.out(JSON.stringify(line));
          else if (isLive) context.out(formatLiveLine(line));
        },
      });
      const shapedBytes = shaped && shaped.shaper.numBytes.up - bytesBefore;
      const summary = summarizeLive(lines, shapedBytes);
      if (isJson) context.out(JSON.stringify({ summary } satisfies LiveSummaryLine));
      else context.out(`${isLive ? '\n' : ''}${formatLiveSummary(summary, shaped !== undefined)}`);
    } finally {
      await session.close();
    }
  } finally {
    await shaped?.shaper.close();
  }
  signal.throwIfAborted();
  const failures = lines.flatMap(({ error }) => error ?? []);
  const [first] = failures;
  if (first === undefined) return;
  throw new IsthmusError(first.code, `${failures.length} of ${lines.length} frames failed: ${first.message}`);
}

const tokenOf = ({ token }: ConnectOptions): { token?: string } => (token === undefined ? {} : { token });

function describeScene(
  { fps, durationMs, deadlineMs }: CameraCommand,
  numPictures: number,
  trace: { name: string; meanRateBps: number; delayMs: number } | undefined,
): string {
  const played = `${numPictures} ${numPictures === 1 ? 'picture' : 'pictures'} at ${fps} frames a second`;
  const scene = `Playing ${played} for ${durationMs / 1000} s; answers within ${deadlineMs} ms count.`;
  if (trace === undefined) return scene;
  const { name, meanRateBps, delayMs } = trace;
  return `${scene} The uplink follows ${name}: ${(meanRateBps / 1e6).toFixed(2)} Mbit/s on average, ${delayMs} ms one way.`;
}
