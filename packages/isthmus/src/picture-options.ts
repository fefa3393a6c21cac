import { IsthmusError, type Preprocess } from '@isthmus/core';

/** Usual ways from 8-bit pixels to numbers. */
export const picturePresets = ['imagenet', 'unit', 'signed', 'bytes', 'bgr-bytes', 'caffe'] as const;
export type PicturePreset = (typeof picturePresets)[number];

type Normalization = Pick<Preprocess, 'colorOrder' | 'mean' | 'std'>;

const normalizations: Readonly<Record<PicturePreset, Normalization>> = {
  // torchvision's models.
  imagenet: { colorOrder: 'rgb', mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375] },
  // 0…1.
  unit: { colorOrder: 'rgb', mean: [0, 0, 0], std: [255, 255, 255] },
  // −1…1, as TensorFlow's MobileNets.
  signed: { colorOrder: 'rgb', mean: [127.5, 127.5, 127.5], std: [127.5, 127.5, 127.5] },
  // 0…255.
  bytes: { colorOrder: 'rgb', mean: [0, 0, 0], std: [1, 1, 1] },
  // 0…255 in BGR, as YOLOX.
  'bgr-bytes': { colorOrder: 'bgr', mean: [0, 0, 0], std: [1, 1, 1] },
  // Keras' ResNet-50 and VGG.
  caffe: { colorOrder: 'bgr', mean: [103.939, 116.779, 123.68], std: [1, 1, 1] },
};

export function picturePreset(
  preset: PicturePreset,
  width: number,
  height: number,
  fit: Preprocess['fit'],
): Preprocess {
  return { width, height, fit, ...normalizations[preset] };
}

/**
 * Shapes given as `images=1x3x640x640`.
 *
 * @throws IsthmusError `usage/invalid`
 */
export function parseInputShapes(
  given: string | readonly string[] | undefined,
): Record<string, number[]> | undefined {
  if (given === undefined) return undefined;
  return Object.fromEntries(
    [given].flat().map((one) => {
      const match = /^(.+)=(\d+(?:x\d+)*)$/.exec(one);
      if (match === null) {
        throw new IsthmusError('usage/invalid', `--input-shape looks like images=1x3x640x640, not "${one}".`);
      }
      return [match[1]!, match[2]!.split('x').map(Number)];
    }),
  );
}
