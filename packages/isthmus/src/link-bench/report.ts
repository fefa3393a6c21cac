import { escapeHtml } from '../html.js';
import { formatMs } from '../table.js';
import { renderTimeline } from './chart.js';
import type { GroupResult, LinkBenchResult, RunMetrics } from './result.js';
import type { TraceRuns } from './run-link-bench.js';

/** What the timelines show, if it ran. */
const shownPolicies = ['controller', 'oracle'];

// A page of more is slow to open.
const maxTimelines = 24;

function chooseTimelines(traceRuns: readonly TraceRuns[]): readonly TraceRuns[] {
  if (traceRuns.length <= maxTimelines) return traceRuns;
  const seen = new Set<string>();
  return traceRuns.filter(({ scenario: { trace, deadlineMs } }) => {
    const key = `${trace.kind} ${deadlineMs}`;
    const isFirst = !seen.has(key);
    seen.add(key);
    return isFirst;
  });
}

/** Tables and timelines as one HTML page that needs nothing else: no font, no network. */
export function renderLinkReport(result: LinkBenchResult, traceRuns: readonly TraceRuns[]): string {
  const { model, byKind, overall } = result;
  const groups = byKind.length > overall.length ? [...overall, ...byKind] : overall;
  const title = `Isthmus: ${model} over ${result.traces.length} ${result.traces.length === 1 ? 'trace' : 'traces'}`;
  const timelines = chooseTimelines(traceRuns);
  const sizes = result.sizes === 'frames' ? `the sizes of ${result.pictures} pictures in turn` : 'mean sizes';
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${style}</style>
<main>
<h1>${escapeHtml(title)}</h1>
<p>${result.framesPerSecond} frames a second, ${sizes}; the device ${result.deviceSlowdown}, the cloud
${result.cloudSlowdown} times as slow as the bundle's profile; up to cut ${result.maxDeviceCut} on the device. Utility is
the expected quality of all frames, 0 for those not answered in time; regret, what is missing to the oracle, which knows
the future of the link. All policies but <code>controller</code> have every span loaded from the start.</p>
${groups.map(renderGroup).join('\n')}
<h2>Over time</h2>
<p class="legend"><i class="c0"></i>controller <i class="c1"></i>oracle</p>
${timelines.length < traceRuns.length ? `<p>The first trace of each kind, with each deadline.</p>` : ''}
${timelines.map(renderTrace).join('\n')}
<h2>Trace by trace</h2>
${result.byTrace.map((group) => `<details><summary>${escapeHtml(group.name)}, ${group.deadlineMs} ms</summary>${renderTable(group)}</details>`).join('\n')}
<p class="foot">seed ${result.seed} · ${escapeHtml(result.date)} · made by <code>isthmus bench link</code></p>
</main>
</html>
`;
}

function renderGroup(group: GroupResult): string {
  return `<h2>${escapeHtml(group.name)}, deadline ${group.deadlineMs} ms</h2>\n${renderTable(group)}`;
}

function renderTrace({ scenario, runs }: TraceRuns): string {
  const { trace, deadlineMs } = scenario;
  const shown = shownPolicies.map((name) => runs.get(name)).filter((run) => run !== undefined);
  const label = `${trace.name}, deadline ${deadlineMs} ms`;
  const rate = `${(trace.meanRateBps / 1e6).toFixed(2)} Mbit/s on average, ${trace.delayMs.toFixed(0)} ms one way`;
  return `<h3>${escapeHtml(label)}</h3><p>${rate}</p>\n${renderTimeline(shown, label)}`;
}

const percent = (share: number | null): string => (share === null ? '–' : `${(100 * share).toFixed(1)} %`);

const columns: readonly [string, (metrics: RunMetrics) => string][] = [
  ['utility', ({ utility }) => utility.toFixed(4)],
  ['regret', ({ regret }) => percent(regret)],
  ['in time', ({ hitRate }) => percent(hitRate)],
  ['quality', ({ quality }) => percent(quality)],
  ['agreement', ({ agreement }) => percent(agreement)],
  ['p50 ms', ({ latencyMs }) => (latencyMs === null ? '–' : formatMs(latencyMs.p50))],
  ['p95 ms', ({ latencyMs }) => (latencyMs === null ? '–' : formatMs(latencyMs.p95))],
  ['p99 ms', ({ latencyMs }) => (latencyMs === null ? '–' : formatMs(latencyMs.p99))],
  ['bytes a frame', ({ bytesPerFrame }) => bytesPerFrame.toFixed(0)],
  ['mJ a frame', ({ joulesPerFrame }) => (1000 * joulesPerFrame).toFixed(1)],
  ['switches', ({ switches }) => `${switches}`],
  ['longest miss', ({ longestMiss }) => `${longestMiss}`],
  ['drops', ({ drops }) => `${drops?.count ?? 0}`],
  [
    'missed in a drop',
    ({ drops }) => (drops === null ? '–' : `${drops.missedInRow.median} (${drops.missedInRow.max})`),
  ],
  [
    'back after ms',
    ({ drops }) =>
      drops === null || drops.backMs === null
        ? '–'
        : `${drops.backMs.median.toFixed(0)} (${drops.backMs.max.toFixed(0)})`,
  ],
];

function renderTable({ policies }: GroupResult): string {
  const head = ['policy', ...columns.map(([title]) => title)].map((title) => `<th>${title}</th>`).join('');
  const body = policies.map(({ policy, detail, metrics }) => {
    const name = detail === undefined ? policy : `${policy} (${detail})`;
    const cells = [name, ...columns.map(([, value]) => value(metrics))];
    return `<tr>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')}</tr>`;
  });
  return `<div class="scroll"><table><thead><tr>${head}</tr></thead><tbody>\n${body.join('\n')}\n</tbody></table></div>`;
}

const style = `
:root { color-scheme: light dark; --ink: #1c2733; --paper: #fff; --line: #d8dee5; --soft: #5b6876; --link: #c9d6e4;
  --p0: #2f6fb4; --p1: #e08e2b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e8ee; --paper: #14191f; --line: #323b46; --soft: #9aa7b5;
  --link: #2b3a4a; --p0: #5b9be0; --p1: #f0a54b; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; } h3 { font-size: 1rem; margin: 1.5rem 0 0; }
h3 + p { margin: 0 0 .5rem; color: var(--soft); font-size: .85rem; }
.legend i { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin: 0 .35em 0 1em; }
.legend .c0 { background: var(--p0); } .legend .c1 { background: var(--p1); }
svg { width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 11px; } svg .title { fill: var(--ink); }
svg .grid { stroke: var(--line); stroke-width: .75; } svg .capacity { fill: var(--link); }
svg .dots { fill: none; stroke-width: 2.6; stroke-linecap: round; opacity: .8; }
svg .p0 { stroke: var(--p0); } svg .p1 { stroke: var(--p1); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .82rem; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { color: var(--soft); font-weight: 600; }
.foot { color: var(--soft); font-size: .85rem; margin-top: 2rem; }
`;
