import type { Preprocess } from './manifest.js';

/**
 * Where a picture lies in the model's input. Pixel coordinates are continuous, 0 at the outer edge of the first
 * pixel: `xInImage = xInModel · scaleX + offsetX`, and likewise y.
 */
export interface FrameGeometry {
  scaleX: number;
  scaleY: number;
  offsetX: number;
  offsetY: number;
  imageWidth: number;
  imageHeight: number;
  modelWidth: number;
  modelHeight: number;
}

/** The part of the model's input that the picture covers, in whole pixels; the rest is padding. */
export interface FrameArea {
  left: number;
  top: number;
  width: number;
  height: number;
}

/**
 * How {@link preprocessImage} places a picture of that size, for mapping boxes back.
 *
 * @example
 * ```ts
 * const geometry = describeGeometry(1920, 1080, manifest.preprocess);
 * const xInImage = xInModel * geometry.scaleX + geometry.offsetX;
 * ```
 */
export function describeGeometry(
  imageWidth: number,
  imageHeight: number,
  preprocess: Pick<Preprocess, 'width' | 'height' | 'fit'>,
): FrameGeometry {
  const { width: modelWidth, height: modelHeight } = preprocess;
  const sizes = { imageWidth, imageHeight, modelWidth, modelHeight };
  if (preprocess.fit === 'cover') {
    const scale = Math.min(imageWidth / modelWidth, imageHeight / modelHeight);
    return {
      scaleX: scale,
      scaleY: scale,
      offsetX: (imageWidth - modelWidth * scale) / 2,
      offsetY: (imageHeight - modelHeight * scale) / 2,
      ...sizes,
    };
  }
  const area = coveredArea(imageWidth, imageHeight, preprocess);
  const scaleX = imageWidth / area.width;
  const scaleY = imageHeight / area.height;
  // Written so that no padding gives 0, not -0.
  return { scaleX, scaleY, offsetX: 0 - area.left * scaleX, offsetY: 0 - area.top * scaleY, ...sizes };
}

/** All of the model's input, but for `contain`, where the picture keeps its shape in the middle of it. */
export function coveredArea(
  imageWidth: number,
  imageHeight: number,
  { width, height, fit }: Pick<Preprocess, 'width' | 'height' | 'fit'>,
): FrameArea {
  if (fit !== 'contain') return { left: 0, top: 0, width, height };
  const scale = Math.min(width / imageWidth, height / imageHeight);
  const covered = {
    width: Math.min(width, Math.max(1, Math.round(imageWidth * scale))),
    height: Math.min(height, Math.max(1, Math.round(imageHeight * scale))),
  };
  return {
    left: Math.floor((width - covered.width) / 2),
    top: Math.floor((height - covered.height) / 2),
    ...covered,
  };
}
