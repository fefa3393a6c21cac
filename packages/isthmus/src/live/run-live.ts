import { type Clock, isIsthmusError, type Manifest, toIsthmusError } from '@isthmus/core';
import type { Decision, Frame, FrameResult, LinkEstimate, Plan, Session } from '@isthmus/device';
import type { Photo } from '../demo/photos.js';
import type { LinkTrace } from '../link-bench/trace.js';
import { describePlan } from '../plan-options.js';
import { play } from './camera.js';
import type { LiveLine, LiveOutcome } from './live-line.js';

export interface LiveOptions {
  /** Has not run a frame yet. */
  session: Session<Frame>;
  pictures: readonly Photo[];
  fps: number;
  durationMs: number;
  deadlineMs: number;
  plan: Plan | 'auto';
  /** What the link carries from now on; undefined where nothing shapes it. */
  trace: LinkTrace | undefined;
  clock: Clock;
  signal: AbortSignal;
  describeAnswer: (result: FrameResult) => string;
  /** In the order of the frames. */
  onLine: (line: LiveLine) => void;
}

// Capacity is shown as the mean of so long.
const capacityMs = 200;

/**
 * Plays pictures as a camera, in real time, and tells what became of each; resolves when all have ended. When the
 * signal aborts, frames that have not ended are left out.
 */
export async function runLive(options: LiveOptions): Promise<LiveLine[]> {
  const { session, trace, clock, signal, deadlineMs, plan: wanted } = options;
  const beginMs = clock.now();
  const lines: LiveLine[] = [];
  const decided = new Map<number, { decision: Decision; estimate: LinkEstimate }>();
  const stopListening = session.on('decision', ({ frame, decision }) => {
    decided.set(frame, { decision, estimate: session.estimate });
  });
  let numAnswered = 0;

  const shoot = async ({ name, bytes }: Photo, frame: number, before: Promise<void>): Promise<void> => {
    const startMs = clock.now();
    const { result, error } = await session
      .run(bytes, { deadlineMs, signal, plan: wanted })
      .then<Ended, Ended>(
        (value) => ({ result: value, error: undefined }),
        (reason: unknown) => ({ result: undefined, error: reason }),
      );
    const latencyMs = clock.now() - startMs;
    // Frames overtake each other; lines do not.
    await before;
    if (signal.aborted) return;
    const { decision, estimate } = decided.get(frame) ?? {};
    decided.delete(frame);
    const atMs = startMs - beginMs;
    const outcome = outcomeOf(error);
    if (outcome === 'answered') numAnswered++;
    const plan = planOf(result, decision, outcome, wanted);
    const { predicted = null } = decision ?? {};
    const line: LiveLine = {
      frame,
      image: name,
      atMs,
      capacityBps:
        trace === undefined ? null : (8000 * trace.bytesBetween(atMs, atMs + capacityMs)) / capacityMs,
      estimateBps: bitsOf(estimate?.bytesPerSecond),
      phase: estimate?.phase ?? '',
      plan,
      planName: plan === null ? '' : describePlan(plan, session.manifest),
      reason: reasonOf(result, decision, outcome),
      predicted: predicted && {
        totalMs: predicted.totalMs,
        inTime: predicted.inTime,
        quality: predicted.quality,
      },
      outcome,
      error: outcome === 'failed' ? describeError(error) : null,
      latencyMs,
      bytesUp: result?.bytes.up ?? (outcome === 'skipped' || outcome === 'dropped' ? 0 : null),
      quality: result === undefined ? null : qualityOf(session.manifest, result.plan),
      answer: result === undefined ? '' : options.describeAnswer(result),
      hitRate: numAnswered / (lines.length + 1),
    };
    lines.push(line);
    options.onLine(line);
  };

  let last = Promise.resolve();
  try {
    await play(options, (picture, frame) => {
      last = shoot(picture, frame, last);
    });
    await last;
  } finally {
    stopListening();
  }
  return lines;
}

interface Ended {
  result: FrameResult | undefined;
  error: unknown;
}

function outcomeOf(error: unknown): LiveOutcome {
  if (error === undefined) return 'answered';
  if (isIsthmusError(error, 'request/deadline')) return 'late';
  if (isIsthmusError(error, 'request/skipped')) return 'skipped';
  return isIsthmusError(error, 'request/dropped') ? 'dropped' : 'failed';
}

function planOf(
  result: FrameResult | undefined,
  decision: Decision | undefined,
  outcome: LiveOutcome,
  wanted: Plan | 'auto',
): Plan | null {
  if (result !== undefined) {
    const { reason: _, ...plan } = result.plan;
    return plan;
  }
  if (outcome === 'dropped') return null;
  if (decision === undefined) return wanted === 'auto' ? null : wanted;
  return decision.plan.kind === 'skip' ? null : decision.plan;
}

function reasonOf(
  result: FrameResult | undefined,
  decision: Decision | undefined,
  outcome: LiveOutcome,
): string {
  if (outcome === 'dropped') return 'a later frame came before its turn';
  if (outcome === 'late' && decision === undefined) return 'the deadline passed before its turn';
  return result?.plan.reason ?? decision?.reason ?? '';
}

function describeError(error: unknown): NonNullable<LiveLine['error']> {
  const { code, message } = toIsthmusError(error, 'internal', 'The frame failed');
  return { code, message };
}

const bitsOf = (bytesPerSecond: number | null | undefined): number | null =>
  bytesPerSecond === null || bytesPerSecond === undefined ? null : 8 * bytesPerSecond;

/** As measured when the model was split; null where it was not. */
function qualityOf({ codecs }: Manifest, plan: Plan): number | null {
  if (plan.kind === 'local') return 1;
  const entry = codecs.find(({ id }) => id === plan.codec);
  const path = entry?.paths.findIndex(({ from, to }) => from === plan.from && to === plan.to) ?? -1;
  return entry?.measured?.[path]?.[plan.level]?.quality ?? null;
}
