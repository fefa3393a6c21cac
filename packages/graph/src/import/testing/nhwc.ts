/**
 * Operators on NHWC data, written as directly as TensorFlow's documentation defines them and as slowly. What the
 * importers make of a model has to agree with these.
 */
export interface Image {
  /** Batch, height, width, channels. */
  shape: readonly [number, number, number, number];
  data: Float32Array;
}

/** Reproducible numbers between −1 and 1. */
export function noise(count: number, seed: number = 1): Float32Array {
  let state = seed * 7919 + 1;
  return Float32Array.from({ length: count }, () => {
    state = (state * 48271) % 2147483647;
    return (state / 2147483647) * 2 - 1;
  });
}

export function noiseImage(shape: Image['shape'], seed: number = 1): Image {
  return { shape, data: noise(shape[0] * shape[1] * shape[2] * shape[3], seed) };
}

/** An image from a formula; outside of another image it is undefined, which the formula has to handle. */
export function makeImage(
  shape: Image['shape'],
  pixel: (n: number, y: number, x: number, c: number) => number,
): Image {
  const [batch, height, width, channels] = shape;
  const data = new Float32Array(batch * height * width * channels);
  let at = 0;
  for (let n = 0; n < batch; n++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        for (let c = 0; c < channels; c++) data[at++] = pixel(n, y, x, c);
      }
    }
  }
  return { shape, data };
}

/** Undefined outside of the image. */
export function pixelAt(image: Image, n: number, y: number, x: number, c: number): number | undefined {
  const [, height, width, channels] = image.shape;
  if (y < 0 || x < 0 || y >= height || x >= width) return undefined;
  return image.data[((n * height + y) * width + x) * channels + c];
}

export interface Window {
  kernel: readonly [number, number];
  strides?: readonly [number, number];
  dilations?: readonly [number, number];
  padding: 'same' | 'valid';
}

/** TensorFlow's output size and first offset of a sliding window along one axis. */
function along(size: number, axis: 0 | 1, window: Window): { count: number; start: number } {
  const stride = window.strides?.[axis] ?? 1;
  const reach = (window.kernel[axis] - 1) * (window.dilations?.[axis] ?? 1) + 1;
  if (window.padding === 'valid') return { count: Math.floor((size - reach) / stride) + 1, start: 0 };
  const count = Math.ceil(size / stride);
  return { count, start: -Math.floor(Math.max((count - 1) * stride + reach - size, 0) / 2) };
}

/** Calls `combine` with the pixels under the window that lie within the image. */
function slide(
  x: Image,
  outputs: number,
  window: Window,
  combine: (
    n: number,
    o: number,
    taps: readonly { y: number; x: number; row: number; column: number }[],
  ) => number,
): Image {
  const [batch, height, width] = x.shape;
  const [vertical, horizontal] = [along(height, 0, window), along(width, 1, window)];
  return makeImage([batch, vertical.count, horizontal.count, outputs], (n, outY, outX, o) => {
    const taps = [];
    for (let row = 0; row < window.kernel[0]; row++) {
      for (let column = 0; column < window.kernel[1]; column++) {
        const y = outY * (window.strides?.[0] ?? 1) + vertical.start + row * (window.dilations?.[0] ?? 1);
        const at =
          outX * (window.strides?.[1] ?? 1) + horizontal.start + column * (window.dilations?.[1] ?? 1);
        if (y >= 0 && at >= 0 && y < height && at < width) taps.push({ y, x: at, row, column });
      }
    }
    return combine(n, o, taps);
  });
}

/** @param weight Of output o, kernel row and column, input channel i. */
export function conv2d(
  x: Image,
  outputs: number,
  weight: (o: number, row: number, column: number, i: number) => number,
  window: Window,
  bias: ArrayLike<number> = [],
): Image {
  return slide(x, outputs, window, (n, o, taps) => {
    let sum = bias[o] ?? 0;
    for (const tap of taps) {
      for (let i = 0; i < x.shape[3]; i++) {
        sum += weight(o, tap.row, tap.column, i) * pixelAt(x, n, tap.y, tap.x, i)!;
      }
    }
    return sum;
  });
}

/** @param kernel [height, width, channels, multiplier]; output c·multiplier + m comes from channel c alone. */
export function depthwise2d(
  x: Image,
  multiplier: number,
  kernel: ArrayLike<number>,
  window: Window,
  bias: ArrayLike<number> = [],
): Image {
  const channels = x.shape[3];
  const weight = (o: number, row: number, column: number, i: number) =>
    Math.floor(o / multiplier) === i
      ? kernel[((row * window.kernel[1] + column) * channels + i) * multiplier + (o % multiplier)]!
      : 0;
  return conv2d(x, channels * multiplier, weight, window, bias);
}

/** The mean of an average pool leaves out what lies outside the image. */
export function pool2d(x: Image, kind: 'mean' | 'max', window: Window): Image {
  return slide(x, x.shape[3], window, (n, c, taps) => {
    const values = taps.map((tap) => pixelAt(x, n, tap.y, tap.x, c)!);
    return kind === 'max'
      ? Math.max(...values)
      : values.reduce((sum, value) => sum + value, 0) / values.length;
  });
}

export function mapImage(x: Image, of: (value: number, channel: number) => number): Image {
  return { shape: x.shape, data: x.data.map((value, index) => of(value, index % x.shape[3])) };
}

export function padImage(x: Image, top: number, left: number, bottom: number, right: number): Image {
  const [batch, height, width, channels] = x.shape;
  return makeImage([batch, height + top + bottom, width + left + right, channels], (n, y, column, c) => {
    return pixelAt(x, n, y - top, column - left, c) ?? 0;
  });
}

/** NHWC to NCHW or back: the data of an image with its axes in ONNX's order. */
export function toNchw({ shape: [batch, height, width, channels], data }: Image): Float32Array {
  const result = new Float32Array(data.length);
  data.forEach((value, index) => {
    const c = index % channels;
    const x = Math.floor(index / channels) % width;
    const y = Math.floor(index / channels / width) % height;
    const n = Math.floor(index / channels / width / height);
    result[((n * channels + c) * height + y) * width + x] = value;
  });
  return result.subarray(0, batch * height * width * channels);
}
