import type { Measured, Spread } from './rounds.js';

/** A table in Markdown: one row a contender, one column a time. */
export function formatMeasured(measured: readonly Measured[]): string {
  const names = [...new Set(measured.flatMap(({ times }) => Object.keys(times)))];
  const rows = measured.map(({ name, times, ratio }) => [
    name,
    withQuartiles(times.total!),
    withQuartiles(ratio),
    ...names.slice(1).map((key) => (times[key] === undefined ? '' : format(times[key].median))),
  ]);
  const titles = ['', 'ms', 'ratio', ...names.slice(1)];
  return [titles, titles.map((_, index) => (index === 0 ? '---' : '---:')), ...rows]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n');
}

function withQuartiles({ median, low, high }: Spread): string {
  return `${format(median)} (${format(low)}–${format(high)})`;
}

function format(value: number): string {
  return value.toFixed(value < 10 ? 3 : 2);
}
