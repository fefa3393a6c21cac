import { readFile } from 'node:fs/promises';
import { IsthmusError } from '@isthmus/core';
import type { Box } from './average-precision.js';
import { type CsvRecord, parseCsv } from './csv.js';

/** What a picture shows, by its path in the folder of pictures. */
export type Labels = ReadonlyMap<string, number>;

/** Objects in a picture, in its pixels, by its path in the folder of pictures. */
export type BoxLists = ReadonlyMap<string, readonly Box[]>;

/**
 * Reads `file,label` with a header; further columns are ignored.
 *
 * @param numClasses Labels are 0 … numClasses − 1.
 * @throws IsthmusError `usage/invalid`, naming the line
 */
export async function readLabels(path: string, numClasses: number): Promise<Labels> {
  const labels = new Map<string, number>();
  for (const { line, cells } of await readRecords(path, ['file', 'label'])) {
    const file = normalizePath(cells[0]!);
    const label = /^\d+$/.test(cells[1]!) ? Number(cells[1]) : -1;
    if (label < 0 || label >= numClasses) {
      throw wrong(path, line, `"${cells[1]}" is no class; they are 0 to ${numClasses - 1}`);
    }
    if ((labels.get(file) ?? label) !== label) throw wrong(path, line, `${file} has two labels`);
    labels.set(file, label);
  }
  return labels;
}

/**
 * Reads `file,label,x,y,width,height` with a header: a line per object, its top left corner and size in the
 * picture's pixels. The label is a class's name or index. A picture that shows nothing is a line with its name alone.
 *
 * @throws IsthmusError `usage/invalid`, naming the line
 */
export async function readBoxes(path: string, classes: readonly string[]): Promise<BoxLists> {
  const boxes = new Map<string, Box[]>();
  for (const { line, cells } of await readRecords(path, ['file', 'label', 'x', 'y', 'width', 'height'])) {
    const file = normalizePath(cells[0]!);
    const list = boxes.get(file) ?? [];
    boxes.set(file, list);
    if (cells.slice(1).every((cell) => cell === '')) continue;
    const index = /^\d+$/.test(cells[1]!) ? Number(cells[1]) : classes.indexOf(cells[1]!);
    if (index < 0 || index >= classes.length) throw wrong(path, line, `there is no class "${cells[1]}"`);
    const numbers = cells.slice(2, 6).map((cell) => (cell === '' ? Number.NaN : Number(cell)));
    const [x, y, width, height] = numbers as [number, number, number, number];
    if (!numbers.every(Number.isFinite) || width <= 0 || height <= 0) {
      throw wrong(path, line, 'x, y, width and height are numbers, and the sizes positive');
    }
    list.push({ index, x, y, width, height });
  }
  return boxes;
}

/** Paths as both lists and folders have them. */
export function normalizePath(path: string): string {
  return path.replaceAll('\\', '/').replace(/^(\.\/)+/, '');
}

async function readRecords(path: string, columns: readonly string[]): Promise<CsvRecord[]> {
  const text = await readFile(path, 'utf8').catch((cause) => {
    throw new IsthmusError('usage/invalid', `${path} cannot be read.`, { cause });
  });
  const [header, ...records] = parseCsv(text, path);
  const named = columns.every((column, index) => header?.cells[index]?.toLowerCase() === column);
  if (!named || records.length === 0) {
    throw new IsthmusError(
      'usage/invalid',
      `${path} must start with a line of column names, ${columns.join(',')}, and have lines below it.`,
    );
  }
  for (const { line, cells } of records) {
    if (cells[0] === '') throw wrong(path, line, 'there is no file name');
    while (cells.length < columns.length) cells.push('');
  }
  return records;
}

function wrong(path: string, line: number, what: string): IsthmusError {
  return new IsthmusError('usage/invalid', `${path}, line ${line}: ${what}.`);
}
