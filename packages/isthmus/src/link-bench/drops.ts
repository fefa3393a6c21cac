import type { Scenario } from './scenario.js';
import type { FrameOutcome } from './simulate.js';
import type { LinkTrace } from './trace.js';

/** A tenfold drop of the capacity, and when it was back. */
export interface Drop {
  dropMs: number;
  /** Infinity if it never was. */
  backMs: number;
}

const binMs = 1000;
const binsBefore = 3;
const dropFactor = 10;
const backFactor = 2;

/**
 * Seconds in which a link carries no more than a tenth of what it did in the three seconds before; it is back in the
 * first second with half of that.
 */
export function findDrops(trace: LinkTrace, durationMs: number): Drop[] {
  const rates = Array.from({ length: Math.floor(durationMs / binMs) }, (_, bin) =>
    trace.bytesBetween(bin * binMs, (bin + 1) * binMs),
  );
  const drops: Drop[] = [];
  for (let bin = binsBefore; bin < rates.length; bin++) {
    const before = rates.slice(bin - binsBefore, bin).reduce((sum, rate) => sum + rate, 0) / binsBefore;
    if (before === 0 || (rates[bin] ?? 0) > before / dropFactor) continue;
    const back = rates.findIndex((rate, later) => later > bin && rate >= before / backFactor);
    drops.push({ dropMs: bin * binMs, backMs: back < 0 ? Infinity : back * binMs });
    if (back < 0) break;
    bin = back;
  }
  return drops;
}

/** How a policy got through one drop. */
export interface DropResponse {
  missedInRow: number;
  /** Undefined where quality was not back before `untilMs`. */
  backMs: number | undefined;
}

const memoryMs = 5_000;
const numFramesBack = 5;
const shareBack = 0.95;

/** @param qualities Of all frames, 0 for those without an answer in time. */
export function respondTo(
  { dropMs, backMs }: Drop,
  untilMs: number,
  { intervalMs, deadlineMs }: Scenario,
  frames: readonly FrameOutcome[],
  qualities: readonly number[],
): DropResponse {
  const frameAt = (atMs: number): number =>
    Math.max(0, Math.min(frames.length, Math.ceil(atMs / intervalMs)));
  // Frames that are on their way when it happens are part of it.
  const missedInRow = longestMiss(frames.slice(frameAt(dropMs - deadlineMs), frameAt(backMs)));
  const before = mean(qualities.slice(frameAt(dropMs - memoryMs), frameAt(dropMs - deadlineMs)));
  if (before === 0) return { missedInRow, backMs: 0 };
  for (let first = frameAt(backMs); first + numFramesBack <= frameAt(untilMs); first++) {
    if (mean(qualities.slice(first, first + numFramesBack)) >= shareBack * before) {
      return { missedInRow, backMs: Math.max(0, first * intervalMs - backMs) };
    }
  }
  return { missedInRow, backMs: undefined };
}

/** The longest run of frames without an answer in time. */
export function longestMiss(frames: readonly FrameOutcome[]): number {
  let longest = 0;
  let current = 0;
  for (const { state } of frames) {
    current = state === 'answered' ? 0 : current + 1;
    longest = Math.max(longest, current);
  }
  return longest;
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}
