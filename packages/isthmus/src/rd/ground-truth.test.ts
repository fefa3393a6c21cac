import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readBoxes, readLabels } from './ground-truth.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'isthmus-truth-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function file(text: string): Promise<string> {
  const path = join(folder, 'truth.csv');
  await writeFile(path, text);
  return path;
}

test('labels: two columns count, paths are made alike', async () => {
  const path = await file('file,label,wnid\r\n"a, b.jpg",0,n01\r\n./birds\\c.jpg,999,n02\r\n');
  expect([...(await readLabels(path, 1000))]).toEqual([
    ['a, b.jpg', 0],
    ['birds/c.jpg', 999],
  ]);
});

test.each([
  ['file,label\na.jpg,1000\n', /line 2: "1000" is no class; they are 0 to 999/],
  ['file,label\na.jpg,1\nb.jpg,-1\n', /line 3/],
  ['file,label\na.jpg,tench\n', /"tench" is no class/],
  ['file,label\na.jpg\n', /line 2/],
  ['file,label\na.jpg,1\na.jpg,2\n', /line 3: a.jpg has two labels/],
  ['file,label\n,2\n', /no file name/],
  ['a.jpg,1\nb.jpg,2\n', /must start with a line of column names, file,label/],
  ['file,label\n', /have lines below/],
  ['', /must start/],
])('labels that are wrong: %j', async (text, message) => {
  await expect(readLabels(await file(text), 1000)).rejects.toMatchObject({
    code: 'usage/invalid',
    message: expect.stringMatching(message),
  });
});

test('boxes: by name or index, several to a picture, or none', async () => {
  const path = await file(
    'file,label,x,y,width,height\na.jpg,dog,1,2,30,40\na.jpg,0,5.5,6,7,8\nempty.jpg\nb.jpg,1,0,0,1,1,extra\n',
  );
  const boxes = await readBoxes(path, ['cat', 'dog']);
  expect(boxes.get('a.jpg')).toEqual([
    { index: 1, x: 1, y: 2, width: 30, height: 40 },
    { index: 0, x: 5.5, y: 6, width: 7, height: 8 },
  ]);
  expect(boxes.get('empty.jpg')).toEqual([]);
  expect(boxes.get('b.jpg')).toHaveLength(1);
});

test.each([
  ['a.jpg,wolf,1,2,3,4', /there is no class "wolf"/],
  ['a.jpg,2,1,2,3,4', /there is no class "2"/],
  ['a.jpg,dog,1,2,3', /line 2: x, y, width and height are numbers/],
  ['a.jpg,dog,1,2,0,4', /positive/],
])('boxes that are wrong: %s', async (line, message) => {
  const path = await file(`file,label,x,y,width,height\n${line}\n`);
  await expect(readBoxes(path, ['cat', 'dog'])).rejects.toMatchObject({
    code: 'usage/invalid',
    message: expect.stringMatching(message),
  });
});

test('a file that is not there is named', async () => {
  await expect(readLabels(join(folder, 'nothing.csv'), 10)).rejects.toMatchObject({ code: 'usage/invalid' });
});
