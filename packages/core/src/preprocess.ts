import { IsthmusError } from './errors.js';
import { coveredArea, describeGeometry, type FrameArea } from './geometry.js';
import type { Preprocess } from './manifest.js';
import { createTensor, type Tensor } from './tensor.js';

/** Interleaved 8-bit RGB or RGBA, row by row, as ImageData and sharp's `raw()` give it. Alpha is ignored. */
export interface RawImage {
  data: Uint8Array | Uint8ClampedArray;
  width: number;
  height: number;
  channels: 3 | 4;
}

/** The grey around a picture that does not fill the input (`contain`): the middle of 0…255. */
export const paddingValue = 127.5;

/** Turns pictures into the tensor of cut 0. */
export type Preprocessor = (image: RawImage) => Tensor<'float32'>;

/**
 * The tensor of cut 0 for a picture: float32 [1, 3, height, width], channels in `colorOrder`,
 * `(pixel − mean) / std`.
 *
 * The same bits on every machine: only IEEE additions, multiplications and divisions, in a fixed order. Resizing
 * is separable with a triangle filter that widens when shrinking, as Pillow's BILINEAR
 * (https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters), but without rounding to 8 bits in
 * between. `cover` crops the centre, `contain` pads with {@link paddingValue}, `fill` stretches.
 *
 * @throws IsthmusError `image/unsupported` if sizes and data do not fit; `bundle/invalid` if the description is
 * not usable (a size or std that is not positive).
 *
 * @example
 * ```ts
 * const { data, info } = await sharp('photo.jpg').removeAlpha().raw().toBuffer({ resolveWithObject: true });
 * const frame = preprocessImage({ data, width: info.width, height: info.height, channels: 3 }, manifest.preprocess);
 * ```
 */
export function preprocessImage(image: RawImage, preprocess: Preprocess): Tensor<'float32'> {
  return createPreprocessor(preprocess)(image);
}

/**
 * {@link preprocessImage} for a stream of pictures: the filter's weights are kept while their size stays the same.
 *
 * @throws IsthmusError `bundle/invalid`; the function it returns `image/unsupported`.
 */
export function createPreprocessor(preprocess: Preprocess): Preprocessor {
  checkPreprocess(preprocess);
  let filters: FrameFilters | undefined;
  return (image) => {
    checkImage(image);
    if (filters?.imageWidth !== image.width || filters.imageHeight !== image.height) {
      filters = makeFilters(image.width, image.height, preprocess);
    }
    const { width, height, mean, std } = preprocess;
    const values = new Float32Array(3 * width * height);
    if (preprocess.fit === 'contain') values.fill(paddingValue);
    resize(image, filters, planesOf(values, preprocess), width);
    for (let channel = 0, i = 0; channel < 3; channel++) {
      const [channelMean, channelStd] = [mean[channel]!, std[channel]!];
      for (const end = i + width * height; i < end; i++) values[i] = (values[i]! - channelMean) / channelStd;
    }
    return createTensor('float32', [1, 3, height, width], values);
  };
}

/** For each pixel of one axis of the output: which pixels of the input it is made of, and how much of each. */
interface AxisFilter {
  starts: Int32Array;
  /** One behind the last. */
  ends: Int32Array;
  /** Where the pixel's weights begin in `weights`. */
  offsets: Int32Array;
  weights: Float64Array;
}

interface FrameFilters {
  imageWidth: number;
  imageHeight: number;
  area: FrameArea;
  x: AxisFilter;
  y: AxisFilter;
}

function makeFilters(imageWidth: number, imageHeight: number, preprocess: Preprocess): FrameFilters {
  const area = coveredArea(imageWidth, imageHeight, preprocess);
  const geometry = describeGeometry(imageWidth, imageHeight, preprocess);
  // Where the covered area begins in the picture; not 0 when `cover` crops.
  const cropX = geometry.offsetX + area.left * geometry.scaleX;
  const cropY = geometry.offsetY + area.top * geometry.scaleY;
  return {
    imageWidth,
    imageHeight,
    area,
    x: makeAxisFilter(imageWidth, area.width, geometry.scaleX, cropX),
    y: makeAxisFilter(imageHeight, area.height, geometry.scaleY, cropY),
  };
}

