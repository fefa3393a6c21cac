import { percentile } from '../link-bench/metrics.js';
import { formatBytes, formatMs, formatTable } from '../table.js';
import type { LiveLine, LiveOutcome } from './live-line.js';

/** What came of all frames of a camera. */
export interface LiveSummary {
  frames: number;
  answered: number;
  /** Ended without an answer by the deadline. */
  late: number;
  skipped: number;
  dropped: number;
  failed: number;
  hitRate: number;
  /** Expected, of the answered frames whose plans were measured; null when there are none. */
  meanQuality: number | null;
  /** Quality of all frames, those without an answer, or of unknown quality, counting 0. */
  utility: number;
  /** Of the answered frames; null when there are none. */
  latencyMs: { p50: number; p95: number; p99: number } | null;
  /** Over the shaped link, all that was sent; without one, for the answered frames. */
  bytesUp: number;
  /** How often the cut changed from one frame to the next; `local` counts as a cut. */
  cutChanges: number;
}

/** @param shapedBytes What a shaper has counted. */
export function summarizeLive(lines: readonly LiveLine[], shapedBytes: number | undefined): LiveSummary {
  const count = (wanted: LiveOutcome): number => lines.filter(({ outcome }) => outcome === wanted).length;
  const answered = lines.filter(({ outcome }) => outcome === 'answered');
  const qualities = answered.flatMap(({ quality }) => quality ?? []);
  const total = qualities.reduce((sum, one) => sum + one, 0);
  const latencies = answered.map(({ latencyMs }) => latencyMs).sort((a, b) => a - b);
  const at = (share: number): number => percentile(latencies, share);
  const cuts = lines.flatMap(({ plan }) => (plan === null ? [] : [plan.kind === 'split' ? plan.from : -1]));
  return {
    frames: lines.length,
    answered: answered.length,
    late: count('late'),
    skipped: count('skipped'),
    dropped: count('dropped'),
    failed: count('failed'),
    hitRate: answered.length / Math.max(1, lines.length),
    meanQuality: qualities.length === 0 ? null : total / qualities.length,
    utility: total / Math.max(1, lines.length),
    latencyMs: answered.length === 0 ? null : { p50: at(0.5), p95: at(0.95), p99: at(0.99) },
    bytesUp: shapedBytes ?? lines.reduce((sum, { bytesUp }) => sum + (bytesUp ?? 0), 0),
    cutChanges: cuts.filter((cut, index) => index > 0 && cut !== cuts[index - 1]).length,
  };
}

/** For people. */
export function formatLiveSummary(summary: LiveSummary, isShaped: boolean): string {
  const { frames, answered, late, skipped, dropped, failed, latencyMs, meanQuality } = summary;
  const ends = [`${answered} answered in time`, `${late} late`, `${skipped} skipped`, `${dropped} dropped`];
  if (failed > 0) ends.push(`${failed} failed`);
  const rows: [string, string][] = [
    ['frames', `${frames}: ${ends.join(', ')}`],
    ['in time', `${(100 * summary.hitRate).toFixed(1)} %`],
  ];
  if (meanQuality !== null) {
    const all = summary.utility.toFixed(4);
    rows.push(['expected quality', `${meanQuality.toFixed(4)} of the answers, ${all} of all frames`]);
  }
  if (latencyMs !== null) {
    const { p50, p95, p99 } = latencyMs;
    rows.push(['latency', `p50 ${formatMs(p50)}, p95 ${formatMs(p95)}, p99 ${formatMs(p99)} ms`]);
  }
  rows.push(['sent', `${formatBytes(summary.bytesUp)}${isShaped ? ' in all' : ' for the answers'}`]);
  rows.push(['changes of cut', String(summary.cutChanges)]);
  return formatTable(rows, [
    { title: '', value: ([name]) => name },
    { title: '', value: ([, value]) => value },
  ])
    .split('\n')
    .slice(2)
    .join('\n');
}
