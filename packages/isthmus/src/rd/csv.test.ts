import { expect, test } from 'vitest';
import { parseCsv } from './csv.js';

const cellsOf = (text: string): string[][] => parseCsv(text, 'test.csv').map(({ cells }) => cells);

test.each([
  ['plain', 'file,label\na.jpg,1\nb.jpg,2\n'],
  ['CRLF', 'file,label\r\na.jpg,1\r\nb.jpg,2\r\n'],
  ['no line break at the end', 'file,label\na.jpg,1\nb.jpg,2'],
  ['quotes', '"file","label"\n"a.jpg","1"\n"b.jpg",2\n'],
  ['spaces, empty lines and a byte order mark', '\ufefffile , label\n\na.jpg, 1\n\r\n b.jpg,2\n\n'],
])('reads records: %s', (_, text) => {
  expect(cellsOf(text)).toEqual([
    ['file', 'label'],
    ['a.jpg', '1'],
    ['b.jpg', '2'],
  ]);
});

test('quoted cells hold commas, quotes and line breaks; lines are counted', () => {
  expect(parseCsv('a,"1, ""2""\n3",\n,x\n', 'test.csv')).toEqual([
    { line: 1, cells: ['a', '1, "2"\n3', ''] },
    { line: 3, cells: ['', 'x'] },
  ]);
  expect(cellsOf('')).toEqual([]);
  expect(cellsOf('\n\n')).toEqual([]);
  expect(cellsOf('a,')).toEqual([['a', '']]);
});

test.each(['a,"b\nc', 'a,"b"c\n', 'a"b,c'])('quotes that do not fit are refused: %j', (text) => {
  expect(() => parseCsv(text, 'test.csv')).toThrow(/test.csv is not CSV/);
});
