import { escapeHtml } from '../html.js';
import { formatMs } from '../table.js';
import { paretoHull } from './bd-rate.js';
import { renderChart } from './chart.js';
import { formatRateAt, losses, rateAt } from './rate-at.js';
import { accuracyOf, type RdPoint, type RdResult, type RdRun } from './result.js';

const metricNames: Readonly<Record<RdResult['metric'], string>> = {
  top1: 'top-1 accuracy',
  agreement: 'agreement with the uncompressed model',
  ap50: 'AP50',
};

/** The curves as one HTML page that needs nothing else: no font, no network. */
export function renderRdReport(result: RdResult): string {
  const { model, metric, points } = result;
  const uncompressed = result.uncompressed[metric === 'ap50' ? 'ap50' : 'top1'] ?? 1;
  const methods = [...new Set(points.map(({ method }) => method))];
  const chart = (title: string, lowest: number): string =>
    `<h2>${title}</h2>\n${renderChart({
      methods,
      points: points.map((point) => ({
        ...point,
        accuracy: accuracyOf(metric, point),
        title: describe(point, metric),
      })),
      references: result.published.map(({ name, uncompressed: whole, points: own }) => ({
        name,
        points: own.map(({ bpp, top1 }) => ({ bpp, accuracy: uncompressed + top1 - whole })),
      })),
      uncompressed,
      lowest,
      label: metricNames[metric],
    })}`;
  const legend = methods.map(
    (method, index) =>
      `<label><input type="checkbox" checked data-method="${index}"><i style="background:var(--m${index % 8})"></i>${escapeHtml(method)}</label>`,
  );
  if (result.published.length > 0) {
    legend.push(
      '<label><input type="checkbox" checked data-method="published"><i class="diamond"></i>published by others</label>',
    );
  }
  const skipped =
    result.skipped.length > 0 ? ` ${result.skipped.length} more could not be read and are left out.` : '';
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Isthmus: rate and accuracy of ${escapeHtml(model)}</title>
<style>${style}</style>
<main>
<h1>${escapeHtml(model)}: bits per pixel against ${metricNames[metric]}</h1>
<p>${result.images} pictures; uncompressed ${percent(uncompressed)}.${skipped} Every byte of the request packet counts,
over the pixels of the model's input. Thick: the best a method does over all its cuts (its Pareto hull). Thin: one
cut. Point at a dot for its values.</p>
<p class="legend">${legend.join('\n')}</p>
${chart('The last ten points', uncompressed - 0.1)}
${chart('All of it', 0)}
<h2>Bits per pixel for an accuracy</h2>
<p>Interpolated on each hull. ≤ where even the roughest level is better; – where no level is as good.</p>
<div class="scroll">${renderLosses(result, uncompressed)}</div>
${renderPublished(result)}
<h2>Bits saved or spent: Bjøntegaard delta rate</h2>
<p>How many more bits a method needs for the same accuracy, on average over the accuracies both reach; negative is
better.</p>
<div class="scroll">${renderRates(result)}</div>
<h2>The hulls</h2>
<div class="scroll">${renderPoints(
    methods.flatMap((method) => hullOf(points, method, metric)),
    metric,
  )}</div>
<h2>All points</h2>
<details><summary>${points.length} points</summary><div class="scroll">${renderPoints(points, metric)}</div></details>
<p class="foot">${result.runs.map((run) => escapeHtml(footOf(run, result.runs.length))).join('<br>')}<br>made by <code>isthmus bench rd</code></p>
</main>
<script>${script}</script>
</html>
`;
}

function hullOf(points: readonly RdPoint[], method: string, metric: RdResult['metric']): RdPoint[] {
  const own = points.filter((point) => point.method === method);
  return paretoHull(own.map((point) => ({ ...point, accuracy: accuracyOf(metric, point) })));
}

function describe(point: RdPoint, metric: RdResult['metric']): string {
  const accuracy = `${metricNames[metric]} ${percent(accuracyOf(metric, point))}`;
  const times = `device ${formatMs(point.deviceMs)} + encode ${formatMs(point.encodeMs)} ms, decode ${formatMs(point.decodeMs)} + cloud ${formatMs(point.cloudMs)} ms`;
  return `${point.method} ${point.name}, ${pathName(point)}\n${point.bpp.toFixed(3)} bits per pixel, ${accuracy}\n${times}`;
}

const pathName = ({ from, to }: { from: number; to: number | null }): string =>
  from === to ? `cut ${from}` : `cut ${from} → ${to}`;

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

function renderLosses({ points, metric }: RdResult, uncompressed: number): string {
  const rated = points.map((point) => ({ ...point, accuracy: accuracyOf(metric, point) }));
  const groups = new Map<string, typeof rated>();
  for (const point of rated) {
    const sameMethod = rated.filter(({ method }) => method === point.method);
    const hasPaths = sameMethod.some(({ from, to }) => from !== point.from || to !== point.to);
    groups.set(hasPaths ? `${point.method}, best of all cuts` : point.method, sameMethod);
    if (!hasPaths) continue;
    const samePath = sameMethod.filter(({ from, to }) => from === point.from && to === point.to);
    groups.set(`${point.method}, ${pathName(point)}`, samePath);
  }
  return table(
    ['method', ...losses.map((loss) => `−${100 * loss} points`)],
    [...groups].map(([name, own]) => [
      name,
      ...losses.map((loss) => formatRateAt(rateAt(own, uncompressed - loss))),
    ]),
  );
}

// By what is lost, since neither their accuracies nor their photographs are ours.
function renderPublished({ published }: RdResult): string {
  if (published.length === 0) return '';
  const rows = published.map(({ name, source, uncompressed, points }) => {
    const rated = points.map(({ bpp, top1 }) => ({ bpp, accuracy: top1 }));
    return [name, ...losses.map((loss) => formatRateAt(rateAt(rated, uncompressed - loss))), source];
  });
  const titles = ['method', ...losses.map((loss) => `−${100 * loss} points`), 'source'];
  return `<h2>What others publish</h2>
<p>Their figures, of their model on their photographs: the hollow marks. They are placed by how much accuracy is lost, and say
about where a curve would lie, no more.</p>
<div class="scroll">${table(titles, rows)}</div>`;
}

function renderRates({ bdRate }: RdResult): string {
  const anchors = [...new Set(bdRate.map(({ against }) => against))];
  const rows = new Map<string, string[]>();
  for (const { method, from, to, against, percent: value } of bdRate) {
    const name = `${method}, ${from === null ? 'best of all cuts' : pathName({ from, to })}`;
    const row = rows.get(name) ?? [name, ...anchors.map(() => '')];
    rows.set(name, row);
    row[1 + anchors.indexOf(against)] =
      value === null ? 'no overlap' : `${value > 0 ? '+' : ''}${value.toFixed(1)} %`;
  }
  return table(['method', ...anchors.map((anchor) => `against ${anchor}`)], [...rows.values()]);
}

function renderPoints(points: readonly RdPoint[], metric: RdResult['metric']): string {
  return table(
    [
      'method',
      'path',
      'level',
      'bpp',
      metric,
      'agreement',
      'device ms',
      'encode ms',
      'decode ms',
      'cloud ms',
    ],
    points.map((point) => [
      point.method,
      pathName(point),
      point.name,
      point.bpp.toFixed(3),
      percent(accuracyOf(metric, point)),
      percent(point.agreement),
      ...[point.deviceMs, point.encodeMs, point.decodeMs, point.cloudMs].map(formatMs),
    ]),
  );
}

function table(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const head = titles.map((title) => `<th>${escapeHtml(title)}</th>`).join('');
  const body = rows.map((row) => `<tr>${row.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')}</tr>`);
  return `<table><thead><tr>${head}</tr></thead><tbody>\n${body.join('\n')}\n</tbody></table>`;
}

const script = `
for (const box of document.querySelectorAll('[data-method]')) box.addEventListener('change', () => {
  for (const group of document.querySelectorAll(box.dataset.method === 'published' ? '.published' : '.m' + box.dataset.method)) group.style.display = box.checked ? '' : 'none';
});`;

const style = `
:root { color-scheme: light dark; --ink: #1c2733; --paper: #fff; --line: #d8dee5; --soft: #5b6876;
  --m0: #8a97a6; --m1: #e08e2b; --m2: #2f6fb4; --m3: #b8433f; --m4: #4d9a4a; --m5: #8d5ba6; --m6: #1d9a9a; --m7: #a58a1c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e8ee; --paper: #14191f; --line: #323b46; --soft: #9aa7b5;
  --m0: #93a0ae; --m1: #f0a54b; --m2: #5b9be0; --m3: #e6736f; --m4: #7cc279; --m5: #b98ad0; --m6: #4cc4c4; --m7: #d0b548; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.legend label { margin-right: 1rem; white-space: nowrap; cursor: pointer; }
.legend i { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin: 0 .35em; }
svg { width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 12px; }
svg .grid { stroke: var(--line); } svg .whole { stroke: var(--ink); stroke-dasharray: 5 4; }
svg path { fill: none; } svg .hull { stroke-width: 2.5; } svg .cut { stroke-width: 1; opacity: .55; }
svg circle { stroke: var(--paper); stroke-width: .75; } svg circle:hover { stroke: var(--ink); stroke-width: 2; }
svg .reference { stroke: var(--soft); stroke-dasharray: 2 4; } svg .mark { stroke: var(--ink); fill: var(--paper); }
svg .mark:hover { fill: var(--soft); }
.legend .diamond { border: 1px solid var(--ink); border-radius: 0; transform: rotate(45deg) scale(.8); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { color: var(--soft); font-weight: 600; }
.foot { color: var(--soft); font-size: .85rem; margin-top: 2rem; }
`;

function footOf({ machine, date, methods }: RdRun, numRuns: number): string {
  return `${machine} · ${date}${numRuns > 1 ? ` · ${methods.join(', ')}` : ''}`;
}
