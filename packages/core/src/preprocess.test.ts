import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sha256Hex } from './bytes.js';
import { describeGeometry } from './geometry.js';
import type { Preprocess } from './manifest.js';
import { createPreprocessor, preprocessImage, type RawImage } from './preprocess.js';
import { tensorToBytes } from './tensor.js';

// Pixel values straight through, unless said otherwise.
function preprocess(width: number, height: number, rest: Partial<Preprocess> = {}): Preprocess {
  return { width, height, fit: 'fill', colorOrder: 'rgb', mean: [0, 0, 0], std: [1, 1, 1], ...rest };
}

// Red, green and blue get the same values.
function greyImage(width: number, height: number, values: readonly number[]): RawImage {
  return { data: Uint8Array.from(values.flatMap((v) => [v, v, v])), width, height, channels: 3 };
}

function noiseImage(width: number, height: number, channels: 3 | 4): RawImage {
  const data = new Uint8Array(width * height * channels);
  for (let i = 0, state = 1; i < data.length; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    data[i] = state >>> 24;
  }
  return { data, width, height, channels };
}

function plane(image: RawImage, options: Preprocess, index = 0): number[] {
  const { data } = preprocessImage(image, options);
  const size = options.width * options.height;
  return Array.from(data.subarray(index * size, (index + 1) * size));
}

// The triangle filter as it is defined, for one output pixel at once and the whole picture, without any shortcut.
function filterByDefinition(image: RawImage, options: Preprocess, channel: number): number[] {
  const geometry = describeGeometry(image.width, image.height, options);
  const weightsAlong = (size: number, center: number, scale: number): number[] => {
    const reach = Math.max(1, scale);
    const weights = Array.from({ length: size }, (_, i) =>
      Math.max(0, 1 - Math.abs(i + 0.5 - center) / reach),
    );
    const sum = weights.reduce((a, b) => a + b);
    return weights.map((weight) => weight / sum);
  };
  const result: number[] = [];
  for (let y = 0; y < options.height; y++) {
    const down = weightsAlong(image.height, (y + 0.5) * geometry.scaleY + geometry.offsetY, geometry.scaleY);
    for (let x = 0; x < options.width; x++) {
      const across = weightsAlong(
        image.width,
        (x + 0.5) * geometry.scaleX + geometry.offsetX,
        geometry.scaleX,
      );
      let value = 0;
      down.forEach((wy, row) => {
        across.forEach((wx, column) => {
          value += wy * wx * image.data[(row * image.width + column) * image.channels + channel]!;
        });
      });
      result.push(value);
    }
  }
  return result;
}

const sizes = fc.integer({ min: 1, max: 24 });

