import { escapeHtml } from '../html.js';
import type { Run } from './metrics.js';

const [width, left, right] = [900, 56, 20];
const gap = 32;
// Longer traces are shown by their beginning: a dot a frame must remain a dot.
const longestMs = 120_000;

interface Panel {
  title: string;
  height: number;
  /** Values at the grid's lines, with what is written there. */
  ticks: { at: number; text: string }[];
  /** A value as a share of the height, from the bottom. */
  place(value: number): number;
  content(y: (value: number) => number): string;
}

/**
 * What happened over time, as one SVG: the capacity of the link, and of every frame the cut, the expected quality and
 * the latency, for several policies one over the other.
 */
export function renderTimeline(runs: readonly Run[], label: string): string {
  const [first] = runs;
  if (first === undefined) return '';
  const { scenario } = first;
  const endMs = Math.min(longestMs, scenario.numFrames * scenario.intervalMs);
  const x = (atMs: number): number => left + (atMs / endMs) * (width - left - right);
  const panels = [
    capacityPanel(first, endMs, x),
    cutPanel(runs, x, endMs),
    qualityPanel(runs, x, endMs),
    latencyPanel(runs, x, endMs),
  ];
  let top = 16;
  const drawn = panels.map((panel) => {
    const bottom = top + panel.height;
    const y = (value: number): number => bottom - panel.place(value) * panel.height;
    const grid = panel.ticks.map(({ at, text }) => {
      const line = y(at).toFixed(1);
      return `<line class="grid" x1="${left}" x2="${width - right}" y1="${line}" y2="${line}"/><text x="${left - 6}" y="${line}" dy="4" text-anchor="end">${text}</text>`;
    });
    const title = `<text class="title" x="${left}" y="${top - 5}">${escapeHtml(panel.title)}</text>`;
    top = bottom + gap;
    return `${title}${grid.join('')}${panel.content(y)}`;
  });
  return `<svg viewBox="0 0 ${width} ${top + 4}" role="img" aria-label="${escapeHtml(label)}">
${drawn.join('\n')}
${timeAxis(endMs, x, top)}</svg>`;
}

const dots = (className: string, points: string): string =>
  points === '' ? '' : `<path class="${className}" d="${points}"/>`;

// A stroke of no length with a round cap is a dot.
const dot = (x: number, y: number): string => `M${x.toFixed(1)} ${y.toFixed(1)}h0`;

function framePath(
  { scenario, outcome }: Run,
  endMs: number,
  draw: (frame: Run['outcome']['frames'][number], atMs: number) => string,
): string {
  const { intervalMs } = scenario;
  return outcome.frames
    .slice(0, Math.ceil(endMs / intervalMs))
    .map((frame, index) => draw(frame, index * intervalMs))
    .join('');
}

function capacityPanel({ scenario: { trace } }: Run, endMs: number, x: (atMs: number) => number): Panel {
  const binMs = Math.max(100, endMs / 800);
  const numBins = Math.max(1, Math.floor(endMs / binMs));
  const rates = Array.from(
    { length: numBins },
    (_, bin) => (8 * trace.bytesBetween(bin * binMs, (bin + 1) * binMs)) / (1000 * binMs),
  );
  const most = Math.max(1, ...rates);
  // A tenfold drop should look like one, and an outage like nothing.
  const place = (rateMbps: number): number => Math.sqrt(rateMbps / most);
  const ticks = [0, most / 16, most / 4, most].map((at) => ({ at, text: at.toPrecision(2) }));
  return {
    title: 'capacity, Mbit/s (square root)',
    height: 80,
    ticks: ticks.map((tick) => (tick.at === 0 ? { ...tick, text: '0' } : tick)),
    place,
    content: (y) => {
      const line = rates.map((rate, bin) => `L${x((bin + 0.5) * binMs).toFixed(1)} ${y(rate).toFixed(1)}`);
      const base = y(0).toFixed(1);
      return `<path class="capacity" d="M${x(0).toFixed(1)} ${base}${line.join('')}L${x(endMs).toFixed(1)} ${base}Z"/>`;
    },
  };
}

function cutPanel(runs: readonly Run[], x: (atMs: number) => number, endMs: number): Panel {
  const options = runs[0]?.scenario.workload.options ?? [];
  const lastCut = Math.max(1, ...options.map(({ deviceCut }) => deviceCut));
  return {
    title: 'cut',
    height: 84,
    ticks: Array.from({ length: lastCut + 1 }, (_, at) => ({ at, text: `${at}` })),
    place: (cut) => (cut + 0.5) / (lastCut + 1),
    // Next to each other, not one on the other.
    content: (y) =>
      runs
        .map((run, lane) =>
          dots(
            `dots p${lane}`,
            framePath(run, endMs, ({ option }, atMs) => {
              const cut = options[option]?.deviceCut;
              return cut === undefined ? '' : dot(x(atMs), y(cut + 0.3 * (lane - (runs.length - 1) / 2)));
            }),
          ),
        )
        .join(''),
  };
}

function qualityPanel(runs: readonly Run[], x: (atMs: number) => number, endMs: number): Panel {
  const options = runs[0]?.scenario.workload.options ?? [];
  return {
    title: 'expected quality of the answers in time; below: frames without one',
    height: 110,
    ticks: [0, 0.5, 0.9, 1].map((at) => ({ at, text: `${100 * at} %` })),
    // The upper half is for what matters: losing a few points.
    place: (quality) => (quality < 0 ? quality : quality ** 2 * 0.9 + 0.05),
    content: (y) =>
      runs
        .map((run, lane) => {
          const answered = framePath(run, endMs, ({ state, option }, atMs) =>
            state === 'answered' ? dot(x(atMs), y(options[option]?.quality ?? 0)) : '',
          );
          const missed = framePath(run, endMs, ({ state }, atMs) =>
            state === 'answered' ? '' : dot(x(atMs), y(0) + 7 + 5 * lane),
          );
          return dots(`dots p${lane}`, answered) + dots(`dots p${lane}`, missed);
        })
        .join(''),
  };
}

function latencyPanel(runs: readonly Run[], x: (atMs: number) => number, endMs: number): Panel {
  const deadlineMs = runs[0]?.scenario.deadlineMs ?? 1;
  return {
    title: 'latency of the answers in time, ms',
    height: 90,
    ticks: [0, deadlineMs / 2, deadlineMs].map((at) => ({ at, text: `${Math.round(at)}` })),
    place: (latencyMs) => latencyMs / deadlineMs,
    content: (y) =>
      runs
        .map((run, lane) =>
          dots(
            `dots p${lane}`,
            framePath(run, endMs, ({ state, latencyMs }, atMs) =>
              state === 'answered' ? dot(x(atMs), y(latencyMs)) : '',
            ),
          ),
        )
        .join(''),
  };
}

function timeAxis(endMs: number, x: (atMs: number) => number, y: number): string {
  const stepMs = [1, 2, 5, 10, 20, 30].map((s) => 1000 * s).find((ms) => endMs / ms <= 8) ?? 30_000;
  const texts: string[] = [];
  for (let atMs = 0; atMs <= endMs; atMs += stepMs) {
    texts.push(`<text x="${x(atMs).toFixed(1)}" y="${y - 8}" text-anchor="middle">${atMs / 1000} s</text>`);
  }
  return texts.join('');
}
