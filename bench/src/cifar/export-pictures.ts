import { mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { cifarSize, type LabelledPictures, pictureBytes } from './data.js';

const atOnce = 64;

/** Pictures as PNG files 00000.png, 00001.png … of a folder, and `FOLDER.csv` with their labels, for `isthmus bench rd`. */
export async function exportPictures(folder: string, { pixels, labels }: LabelledPictures): Promise<void> {
  const csv = `${folder}.csv`;
  // Written last: where it is, all are.
  if (await exists(csv)) return;
  await mkdir(folder, { recursive: true });
  const names = Array.from(labels, (_, index) => `${String(index).padStart(5, '0')}.png`);
  const raw = { width: cifarSize, height: cifarSize, channels: 3 } as const;
  for (let start = 0; start < names.length; start += atOnce) {
    const some = names.slice(start, start + atOnce).map((name, offset) => {
      const from = (start + offset) * pictureBytes;
      return sharp(pixels.subarray(from, from + pictureBytes), { raw })
        .png()
        .toFile(join(folder, name));
    });
    await Promise.all(some);
  }
  const lines = names.map((name, index) => `${name},${labels[index]}`);
  await writeFile(csv, `file,label\n${lines.join('\n')}\n`);
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
