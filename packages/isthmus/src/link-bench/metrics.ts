import { type Drop, type DropResponse, findDrops, longestMiss, respondTo } from './drops.js';
import type { DropMetrics, RunMetrics } from './result.js';
import type { Scenario } from './scenario.js';
import type { RunOutcome } from './simulate.js';

/** A run, and what it was a run of. */
export interface Run {
  scenario: Scenario;
  outcome: RunOutcome;
}

/** Of every frame the expected quality of its answer, 0 without one in time. */
export function qualitiesOf({ scenario, outcome }: Run): number[] {
  const { options } = scenario.workload;
  return outcome.frames.map(({ state, option }) =>
    state === 'answered' ? (options[option]?.quality ?? 0) : 0,
  );
}

/** Metrics over the frames of one run or several, as one; regret against the oracle's sum of quality over the same. */
export function measureRuns(runs: readonly Run[], oracleQuality: number | undefined): RunMetrics {
  let numFrames = 0;
  let quality = 0;
  let joules = 0;
  let numBytes = 0;
  let switches = 0;
  let agreed = 0;
  let hasAgreement = true;
  const latencies: number[] = [];
  const responses: DropResponse[] = [];
  for (const run of runs) {
    const { scenario, outcome } = run;
    const { workload } = scenario;
    const qualities = qualitiesOf(run);
    let lastCut: number | undefined;
    for (const [index, frame] of outcome.frames.entries()) {
      const option = workload.options[frame.option];
      joules += frame.joules;
      if (option === undefined) continue;
      if (lastCut !== undefined && option.deviceCut !== lastCut) switches++;
      lastCut = option.deviceCut;
      if (frame.state !== 'answered') continue;
      latencies.push(frame.latencyMs);
      if (option.agreement === undefined) hasAgreement = false;
      agreed += option.agreement?.[index % workload.numPictures] ?? 0;
    }
    numFrames += outcome.frames.length;
    numBytes += outcome.deliveredBytes;
    quality += qualities.reduce((sum, value) => sum + value, 0);
    responses.push(...responsesOf(run, qualities));
  }
  const answered = latencies.length;
  return {
    frames: numFrames,
    hitRate: answered / numFrames,
    quality: answered === 0 ? null : quality / answered,
    agreement: answered === 0 || !hasAgreement ? null : agreed / answered,
    utility: quality / numFrames,
    regret: oracleQuality === undefined || oracleQuality === 0 ? null : 1 - quality / oracleQuality,
    latencyMs: answered === 0 ? null : percentiles(latencies),
    bytesPerFrame: numBytes / numFrames,
    joulesPerFrame: joules / numFrames,
    switches,
    longestMiss: Math.max(...runs.map(({ outcome }) => longestMiss(outcome.frames))),
    drops: summarizeDrops(responses),
  };
}

function responsesOf({ scenario, outcome }: Run, qualities: readonly number[]): DropResponse[] {
  const endMs = scenario.numFrames * scenario.intervalMs;
  const drops: Drop[] = findDrops(scenario.trace, endMs);
  return drops.map((drop, index) =>
    respondTo(drop, drops[index + 1]?.dropMs ?? endMs, scenario, outcome.frames, qualities),
  );
}

function summarizeDrops(responses: readonly DropResponse[]): DropMetrics | null {
  if (responses.length === 0) return null;
  const summary = (values: number[]): { median: number; max: number } => ({
    median: percentile(ascending(values), 0.5),
    max: Math.max(...values),
  });
  const back = responses.map(({ backMs }) => backMs).filter((backMs) => backMs !== undefined);
  return {
    count: responses.length,
    missedInRow: summary(responses.map(({ missedInRow }) => missedInRow)),
    backMs: back.length === 0 ? null : summary(back),
    neverBack: responses.length - back.length,
  };
}

function percentiles(values: number[]): { p50: number; p95: number; p99: number } {
  const sorted = ascending(values);
  return { p50: percentile(sorted, 0.5), p95: percentile(sorted, 0.95), p99: percentile(sorted, 0.99) };
}

const ascending = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b);

/** The nearest rank: a value that was there; 0 of none. */
export function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
}
