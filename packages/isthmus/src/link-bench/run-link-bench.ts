import { fixedPolicy } from './fixed-policies.js';
import { measureRuns, qualitiesOf, type Run } from './metrics.js';
import { createNamedPolicy, type KnownOfKind } from './policies.js';
import type { GroupResult, PolicyResult } from './result.js';
import { createScenario, type Scenario } from './scenario.js';
import { simulate } from './simulate.js';
import type { LinkTrace } from './trace.js';
import type { Workload } from './workload.js';

export interface LinkBenchOptions {
  workload: Workload;
  traces: readonly LinkTrace[];
  policies: readonly string[];
  deadlinesMs: readonly number[];
  framesPerSecond: number;
  /** Of each trace. @default its own, at most five minutes */
  durationMs?: number | undefined;
  seed: number;
  onProgress(done: number, total: number): void;
  signal: AbortSignal;
}

/** All runs on one trace with one deadline. */
export interface TraceRuns {
  scenario: Scenario;
  runs: Map<string, Run>;
  details: Map<string, string>;
}

const longestMs = 300_000;

/**
 * Runs every policy over every trace with every deadline. What a class of traces has in common, its best fixed plan, is
 * found first, by running them all.
 */
export async function runLinkBench(options: LinkBenchOptions): Promise<{
  byTrace: GroupResult[];
  byKind: GroupResult[];
  overall: GroupResult[];
  traceRuns: TraceRuns[];
}> {
  const { traces, deadlinesMs, signal } = options;
  const kinds = [...new Set(traces.map(({ kind }) => kind))];
  const traceRuns: TraceRuns[] = [];
  const total = deadlinesMs.length * traces.length;
  for (const deadlineMs of deadlinesMs) {
    for (const kind of kinds) {
      const scenarios = traces
        .filter((trace) => trace.kind === kind)
        .map((trace) => createTraceScenario(trace, deadlineMs, options));
      const known = await findBestFixed(scenarios, options);
      for (const scenario of scenarios) {
        await nextTurn();
        signal.throwIfAborted();
        traceRuns.push(runPolicies(scenario, known, options.policies));
        options.onProgress(traceRuns.length, total);
      }
    }
  }
  const group = (name: string, deadlineMs: number, isIn: (runs: TraceRuns) => boolean): GroupResult =>
    measureGroup(
      name,
      deadlineMs,
      traceRuns.filter((runs) => runs.scenario.deadlineMs === deadlineMs && isIn(runs)),
      options.policies,
    );
  const perDeadline = (make: (deadlineMs: number) => GroupResult[]): GroupResult[] =>
    deadlinesMs.flatMap(make);
  return {
    byTrace: traceRuns.map((runs) =>
      measureGroup(runs.scenario.trace.name, runs.scenario.deadlineMs, [runs], options.policies),
    ),
    byKind: perDeadline((deadlineMs) =>
      kinds.map((kind) => group(kind, deadlineMs, ({ scenario }) => scenario.trace.kind === kind)),
    ),
    overall: perDeadline((deadlineMs) => [group('all', deadlineMs, () => true)]),
    traceRuns,
  };
}

function createTraceScenario(trace: LinkTrace, deadlineMs: number, options: LinkBenchOptions): Scenario {
  const { workload, framesPerSecond, seed } = options;
  const durationMs = options.durationMs ?? Math.min(trace.durationMs, longestMs);
  return createScenario({ workload, trace, deadlineMs, framesPerSecond, durationMs, seed });
}

async function findBestFixed(
  scenarios: readonly Scenario[],
  { workload, policies, signal }: LinkBenchOptions,
): Promise<KnownOfKind> {
  if (!policies.includes('best-fixed') && !policies.includes('rate-only')) {
    return { bestFixed: undefined, bestSplit: undefined };
  }
  const totals: number[] = [];
  for (const { plan } of workload.options) {
    await nextTurn();
    signal.throwIfAborted();
    const runs = scenarios.map((scenario) => ({ scenario, outcome: simulate(scenario, fixedPolicy(plan)) }));
    totals.push(runs.reduce((sum, run) => sum + sumOf(run), 0));
  }
  const best = (isIn: (index: number) => boolean): number | undefined =>
    [...totals.keys()]
      .filter(isIn)
      .reduce<number | undefined>(
        (a, b) => (a === undefined || (totals[b] ?? 0) > (totals[a] ?? 0) ? b : a),
        undefined,
      );
  return {
    bestFixed: best(() => true),
    bestSplit: best((index) => workload.options[index]?.plan.kind === 'split'),
  };
}

function runPolicies(scenario: Scenario, known: KnownOfKind, policies: readonly string[]): TraceRuns {
  const runs = new Map<string, Run>();
  const details = new Map<string, string>();
  for (const name of policies) {
    const { policy, detail } = createNamedPolicy(name, scenario, known);
    runs.set(name, { scenario, outcome: simulate(scenario, policy) });
    if (detail !== undefined) details.set(name, detail);
  }
  return { scenario, runs, details };
}

function measureGroup(
  name: string,
  deadlineMs: number,
  members: readonly TraceRuns[],
  policies: readonly string[],
): GroupResult {
  const runsOf = (policy: string): Run[] =>
    members.map(({ runs }) => runs.get(policy)).filter((run) => run !== undefined);
  const oracleQuality = policies.includes('oracle')
    ? runsOf('oracle').reduce((sum, run) => sum + sumOf(run), 0)
    : undefined;
  const results = policies.map((policy): PolicyResult => {
    const details = new Set(members.map((member) => member.details.get(policy)));
    const [detail] = details;
    return {
      policy,
      ...(details.size === 1 && detail !== undefined && { detail }),
      metrics: measureRuns(runsOf(policy), oracleQuality),
    };
  });
  return { name, deadlineMs, policies: results };
}

const sumOf = (run: Run): number => qualitiesOf(run).reduce((sum, quality) => sum + quality, 0);

// Minutes of computing must not keep Ctrl-C from being heard.
const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
