import type { Frame, FrameResult, Session } from '@isthmus/device';
import { codeOf } from './restartable.js';

/** One frame of a camera, and how it ended. */
export interface Shot {
  /** Since the camera began. */
  atMs: number;
  /** Of the answer; undefined where there was none. */
  result: FrameResult | undefined;
  /** Of the error; `no error` for an answer. */
  code: string;
  /** Until it ended. */
  tookMs: number;
  /** How often its promise settled. */
  ends: number;
}

/** Runs a frame every `intervalMs`, whether or not the last was answered, and waits until all have ended. */
export async function film(
  session: Session<Frame>,
  frame: Frame,
  options: { intervalMs: number; durationMs: number; deadlineMs: number },
): Promise<Shot[]> {
  const beginMs = performance.now();
  const shots: Shot[] = [];
  const ended: Promise<unknown>[] = [];
  for (let index = 0; index * options.intervalMs < options.durationMs; index++) {
    const waitMs = beginMs + index * options.intervalMs - performance.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    const startMs = performance.now();
    const shot: Shot = { atMs: startMs - beginMs, result: undefined, code: '', tookMs: 0, ends: 0 };
    shots.push(shot);
    const run = session.run(frame, { deadlineMs: options.deadlineMs });
    ended.push(
      codeOf(
        run.then((result) => {
          shot.result = result;
        }),
      ).then((code) => {
        shot.code = code;
        shot.tookMs = performance.now() - startMs;
        shot.ends++;
      }),
    );
  }
  await Promise.all(ended);
  return shots;
}