function makeAxisFilter(inputSize: number, outputSize: number, scale: number, crop: number): AxisFilter {
  // The triangle's half width: one pixel of the input or of the output, whichever is larger.
  const reach = Math.max(1, scale);
  const filter: AxisFilter = {
    starts: new Int32Array(outputSize),
    ends: new Int32Array(outputSize),
    offsets: new Int32Array(outputSize),
    weights: new Float64Array(outputSize * (2 * Math.ceil(reach) + 1)),
  };
  let offset = 0;
  for (let i = 0; i < outputSize; i++) {
    const center = crop + (i + 0.5) * scale;
    const weightOf = (pixel: number): number => Math.max(0, 1 - Math.abs(pixel + 0.5 - center) / reach);
    let start = Math.max(0, Math.floor(center - reach));
    let end = Math.min(inputSize, Math.ceil(center + reach));
    while (start < end - 1 && weightOf(start) === 0) start++;
    while (end > start + 1 && weightOf(end - 1) === 0) end--;
    let sum = 0;
    for (let pixel = start; pixel < end; pixel++) sum += weightOf(pixel);
    filter.starts[i] = start;
    filter.ends[i] = end;
    filter.offsets[i] = offset;
    for (let pixel = start; pixel < end; pixel++) filter.weights[offset++] = weightOf(pixel) / sum;
  }
  return filter;
}

// Each row of the picture that matters is shrunk sideways once and added, weighted, to the rows it belongs to. So
// no picture in between is kept, however large the input.
function resize(
  image: RawImage,
  filters: FrameFilters,
  planes: readonly Float32Array[],
  stride: number,
): void {
  const { area, x, y } = filters;
  const { channels } = image;
  // One array type keeps the inner loop compiled for it.
  const pixels = new Uint8Array(image.data.buffer, image.data.byteOffset, image.data.byteLength);
  const rows = planes.map(() => new Float64Array(area.width));
  const sums = planes.map(() => new Float64Array(area.width * area.height));
  let first = 0;
  for (let row = y.starts[0]!; row < y.ends[area.height - 1]!; row++) {
    shrinkRow(pixels, row * image.width * channels, channels, x, rows);
    while (y.ends[first]! <= row) first++;
    for (let i = first; i < area.height && y.starts[i]! <= row; i++) {
      const weight = y.weights[y.offsets[i]! + row - y.starts[i]!]!;
      for (let plane = 0; plane < 3; plane++) {
        addWeighted(sums[plane]!, i * area.width, rows[plane]!, weight);
      }
    }
  }
  for (let plane = 0; plane < 3; plane++) {
    for (let i = 0; i < area.height; i++) {
      const line = sums[plane]!.subarray(i * area.width, (i + 1) * area.width);
      planes[plane]!.set(line, (area.top + i) * stride + area.left);
    }
  }
}

function shrinkRow(
  pixels: Uint8Array,
  rowOffset: number,
  channels: number,
  filter: AxisFilter,
  [reds, greens, blues]: readonly Float64Array[],
): void {
  const { starts, ends, offsets, weights } = filter;
  for (let i = 0; i < starts.length; i++) {
    let red = 0;
    let green = 0;
    let blue = 0;
    let position = rowOffset + starts[i]! * channels;
    const last = offsets[i]! + ends[i]! - starts[i]!;
    for (let tap = offsets[i]!; tap < last; tap++, position += channels) {
      const weight = weights[tap]!;
      red += weight * pixels[position]!;
      green += weight * pixels[position + 1]!;
      blue += weight * pixels[position + 2]!;
    }
    reds![i] = red;
    greens![i] = green;
    blues![i] = blue;
  }
}

function addWeighted(sums: Float64Array, offset: number, row: Float64Array, weight: number): void {
  for (let i = 0; i < row.length; i++) sums[offset + i]! += weight * row[i]!;
}

// The tensor's planes in the order red, green, blue.
function planesOf(values: Float32Array, { width, height, colorOrder }: Preprocess): Float32Array[] {
  const planes = [0, 1, 2].map((index) =>
    values.subarray(index * width * height, (index + 1) * width * height),
  );
  return colorOrder === 'bgr' ? planes.reverse() : planes;
}

function checkImage({ data, width, height, channels }: RawImage): void {
  const isSize = (size: number): boolean => Number.isSafeInteger(size) && size > 0;
  if (!isSize(width) || !isSize(height) || (channels !== 3 && channels !== 4)) {
    throw new IsthmusError(
      'image/unsupported',
      `An image needs at least one pixel, and 3 or 4 channels; this one is ${width}×${height}×${channels}.`,
      { details: { width, height, channels } },
    );
  }
  const isBytes = data instanceof Uint8Array || data instanceof Uint8ClampedArray;
  if (!isBytes || data.length !== width * height * channels) {
    throw new IsthmusError(
      'image/unsupported',
      `An image of ${width}×${height}×${channels} takes a Uint8Array of ${width * height * channels} values, ` +
        `not ${isBytes ? data.length : 'something else'}. Are the channels right?`,
      { details: { width, height, channels } },
    );
  }
}

function checkPreprocess({ width, height, mean, std }: Preprocess): void {
  const usable =
    [width, height].every((size) => Number.isSafeInteger(size) && size > 0) &&
    mean.every(Number.isFinite) &&
    std.every((value) => Number.isFinite(value) && value !== 0);
  if (!usable) {
    throw new IsthmusError(
      'bundle/invalid',
      `No picture can be made to fit ${width}×${height}, mean [${mean}], std [${std}].`,
    );
  }
}
