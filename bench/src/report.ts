import type { Measured, Spread } from './rounds.js';

/** A table in Markdown: one row a contender, one column a time. */
export function formatMeasured(measured: readonly Measured[]): string {
  const names = [...new Set(measured.flatMap(({ times }) => Object.keys(times)))];
  const others = names.filter((name) => name !== 'total');
  const ratios = Object.keys(measured[0]!.ratios);
  const rows = measured.map(({ name, times, ratios: own }) => [
    name,
    withQuartiles(times.total),
    ...ratios.map((key) => withQuartiles(own[key])),
    ...others.map((key) => (times[key] === undefined ? '' : format(times[key].median))),
  ]);
  const titles = [
    '',
    'ms',
    ...ratios.map((key) => (key === 'total' ? 'ratio' : `ratio of ${key}`)),
    ...others,
  ];
  return [titles, titles.map((_, index) => (index === 0 ? '---' : '---:')), ...rows]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n');
}

function withQuartiles(spread: Spread | undefined): string {
  if (spread === undefined) return '';
  const { median, low, high } = spread;
  return `${format(median)} (${format(low)}–${format(high)})`;
}

function format(value: number): string {
  return value.toFixed(value < 10 ? 3 : 2);
}
