import type { Preprocess } from '@isthmus/core';

/** How small models made for tests take square pictures. */
export function squarePictures(side: number): Preprocess {
  return {
    width: side,
    height: side,
    colorOrder: 'rgb',
    fit: 'cover',
    mean: [127, 127, 127],
    std: [128, 128, 128],
  };
}