describe('preprocessing', () => {
  it('keeps a picture of the right size, exactly', () => {
    const image = noiseImage(7, 5, 3);
    const tensor = preprocessImage(image, preprocess(7, 5));
    expect(tensor).toMatchObject({ type: 'float32', shape: [1, 3, 5, 7] });
    for (let i = 0; i < 35; i++) {
      for (let c = 0; c < 3; c++) expect(tensor.data[c * 35 + i]).toBe(image.data[i * 3 + c]);
    }
  });

  it('halves with the weights 3, 3, 1', () => {
    // Centre at 1, pixel centres at 0.5, 1.5, 2.5, reach 2: weights 0.75, 0.75, 0.25.
    expect(plane(greyImage(4, 1, [0, 0, 0, 70]), preprocess(2, 1))).toEqual([0, 30]);
    expect(plane(greyImage(1, 4, [70, 0, 0, 0]), preprocess(1, 2))).toEqual([30, 0]);
  });

  it('doubles by interpolation', () => {
    expect(plane(greyImage(2, 1, [0, 100]), preprocess(4, 1))).toEqual([0, 25, 75, 100]);
  });

  it('follows the definition of the filter at any size', () => {
    fc.assert(
      fc.property(
        sizes,
        sizes,
        sizes,
        sizes,
        fc.constantFrom<3 | 4>(3, 4),
        fc.constantFrom<'cover' | 'fill'>('cover', 'fill'),
        (imageWidth, imageHeight, width, height, channels, fit) => {
          const image = noiseImage(imageWidth, imageHeight, channels);
          const options = preprocess(width, height, { fit });
          for (const channel of [0, 1, 2]) {
            const expected = filterByDefinition(image, options, channel);
            plane(image, options, channel).forEach((value, i) => {
              expect(value).toBeCloseTo(expected[i]!, 3);
            });
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it('keeps a flat picture flat', () => {
    fc.assert(
      fc.property(
        sizes,
        sizes,
        sizes,
        sizes,
        fc.integer({ min: 0, max: 255 }),
        (w, h, width, height, value) => {
          const image = greyImage(w, h, new Array(w * h).fill(value));
          for (const result of plane(image, preprocess(width, height))) expect(result).toBeCloseTo(value, 4);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('turns with the picture: flipping before and after is the same', () => {
    fc.assert(
      fc.property(sizes, sizes, sizes, (w, h, size) => {
        const image = noiseImage(w, h, 3);
        const flipped: RawImage = { ...image, data: new Uint8Array(image.data.length) };
        for (let i = 0; i < w * h; i++) {
          const from = (i - (i % w) + (w - 1 - (i % w))) * 3;
          flipped.data.set(image.data.subarray(from, from + 3), i * 3);
        }
        const options = preprocess(size, size);
        const straight = plane(image, options);
        plane(flipped, options).forEach((value, i) => {
          expect(value).toBeCloseTo(straight[i - (i % size) + (size - 1 - (i % size))]!, 3);
        });
      }),
      { numRuns: 40 },
    );
  });

  it('crops the centre to cover', () => {
    const image = greyImage(4, 2, [1, 2, 3, 4, 5, 6, 7, 8]);
    expect(plane(image, preprocess(2, 2, { fit: 'cover' }))).toEqual([2, 3, 6, 7]);
  });

  it('pads with grey to contain', () => {
    const image = greyImage(4, 2, [1, 2, 3, 4, 5, 6, 7, 8]);
    const grey = [127.5, 127.5, 127.5, 127.5];
    const contain = preprocess(4, 4, { fit: 'contain' });
    expect(plane(image, contain)).toEqual([...grey, 1, 2, 3, 4, 5, 6, 7, 8, ...grey]);
    const normalized = { ...contain, mean: [127.5, 127.5, 127.5] as [number, number, number] };
    expect(plane(image, normalized).slice(0, 5)).toEqual([0, 0, 0, 0, -126.5]);
  });

  it('orders colours and normalizes in that order', () => {
    const image: RawImage = { data: Uint8Array.of(10, 20, 30), width: 1, height: 1, channels: 3 };
    const options = preprocess(1, 1, { mean: [1, 2, 3], std: [1, 2, 4] });
    expect(Array.from(preprocessImage(image, options).data)).toEqual([9, 9, 6.75]);
    const bgr = preprocessImage(image, { ...options, colorOrder: 'bgr' });
    expect(Array.from(bgr.data)).toEqual([29, 9, 1.75]);
  });

  it('ignores alpha, and reads clamped arrays and views', () => {
    const rgb = noiseImage(9, 6, 3);
    const rgba = new Uint8ClampedArray(9 * 6 * 4 + 5).subarray(5);
    for (let i = 0; i < 54; i++) rgba.set([...rgb.data.subarray(i * 3, i * 3 + 3), i], i * 4);
    const options = preprocess(4, 4, { fit: 'cover' });
    expect(preprocessImage({ data: rgba, width: 9, height: 6, channels: 4 }, options)).toEqual(
      preprocessImage(rgb, options),
    );
  });

  it('gives the same with kept weights, also when the size changes', () => {
    const options = preprocess(8, 8, { fit: 'contain' });
    const prepare = createPreprocessor(options);
    for (const [w, h] of [
      [20, 10],
      [20, 10],
      [10, 20],
      [20, 10],
    ] as const) {
      const image = noiseImage(w, h, 4);
      expect(prepare(image)).toEqual(preprocessImage(image, options));
    }
  });

  it('gives the same bits everywhere', async () => {
    const options = preprocess(224, 224, {
      fit: 'cover',
      mean: [123.675, 116.28, 103.53],
      std: [58.395, 57.12, 57.375],
    });
    const tensor = preprocessImage(noiseImage(637, 401, 4), options);
    expect(await sha256Hex(tensorToBytes(tensor))).toBe(
      'ba3162d270e054bf6b60a802ba7b67536eaed9524e88e2e3274a784a9a99466b',
    );
  });

  it.each([
    { data: new Uint8Array(11), width: 2, height: 2, channels: 3 as const },
    { data: new Uint8Array(12), width: 2, height: 2, channels: 4 as const },
    { data: new Uint8Array(0), width: 0, height: 2, channels: 3 as const },
    { data: new Uint8Array(12), width: 1.5, height: 2, channels: 4 as const },
    { data: new Uint8Array(4), width: 2, height: 2, channels: 1 as never },
    { data: new Float32Array(12) as never, width: 2, height: 2, channels: 3 as const },
  ])('refuses an image whose parts do not fit (%#)', (image) => {
    expect(() => preprocessImage(image, preprocess(2, 2))).toThrowError(
      expect.objectContaining({ code: 'image/unsupported' }),
    );
  });

  it('refuses a description that cannot be followed', () => {
    for (const broken of [preprocess(0, 2), preprocess(2, 2, { std: [1, 0, 1] })]) {
      expect(() => createPreprocessor(broken)).toThrowError(
        expect.objectContaining({ code: 'bundle/invalid' }),
      );
    }
  });
});

describe('the geometry of a frame', () => {
  it('maps the input back onto the picture', () => {
    expect(describeGeometry(400, 200, { width: 100, height: 100, fit: 'fill' })).toMatchObject({
      scaleX: 4,
      scaleY: 2,
      offsetX: 0,
      offsetY: 0,
    });
    expect(describeGeometry(400, 200, { width: 100, height: 100, fit: 'cover' })).toMatchObject({
      scaleX: 2,
      scaleY: 2,
      offsetX: 100,
      offsetY: 0,
    });
    expect(describeGeometry(400, 200, { width: 100, height: 100, fit: 'contain' })).toMatchObject({
      scaleX: 4,
      scaleY: 4,
      offsetX: 0,
      offsetY: -100,
    });
  });

  it.each(['cover', 'contain', 'fill'] as const)('finds a bright spot where it was (%s)', (fit) => {
    const [width, height] = [60, 36];
    const values = new Array(width * height).fill(0);
    // A 12 × 12 square with its centre at (30, 18) + (4, -3).
    for (let y = 9; y < 21; y++) for (let x = 28; x < 40; x++) values[y * width + x] = 255;
    const options = preprocess(24, 24, { fit });
    const image = plane(greyImage(width, height, values), options);
    const geometry = describeGeometry(width, height, options);
    let [sum, sumX, sumY] = [0, 0, 0];
    image.forEach((value, i) => {
      if (value === 127.5) return;
      sum += value;
      sumX += value * ((i % 24) + 0.5);
      sumY += value * (Math.floor(i / 24) + 0.5);
    });
    expect((sumX / sum) * geometry.scaleX + geometry.offsetX).toBeCloseTo(34, 0);
    expect((sumY / sum) * geometry.scaleY + geometry.offsetY).toBeCloseTo(15, 0);
  });
});
