import type { ErrorCode } from '@isthmus/core';
import type { Plan } from '@isthmus/planner';
import { formatBytes } from '../table.js';

/** What became of one frame of a camera; a line of `isthmus run --camera … --json`. */
export interface LiveLine {
  frame: number;
  image: string;
  /** When it was captured, since the camera began. */
  atMs: number;
  /** What the trace lets through then; null without one. */
  capacityBps: number | null;
  /** What the device believed when it decided; null where it knew nothing yet, or did not decide. */
  estimateBps: number | null;
  phase: string;
  /** Null when the frame was skipped or dropped. */
  plan: Plan | null;
  planName: string;
  reason: string;
  /** What the controller expected of its plan; null where it chose none. */
  predicted: { totalMs: number; inTime: number; quality: number } | null;
  outcome: LiveOutcome;
  /** Why it failed, where that is not the link's or the device's speed. */
  error: { code: ErrorCode; message: string } | null;
  /** Until its end, whichever. */
  latencyMs: number;
  /** Of frames without an answer nobody knows; 0 for those that were never sent. */
  bytesUp: number | null;
  /** As measured when the model was split; null where that is unknown, or there is no answer. */
  quality: number | null;
  /** Of the classes, or boxes; empty without an answer. */
  answer: string;
  /** Share of the frames so far that were answered in time. */
  hitRate: number;
}

/** `late` has no answer by the deadline; `skipped` and `dropped` are as the session's error codes say. */
export type LiveOutcome = 'answered' | 'late' | 'skipped' | 'dropped' | 'failed';

interface LiveColumn {
  title: string;
  unit: string;
  width: number;
  value: (line: LiveLine) => string;
}

const none = '–';
const rate = (bps: number | null): string => (bps === null ? none : (bps / 1e6).toFixed(2));
const expected = (
  { predicted }: LiveLine,
  show: (predicted: NonNullable<LiveLine['predicted']>) => string,
): string => (predicted === null ? none : show(predicted));

const columns: readonly LiveColumn[] = [
  { title: 'time', unit: 's', width: 6, value: ({ atMs }) => (atMs / 1000).toFixed(1) },
  { title: 'link', unit: 'Mbit/s', width: 6, value: ({ capacityBps }) => rate(capacityBps) },
  { title: 'believed', unit: 'Mbit/s', width: 8, value: ({ estimateBps }) => rate(estimateBps) },
  { title: 'phase', unit: '', width: 8, value: ({ phase }) => phase || none },
  { title: 'sent', unit: '', width: 7, value: ({ bytesUp }) => (bytesUp ? formatBytes(bytesUp) : none) },
  {
    title: 'expected',
    unit: 'ms',
    width: 8,
    value: (line) => expected(line, ({ totalMs }) => totalMs.toFixed(0)),
  },
  {
    title: 'chance',
    unit: '%',
    width: 6,
    value: (line) => expected(line, ({ inTime }) => (100 * inTime).toFixed(0)),
  },
  {
    title: 'quality',
    unit: '',
    width: 7,
    value: (line) => expected(line, ({ quality }) => quality.toFixed(3)),
  },
  { title: 'took', unit: 'ms', width: 5, value: ({ latencyMs }) => latencyMs.toFixed(0) },
  { title: 'outcome', unit: '', width: 8, value: ({ outcome }) => outcome },
  { title: 'in time', unit: '%', width: 7, value: ({ hitRate }) => (100 * hitRate).toFixed(1) },
];

/** The head of the table that {@link formatLiveLine} goes on with. */
export const liveHead: string = [
  [...columns.map(({ title, width }) => title.padStart(width)), 'plan, or why none'].join('  '),
  columns.map(({ unit, width }) => unit.padStart(width)).join('  '),
].join('\n');

/** One frame as a line of a table that scrolls. */
export function formatLiveLine(line: LiveLine): string {
  const cells = columns.map(({ width, value }) => value(line).padStart(width));
  return [...cells, [line.planName, remark(line)].filter(Boolean).join(': ')].join('  ');
}

// What of a reason has columns of its own need not be said twice.
function remark({ reason, error }: LiveLine): string {
  return error?.message ?? reason.replace(/(: |^)quality \d.*$/, '');
}
