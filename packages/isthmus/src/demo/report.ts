import { escapeHtml } from '../html.js';
import { formatBytes, formatMs } from '../table.js';
import type { DemoResult, PlanSummary } from './result.js';

interface Stage {
  name: string;
  css: string;
  value: (plan: PlanSummary) => number;
}

const stages: readonly Stage[] = [
  { name: 'picture', css: 'picture', value: (plan) => plan.pictureMs },
  { name: 'device', css: 'device', value: (plan) => plan.deviceMs },
  { name: 'encode', css: 'encode', value: (plan) => plan.encodeMs },
  { name: 'link', css: 'link', value: (plan) => plan.linkMs },
  { name: 'cloud', css: 'cloud', value: (plan) => plan.cloudMs },
];

/** The demo's result as one HTML page that needs nothing else: no script, no font, no network. */
export function renderReport(result: DemoResult): string {
  const { model, uplink } = result;
  const rate = Number.isFinite(uplink.rateBps) ? `${(uplink.rateBps / 1e6).toFixed(1)} Mbit/s` : 'unlimited';
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Isthmus: ${escapeHtml(model)} split at every cut</title>
<style>${style}</style>
<main>
<h1>${escapeHtml(model)}, split at every cut</h1>
<p>${result.photos.length} photographs, each run with ${result.plans.length} plans across a real WebSocket, through an
uplink of ${rate} with ${uplink.delayMs} ms delay each way. The unsplit model takes ${formatMs(result.wholeModelMs)} ms
on this machine. Times are medians, bytes and bits per pixel are means.</p>
<h2>Where the time of a frame goes</h2>
<p class="legend">${stages.map((stage) => `<span><i class="${stage.css}"></i>${stage.name}</span>`).join(' ')}</p>
${renderBars(result.plans)}
<h2>Rate against agreement with the unsplit model</h2>
${renderScatter(result.plans)}
<h2>All plans</h2>
<div class="scroll">${renderPlans(result.plans)}</div>
<h2>The cuts</h2>
<div class="scroll">${renderCuts(result)}</div>
<h2>The photographs</h2>
<div class="scroll">${renderPhotos(result)}</div>
<p class="foot">${escapeHtml(result.machine)} · ${escapeHtml(result.date)} · made by <code>isthmus demo</code></p>
</main>
</html>
`;
}

function renderBars(plans: readonly PlanSummary[]): string {
  const longest = Math.max(...plans.map(sumOfStages));
  const rows = plans.map((plan) => {
    const parts = stages
      .map(({ css, name, value }) => {
        const width = (100 * value(plan)) / longest;
        return `<span class="${css}" style="width:${width.toFixed(2)}%" title="${name}: ${formatMs(value(plan))} ms"></span>`;
      })
      .join('');
    return `<div class="row"><span class="name">${escapeHtml(plan.name)}</span><span class="bar">${parts}</span><span class="number">${formatMs(plan.totalMs)} ms</span></div>`;
  });
  return `<div class="bars" role="img" aria-label="Milliseconds by stage for each plan; the table below has the numbers">${rows.join('\n')}</div>`;
}

function sumOfStages(plan: PlanSummary): number {
  return stages.reduce((sum, stage) => sum + stage.value(plan), 0);
}

// The stages' colours, taken up again for codecs.
const colors = ['link', 'device', 'encode', 'cloud', 'picture'] as const;

function renderScatter(plans: readonly PlanSummary[]): string {
  const sent = plans.filter((plan) => plan.bitsPerPixel > 0);
  const width = 720;
  const height = 320;
  const margin = { left: 52, right: 16, top: 12, bottom: 40 };
  const logs = sent.map((plan) => Math.log10(plan.bitsPerPixel));
  const low = Math.floor(Math.min(...logs) * 2) / 2;
  const high = Math.ceil(Math.max(...logs) * 2) / 2;
  const x = (bitsPerPixel: number): number =>
    margin.left +
    ((Math.log10(bitsPerPixel) - low) / (high - low || 1)) * (width - margin.left - margin.right);
  const y = (share: number): number => margin.top + (1 - share) * (height - margin.top - margin.bottom);
  const grid = [0, 0.25, 0.5, 0.75, 1].map(
    (share) =>
      `<line class="grid" x1="${margin.left}" x2="${width - margin.right}" y1="${y(share)}" y2="${y(share)}"/><text x="${margin.left - 8}" y="${y(share) + 4}" text-anchor="end">${share * 100} %</text>`,
  );
  const ticks = Array.from({ length: Math.round((high - low) * 2) + 1 }, (_, i) => 10 ** (low + i / 2)).map(
    (value) =>
      `<text x="${x(value).toFixed(1)}" y="${height - margin.bottom + 18}" text-anchor="middle">${value < 10 ? value.toPrecision(2) : value.toFixed(0)}</text>`,
  );
  const codecs = [...new Set(sent.map(({ codec }) => codec))];
  const cssOf = (codec: string): string => colors[codecs.indexOf(codec) % colors.length]!;
  const points = sent.map((plan) => {
    const share = plan.agreeing / plan.frames;
    const what = `${plan.name}: ${plan.bitsPerPixel.toFixed(2)} bits per pixel, ${plan.agreeing} of ${plan.frames} agree`;
    return `<circle class="${cssOf(plan.codec)}" cx="${x(plan.bitsPerPixel).toFixed(1)}" cy="${y(share).toFixed(1)}" r="5"><title>${escapeHtml(what)}</title></circle>`;
  });
  const legend = codecs.map((codec) => `<span><i class="${cssOf(codec)}"></i>${escapeHtml(codec)}</span>`);
  return `<p class="legend">${legend.join(' ')}</p>
<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="Share of frames whose class agrees, against bits per pixel">
${grid.join('')}${ticks.join('')}<text x="${(width + margin.left) / 2}" y="${height - 4}" text-anchor="middle">bits per pixel (logarithmic)</text>
${points.join('\n')}</svg>`;
}

function renderPlans(plans: readonly PlanSummary[]): string {
  return table(
    [
      'plan',
      'bytes',
      'bits per pixel',
      'picture ms',
      'device ms',
      'encode ms',
      'link ms',
      'cloud ms',
      'total ms',
      'agree',
    ],
    plans.map((plan) => [
      plan.name,
      formatBytes(Math.round(plan.numBytes)),
      plan.bitsPerPixel.toFixed(2),
      ...[plan.pictureMs, plan.deviceMs, plan.encodeMs, plan.linkMs, plan.cloudMs, plan.totalMs].map(
        formatMs,
      ),
      `${plan.agreeing} of ${plan.frames}`,
    ]),
  );
}

function renderCuts(result: DemoResult): string {
  return table(
    ['cut', 'tensors', 'bytes'],
    result.cuts.map((cut) => [String(cut.index), cut.tensors, formatBytes(cut.numBytes)]),
  );
}

function renderPhotos(result: DemoResult): string {
  return table(
    ['photograph', 'unsplit model', 'score'],
    result.photos.map((photo) => [photo.name, photo.label, photo.score.toFixed(3)]),
  );
}

function table(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const head = titles.map((title) => `<th>${escapeHtml(title)}</th>`).join('');
  const body = rows.map((row) => `<tr>${row.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')}</tr>`);
  return `<table><thead><tr>${head}</tr></thead><tbody>\n${body.join('\n')}\n</tbody></table>`;
}

const style = `
:root { color-scheme: light dark; --ink: #1c2733; --paper: #fff; --line: #d8dee5; --soft: #5b6876;
  --picture: #8a97a6; --device: #2f6fb4; --encode: #7fb069; --link: #e08e2b; --cloud: #8d5ba6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e8ee; --paper: #14191f; --line: #323b46; --soft: #9aa7b5;
  --picture: #6f7c8a; --device: #5b9be0; --encode: #93c47d; --link: #f0a54b; --cloud: #b488cc; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.bars .row { display: grid; grid-template-columns: 13rem 1fr 5.5rem; gap: .75rem; align-items: center; }
.bar { display: flex; height: 1rem; } .bar span { min-width: 0; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.picture { background: var(--picture); } .device { background: var(--device); fill: var(--device); } .encode { background: var(--encode); }
.link { background: var(--link); fill: var(--link); } .cloud { background: var(--cloud); }
.legend span { margin-right: 1rem; } .legend i { display: inline-block; width: .8rem; height: .8rem; margin-right: .35rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 12px; } .grid { stroke: var(--line); }
circle { fill-opacity: .75; stroke: var(--paper); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); white-space: nowrap;
  font-variant-numeric: tabular-nums; } th { color: var(--soft); font-weight: 600; }
.foot { color: var(--soft); margin-top: 2rem; }
@media (max-width: 40rem) { .bars .row { grid-template-columns: 1fr 4.5rem; } .bars .name { grid-column: 1 / -1; } }
`;
