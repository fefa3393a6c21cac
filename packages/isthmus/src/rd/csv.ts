import { IsthmusError } from '@isthmus/core';

/** A record of a CSV file, and the line it began on, for messages. */
export interface CsvRecord {
  line: number;
  cells: string[];
}

/**
 * The records of a CSV file (RFC 4180), its header first: cells in double quotes may hold commas, line breaks and
 * doubled quotes; lines end in LF or CRLF; a byte order mark and empty lines are skipped.
 *
 * @throws IsthmusError `usage/invalid` for quotes that do not close, or text behind one that did
 */
export function parseCsv(text: string, name: string): CsvRecord[] {
  const records: CsvRecord[] = [];
  // A cell, quoted or not, and what ends it.
  const cell = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n|\n|\r|$)/y;
  cell.lastIndex = text.startsWith('\ufeff') ? 1 : 0;
  let line = 1;
  let record: CsvRecord = { line, cells: [] };
  while (cell.lastIndex < text.length) {
    const start = cell.lastIndex;
    const match = cell.exec(text);
    if (match === null) {
      throw new IsthmusError('usage/invalid', `${name} is not CSV: a wrong quotation mark in line ${line}.`);
    }
    const [whole, quoted, plain, end] = match;
    record.cells.push(quoted === undefined ? plain!.trim() : quoted.replaceAll('""', '"'));
    line += whole.match(/\r\n|\n|\r/g)?.length ?? 0;
    const isLast = cell.lastIndex >= text.length || cell.lastIndex === start;
    if (end === ',' && !isLast) continue;
    if (end === ',') record.cells.push('');
    if (record.cells.some((value) => value !== '')) records.push(record);
    record = { line, cells: [] };
  }
  return records;
}
