import { escapeHtml } from '../html.js';
import { paretoHull, type RatePoint } from './bd-rate.js';

interface ChartPoint extends RatePoint {
  method: string;
  from: number;
  to: number;
  /** Shown when pointed at. */
  title: string;
}

/** A curve of others, by how much accuracy it loses. */
interface ChartReference {
  name: string;
  points: readonly RatePoint[];
}

export interface ChartOptions {
  /** The order of colours. */
  methods: readonly string[];
  points: readonly ChartPoint[];
  references: readonly ChartReference[];
  uncompressed: number;
  /** Where the axis of accuracy begins. */
  lowest: number;
  label: string;
}

const [width, height] = [900, 460];
const margin = { left: 56, right: 16, top: 12, bottom: 44 };
// Beyond this nobody competes with pictures.
const mostBpp = 32;

/** Bits per pixel (logarithmic) against accuracy, as an SVG; each method in a group of class m0, m1, … */
export function renderChart(options: ChartOptions): string {
  const { methods, points, references, uncompressed, lowest, label } = options;
  const shown = points.filter(({ accuracy, bpp }) => accuracy >= lowest && bpp <= mostBpp && bpp > 0);
  if (shown.length === 0) return '<p>No point lies here.</p>';
  const rates = shown.map(({ bpp }) => Math.log2(bpp));
  const [minRate, maxRate] = [Math.floor(Math.min(...rates)), Math.ceil(Math.max(...rates))];
  const highest =
    Math.max(uncompressed, ...shown.map(({ accuracy }) => accuracy)) + (lowest > 0 ? 0.005 : 0.02);
  const x = (bpp: number): number =>
    margin.left +
    ((Math.log2(bpp) - minRate) / (maxRate - minRate || 1)) * (width - margin.left - margin.right);
  const y = (accuracy: number): number =>
    margin.top + ((highest - accuracy) / (highest - lowest)) * (height - margin.top - margin.bottom);
  const line = (curve: readonly RatePoint[]): string =>
    curve
      .map(({ bpp, accuracy }, i) => `${i === 0 ? 'M' : 'L'}${x(bpp).toFixed(1)} ${y(accuracy).toFixed(1)}`)
      .join('');
  const groups = methods.map((method, index) => {
    // Lines come from and go to what is not shown; the inner SVG cuts them off.
    const own = points.filter((point) => point.method === method && point.bpp > 0);
    const paths = [...new Set(own.map(({ from, to }) => `${from}-${to}`))];
    const curves = paths.map((path) =>
      own.filter(({ from, to }) => `${from}-${to}` === path).sort((a, b) => a.bpp - b.bpp),
    );
    const color = `var(--m${index % 8})`;
    return `<g class="m${index}">${[
      ...(curves.length > 1 ? curves : []).map(
        (curve) => `<path class="cut" stroke="${color}" d="${line(curve)}"/>`,
      ),
      `<path class="hull" stroke="${color}" d="${line(paretoHull(own))}"/>`,
      ...shown
        .filter((point) => point.method === method)
        .map(
          ({ bpp, accuracy, title }) =>
            `<circle fill="${color}" cx="${x(bpp).toFixed(1)}" cy="${y(accuracy).toFixed(1)}" r="4"><title>${escapeHtml(title)}</title></circle>`,
        ),
    ].join('')}</g>`;
  });
  const marks = references.map(({ name, points }) => {
    const own = points.filter(({ accuracy }) => accuracy >= lowest);
    const diamonds = own.map(
      ({ bpp, accuracy }) =>
        `<path class="mark" d="M${x(bpp).toFixed(1)} ${(y(accuracy) - 5).toFixed(1)}l5 5l-5 5l-5 -5z"><title>${escapeHtml(`${name} (their figures, their data)\n${bpp.toFixed(3)} bits per pixel, ${((accuracy - uncompressed) * 100).toFixed(1)} points`)}</title></path>`,
    );
    return `<path class="reference" d="${line(own)}"/>${diamonds.join('')}`;
  });
  const right = width - margin.right;
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeHtml(label)} against bits per pixel; the tables below have the numbers">
${accuracyGrid(lowest, highest, y, right)}${rateGrid(minRate, maxRate, x)}
<line class="whole" x1="${margin.left}" x2="${right}" y1="${y(uncompressed)}" y2="${y(uncompressed)}"><title>uncompressed</title></line>
<text x="${(margin.left + right) / 2}" y="${height - 6}" text-anchor="middle">bits per pixel (logarithmic)</text>
<svg x="${margin.left - 5}" y="0" width="${right - margin.left + 10}" height="${height - margin.bottom + 5}" viewBox="${margin.left - 5} 0 ${right - margin.left + 10} ${height - margin.bottom + 5}">
${groups.join('\n')}<g class="published">${marks.join('\n')}</g></svg></svg>`;
}

function accuracyGrid(
  lowest: number,
  highest: number,
  y: (accuracy: number) => number,
  right: number,
): string {
  const step = highest - lowest > 0.3 ? 0.1 : 0.02;
  const lines: string[] = [];
  for (let i = Math.ceil(lowest / step); i * step <= highest; i++) {
    const at = y(i * step).toFixed(1);
    lines.push(
      `<line class="grid" x1="${margin.left}" x2="${right}" y1="${at}" y2="${at}"/><text x="${margin.left - 8}" y="${at}" dy="4" text-anchor="end">${Math.round(i * step * 100)} %</text>`,
    );
  }
  return lines.join('');
}

function rateGrid(minRate: number, maxRate: number, x: (bpp: number) => number): string {
  return Array.from({ length: maxRate - minRate + 1 }, (_, i) => 2 ** (minRate + i))
    .map((bpp) => {
      const at = x(bpp).toFixed(1);
      const text = bpp < 1 ? String(Number(bpp.toPrecision(2))) : bpp;
      return `<line class="grid" x1="${at}" x2="${at}" y1="${margin.top}" y2="${height - margin.bottom}"/><text x="${at}" y="${height - margin.bottom + 18}" text-anchor="middle">${text}</text>`;
    })
    .join('');
}
