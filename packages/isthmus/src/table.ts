export interface Column<Row> {
  title: string;
  value: (row: Row) => string;
  /** @default 'left' */
  align?: 'left' | 'right';
}

/**
 * Rows as text in aligned columns, for a terminal.
 *
 * @example
 * ```ts
 * formatTable([{ n: 1 }], [{ title: 'n', value: (row) => String(row.n), align: 'right' }]);
 * ```
 */
export function formatTable<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): string {
  const cells = [
    columns.map((column) => column.title),
    ...rows.map((row) => columns.map((c) => c.value(row))),
  ];
  const widths = columns.map((_, index) => Math.max(...cells.map((line) => line[index]!.length)));
  const format = (line: string[]): string =>
    line
      .map((cell, index) =>
        columns[index]!.align === 'right' ? cell.padStart(widths[index]!) : cell.padEnd(widths[index]!),
      )
      .join('  ')
      .trimEnd();
  const rule = widths.map((width) => '─'.repeat(width)).join('  ');
  return [format(cells[0]!), rule, ...cells.slice(1).map(format)].join('\n');
}

/** A number of bytes for people: `12.3 KB` (thousands, as link rates are). */
export function formatBytes(numBytes: number): string {
  if (numBytes < 1000) return `${numBytes} B`;
  const units = ['KB', 'MB', 'GB'];
  let value = numBytes / 1000;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0)} ${units[unit]}`;
}

/** Milliseconds with a precision that suits their size. */
export function formatMs(durationMs: number): string {
  return durationMs < 10
    ? durationMs.toFixed(2)
    : durationMs < 100
      ? durationMs.toFixed(1)
      : durationMs.toFixed(0);
}
