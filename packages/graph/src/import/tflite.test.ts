import { isIsthmusError } from '@isthmus/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { importTflite } from '../index.js';
import {
  conv2d,
  depthwise2d,
  type Image,
  makeImage,
  mapImage,
  noise,
  noiseImage,
  padImage,
  pixelAt,
  pool2d,
  toNchw,
  type Window,
} from './testing/nhwc.js';
import { countOperators, runModel } from './testing/run.js';
import {
  buildTflite,
  type OperatorSpec,
  type OptionField,
  type TensorSpec,
} from './testing/tflite-builder.js';

const same = 0;
const valid = 1;

/** A model of one operator on one image, its result as NHWC data in ONNX's order. */
interface Single {
  x: Image;
  code: number;
  /** What follows the image among the inputs. */
  constants?: readonly (Omit<TensorSpec, 'name'> | undefined)[];
  /** Where among the inputs the image stands. @default 0 */
  position?: number;
  options?: readonly OptionField[];
  result: readonly number[];
}

function singleModel({ x, code, constants = [], position = 0, options, result }: Single): Uint8Array {
  const tensors: TensorSpec[] = [{ name: 'in', shape: x.shape }];
  const others = constants.map((constant, index) =>
    constant === undefined ? -1 : tensors.push({ name: `c${index}`, ...constant }) - 1,
  );
  const output = tensors.push({ name: 'out', shape: result }) - 1;
  const inputs = others.toSpliced(position, 0, 0);
  const operator: OperatorSpec = { code, inputs, outputs: [output], ...(options && { options }) };
  return buildTflite({ tensors, operators: [operator], inputs: [0], outputs: [output] });
}

async function runSingle(single: Single): Promise<number[]> {
  const outputs = await runModel(importTflite(singleModel(single)), toNchw(single.x));
  return outputs.out!.data;
}

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  expect(actual.length).toBe(expected.length);
  const worst = Array.from(expected, (value, index) => Math.abs(value - actual[index]!));
  expect(Math.max(...worst)).toBeLessThan(1e-5);
}

const ints = (...values: number[]) => ({ shape: [values.length], data: Int32Array.from(values) });
const pairs = (...values: number[]) => ({ shape: [values.length / 2, 2], data: Int32Array.from(values) });

describe('importTflite: convolutions', () => {
  const windows: { size: [number, number]; window: Window }[] = [
    { size: [7, 8], window: { kernel: [3, 3], strides: [1, 1], padding: 'same' } },
    { size: [8, 9], window: { kernel: [3, 2], strides: [2, 2], padding: 'same' } },
    { size: [9, 7], window: { kernel: [2, 3], strides: [2, 1], padding: 'valid' } },
    { size: [11, 10], window: { kernel: [3, 3], dilations: [2, 3], padding: 'same' } },
  ];

  it.each(windows)('CONV_2D $size $window', async ({ size, window }) => {
    const x = noiseImage([1, ...size, 3]);
    const [kernel, bias] = [noise(4 * window.kernel[0] * window.kernel[1] * 3, 2), noise(4, 3)];
    const weight = (o: number, row: number, column: number, i: number) =>
      kernel[((o * window.kernel[0] + row) * window.kernel[1] + column) * 3 + i]!;
    const expected = mapImage(conv2d(x, 4, weight, window, bias), (value) => Math.min(Math.max(value, 0), 6));
    const actual = await runSingle({
      x,
      code: 3,
      constants: [
        { shape: [4, ...window.kernel, 3], data: kernel },
        { shape: [4], data: bias },
      ],
      options: [
        [0, 'int8', window.padding === 'same' ? same : valid],
        [1, 'int32', window.strides?.[1] ?? 1],
        [2, 'int32', window.strides?.[0] ?? 1],
        [3, 'int8', 3],
        [4, 'int32', window.dilations?.[1] ?? 1],
        [5, 'int32', window.dilations?.[0] ?? 1],
      ],
      result: expected.shape,
    });
    expectClose(actual, toNchw(expected));
  });

  it.each(windows)('DEPTHWISE_CONV_2D $size $window, multiplier 2', async ({ size, window }) => {
    const x = noiseImage([1, ...size, 3]);
    const [kernel, bias] = [noise(window.kernel[0] * window.kernel[1] * 6, 2), noise(6, 3)];
    const expected = depthwise2d(x, 2, kernel, window, bias);
    const actual = await runSingle({
      x,
      code: 4,
      constants: [
        { shape: [1, ...window.kernel, 6], data: kernel },
        { shape: [6], data: bias },
      ],
      options: [
        [0, 'int8', window.padding === 'same' ? same : valid],
        [1, 'int32', window.strides?.[1] ?? 1],
        [2, 'int32', window.strides?.[0] ?? 1],
        [3, 'int32', 2],
        [5, 'int32', window.dilations?.[1] ?? 1],
        [6, 'int32', window.dilations?.[0] ?? 1],
      ],
      result: expected.shape,
    });
    expectClose(actual, toNchw(expected));
  });

  it.each([
    { padding: 'same', size: [8, 10] },
    { padding: 'valid', size: [9, 11] },
  ] as const)('TRANSPOSE_CONV $padding is the gradient of the convolution', async ({ padding, size }) => {
    const x = noiseImage([1, 4, 5, 2]);
    const kernel = noise(3 * 3 * 3 * 2, 4);
    const strides = [2, 2] as const;
    // Each output is the sum of what a convolution would have read it for.
    const expected = makeImage([1, ...size, 3], () => 0);
    const start =
      padding === 'same' ? [0, 1].map((axis) => -Math.floor(overhang(size[axis]!, axis) / 2)) : [0, 0];
    function overhang(length: number, axis: number): number {
      return (x.shape[axis + 1]! - 1) * 2 + 3 - length;
    }
    makeImage(x.shape, (n, y, column, i) => {
      const value = pixelAt(x, n, y, column, i)!;
      for (let row = 0; row < 3; row++) {
        for (let tap = 0; tap < 3; tap++) {
          const [outY, outX] = [y * strides[0] + row + start[0]!, column * strides[1] + tap + start[1]!];
          if (outY < 0 || outX < 0 || outY >= size[0] || outX >= size[1]) continue;
          for (let o = 0; o < 3; o++) {
            expected.data[(outY * size[1] + outX) * 3 + o]! +=
              value * kernel[((o * 3 + row) * 3 + tap) * 2 + i]!;
          }
        }
      }
      return 0;
    });
    const actual = await runSingle({
      x,
      code: 67,
      position: 2,
      constants: [ints(1, ...size, 3), { shape: [3, 3, 3, 2], data: kernel }],
      options: [
        [0, 'int8', padding === 'same' ? same : valid],
        [1, 'int32', 2],
        [2, 'int32', 2],
      ],
      result: expected.shape,
    });
    expectClose(actual, toNchw(expected));
  });

  it('takes SPACE_TO_BATCH_ND … BATCH_TO_SPACE_ND around a convolution for a dilation', async () => {
    const x = noiseImage([1, 9, 9, 2]);
    const kernel = noise(3 * 3 * 2, 5);
    const options: OptionField[] = [
      [0, 'int8', valid],
      [1, 'int32', 1],
      [2, 'int32', 1],
      [3, 'int32', 1],
    ];
    const bytes = buildTflite({
      tensors: [
        { name: 'in', shape: x.shape },
        { name: 'block', ...ints(2, 2) },
        { name: 'paddings', ...pairs(2, 3, 2, 3) },
        { name: 'spread', shape: [4, 7, 7, 2] },
        { name: 'kernel', shape: [1, 3, 3, 2], data: kernel },
        { name: 'filtered', shape: [4, 5, 5, 2] },
        { name: 'crops', ...pairs(0, 1, 0, 1) },
        { name: 'out', shape: [1, 9, 9, 2] },
      ],
      operators: [
        { code: 38, inputs: [0, 1, 2], outputs: [3] },
        { code: 4, inputs: [3, 4, -1], outputs: [5], options },
        { code: 37, inputs: [5, 1, 6], outputs: [7] },
      ],
      inputs: [0],
      outputs: [7],
    });
    const model = importTflite(bytes);
    const expected = depthwise2d(x, 1, kernel, { kernel: [3, 3], dilations: [2, 2], padding: 'same' });
    expectClose((await runModel(model, toNchw(x))).out!.data, toNchw(expected));
    expect(countOperators(model)).toEqual({ Conv: 1, Slice: 1 });
  });

  it('maps SPACE_TO_BATCH_ND and its inverse where nothing can be folded', async () => {
    const x = noiseImage([1, 4, 6, 2]);
    const spread = makeImage([4, 2, 3, 2], (n, y, column, c) => {
      return pixelAt(x, 0, y * 2 + Math.floor(n / 2), column * 2 + (n % 2), c)!;
    });
    const block = ints(2, 2);
    const actual = await runSingle({
      x,
      code: 38,
      constants: [block, pairs(0, 0, 0, 0)],
      result: spread.shape,
    });
    expectClose(actual, toNchw(spread));
    const back = await runSingle({
      x: spread,
      code: 37,
      constants: [block, pairs(1, 0, 0, 1)],
      result: [1, 3, 5, 2],
    });
    const cropped = makeImage([1, 3, 5, 2], (n, y, column, c) => pixelAt(x, n, y + 1, column, c)!);
    expectClose(back, toNchw(cropped));
  });

  it('makes a PAD before a convolution part of it, and keeps it elsewhere', async () => {
    const x = noiseImage([1, 5, 6, 2]);
    const kernel = noise(3 * 3 * 2 * 2, 6);
    const tensors: TensorSpec[] = [
      { name: 'in', shape: x.shape },
      { name: 'paddings', ...pairs(0, 0, 1, 0, 2, 1, 0, 0) },
      { name: 'padded', shape: [1, 6, 9, 2] },
      { name: 'kernel', shape: [2, 3, 3, 2], data: kernel },
      { name: 'out', shape: [1, 4, 7, 2] },
    ];
    const operators: OperatorSpec[] = [
      { code: 34, inputs: [0, 1], outputs: [2] },
      {
        code: 3,
        inputs: [2, 3],
        outputs: [4],
        options: [
          [0, 'int8', valid],
          [1, 'int32', 1],
          [2, 'int32', 1],
        ],
      },
    ];
    const padded = padImage(x, 1, 2, 0, 1);
    const weight = (o: number, row: number, column: number, i: number) =>
      kernel[((o * 3 + row) * 3 + column) * 2 + i]!;
    const expected = toNchw(conv2d(padded, 2, weight, { kernel: [3, 3], padding: 'valid' }));

    const folded = importTflite(buildTflite({ tensors, operators, inputs: [0], outputs: [4] }));
    expectClose((await runModel(folded, toNchw(x))).out!.data, expected);
    expect(countOperators(folded)).toEqual({ Conv: 1 });

    const kept = importTflite(buildTflite({ tensors, operators, inputs: [0], outputs: [4, 2] }));
    const both = await runModel(kept, toNchw(x));
    expectClose(both.out!.data, expected);
    expectClose(both.padded!.data, toNchw(padded));
  });
});

describe('importTflite: other operators', () => {
  const x = noiseImage([1, 5, 6, 3], 7);

  it.each([
    { code: 1, kind: 'mean', padding: 'same' },
    { code: 17, kind: 'max', padding: 'same' },
    { code: 1, kind: 'mean', padding: 'valid' },
    { code: 17, kind: 'max', padding: 'valid' },
  ] as const)('$kind pooling, $padding', async ({ code, kind, padding }) => {
    const expected = pool2d(x, kind, { kernel: [3, 2], strides: [2, 2], padding });
    const options: OptionField[] = [
      [0, 'int8', padding === 'same' ? same : valid],
      [1, 'int32', 2],
      [2, 'int32', 2],
      [3, 'int32', 2],
      [4, 'int32', 3],
    ];
    expectClose(await runSingle({ x, code, options, result: expected.shape }), toNchw(expected));
  });

  const perChannel = noise(3, 8);
  it.each([
    { name: 'ADD', code: 0, of: (a: number, b: number) => a + b },
    { name: 'MUL', code: 18, of: (a: number, b: number) => a * b },
    { name: 'SUB', code: 41, of: (a: number, b: number) => a - b },
    { name: 'DIV', code: 42, of: (a: number, b: number) => a / b },
    { name: 'MAXIMUM', code: 55, of: Math.max },
    { name: 'MINIMUM', code: 57, of: Math.min },
  ])('$name with a constant per channel', async ({ code, of }) => {
    const expected = mapImage(x, (value, channel) => of(value, perChannel[channel]!));
    const constants = [{ shape: [3], data: perChannel }];
    expectClose(await runSingle({ x, code, constants, options: [], result: x.shape }), toNchw(expected));
  });

  it('adds a constant image, permuted', async () => {
    const other = noiseImage([1, 5, 6, 3], 9);
    const constants = [{ shape: other.shape, data: other.data }];
    const expected = x.data.map((value, index) => value + other.data[index]!);
    const actual = await runSingle({ x, code: 0, constants, options: [], result: x.shape });
    expectClose(actual, toNchw({ shape: x.shape, data: expected }));
  });

  it('subtracts from a scalar on the left', async () => {
    const constants = [{ shape: [], data: Float32Array.of(2) }];
    const expected = toNchw(mapImage(x, (value) => 2 - value));
    expectClose(
      await runSingle({ x, code: 41, position: 1, constants, options: [], result: x.shape }),
      expected,
    );
  });

  it.each([
    { name: 'LOGISTIC', code: 14, of: (v: number) => 1 / (1 + Math.exp(-v)) },
    { name: 'RELU', code: 19, of: (v: number) => Math.max(v, 0) },
    { name: 'RELU_N1_TO_1', code: 20, of: (v: number) => Math.min(Math.max(v, -1), 1) },
    { name: 'RELU6', code: 21, of: (v: number) => Math.min(Math.max(v, 0), 6) },
    { name: 'TANH', code: 28, of: Math.tanh },
    { name: 'EXP', code: 47, of: Math.exp },
    { name: 'NEG', code: 59, of: (v: number) => -v },
    { name: 'ABS', code: 101, of: Math.abs },
    { name: 'ELU', code: 111, of: (v: number) => (v > 0 ? v : Math.expm1(v)) },
    { name: 'HARD_SWISH', code: 117, of: (v: number) => (v * Math.min(Math.max(v + 3, 0), 6)) / 6 },
    { name: 'LEAKY_RELU', code: 98, of: (v: number) => (v > 0 ? v : 0.25 * v) },
  ])('$name', async ({ code, of }) => {
    const wide = mapImage(x, (value) => value * 8);
    const options: OptionField[] = code === 98 ? [[0, 'float32', 0.25]] : [];
    const actual = await runSingle({ x: wide, code, options, result: x.shape });
    const expected = toNchw(mapImage(wide, of));
    actual.forEach((value, index) => {
      expect(Math.abs(value - expected[index]!)).toBeLessThan(1e-5 * Math.max(1, Math.abs(expected[index]!)));
    });
  });

  it('PRELU with a slope per channel', async () => {
    const expected = mapImage(x, (value, channel) => (value > 0 ? value : value * perChannel[channel]!));
    const constants = [{ shape: [1, 1, 3], data: perChannel }];
    expectClose(await runSingle({ x, code: 54, constants, result: x.shape }), toNchw(expected));
  });

  it('writes MAXIMUM(x, factor·x) as a leaky ReLU', async () => {
    const model = importTflite(
      buildTflite({
        tensors: [
          { name: 'in', shape: x.shape },
          { name: 'factor', shape: [], data: Float32Array.of(0.1) },
          { name: 'scaled', shape: x.shape },
          { name: 'out', shape: x.shape },
        ],
        operators: [
          { code: 18, inputs: [1, 0], outputs: [2] },
          { code: 55, inputs: [2, 0], outputs: [3] },
        ],
        inputs: [0],
        outputs: [3],
      }),
    );
    expect(countOperators(model)).toEqual({ LeakyRelu: 1 });
    const expected = toNchw(mapImage(x, (value) => Math.max(value, 0.1 * value)));
    expectClose((await runModel(model, toNchw(x))).out!.data, expected);
  });

  it('SOFTMAX over channels', async () => {
    const sums = makeImage([1, 5, 6, 1], (n, y, column) => {
      return [0, 1, 2].reduce((sum, c) => sum + Math.exp(2 * pixelAt(x, n, y, column, c)!), 0);
    });
    const expected = makeImage(x.shape, (n, y, column, c) => {
      return Math.exp(2 * pixelAt(x, n, y, column, c)!) / pixelAt(sums, n, y, column, 0)!;
    });
    const options: OptionField[] = [[0, 'float32', 2]];
    expectClose(await runSingle({ x, code: 25, options, result: x.shape }), toNchw(expected));
  });

  it('RESHAPE keeps the order of NHWC, with and without an image on either side', async () => {
    const flat = await runSingle({ x, code: 22, constants: [ints(1, -1)], result: [1, 90] });
    expectClose(flat, x.data);
    const boxes = await runSingle({ x, code: 22, constants: [ints(1, 30, 3)], result: [1, 30, 3] });
    expectClose(boxes, x.data);
    const other: Image = { shape: [1, 10, 3, 3], data: x.data };
    const image = await runSingle({ x, code: 22, constants: [ints(1, 10, 3, 3)], result: other.shape });
    expectClose(image, toNchw(other));
  });

  it('SQUEEZE and EXPAND_DIMS', async () => {
    const pooled = noiseImage([1, 1, 1, 8]);
    const options: OptionField[] = [[0, 'int32s', [1, 2]]];
    const squeezed = singleModel({ x: pooled, code: 43, options, result: [1, 8] });
    expect(countOperators(importTflite(squeezed))).toEqual({ Reshape: 1 });
    expectClose(await runSingle({ x: pooled, code: 43, options, result: [1, 8] }), pooled.data);
    const expanded = await runSingle({ x, code: 70, constants: [ints(0)], result: [1, 1, 5, 6, 3] });
    expectClose(expanded, x.data);
  });

  it('FULLY_CONNECTED on an image permutes its weights instead of the image', async () => {
    const [weights, bias] = [noise(4 * 90, 10), noise(4, 11)];
    const single: Single = {
      x,
      code: 9,
      constants: [
        { shape: [4, 90], data: weights },
        { shape: [4], data: bias },
      ],
      options: [[0, 'int8', 1]],
      result: [1, 4],
    };
    const expected = Array.from(bias, (start, o) =>
      Math.max(
        0,
        x.data.reduce((sum, value, i) => sum + value * weights[o * 90 + i]!, start),
      ),
    );
    expectClose(await runSingle(single), expected);
    expect(countOperators(importTflite(singleModel(single)))).toEqual({ Flatten: 1, Gemm: 1, Relu: 1 });
  });

  it('CONCATENATION, PAD, TRANSPOSE along renumbered axes', async () => {
    const wide = await runSingle({
      x,
      code: 2,
      constants: [{ shape: x.shape, data: x.data }],
      options: [[0, 'int32', 2]],
      result: [1, 5, 12, 3],
    });
    expectClose(
      wide,
      toNchw(makeImage([1, 5, 12, 3], (n, y, column, c) => pixelAt(x, n, y, column % 6, c)!)),
    );
    const deep = await runSingle({
      x,
      code: 34,
      constants: [pairs(0, 0, 1, 0, 0, 2, 1, 1)],
      result: [1, 6, 8, 5],
    });
    const padded = makeImage([1, 6, 8, 5], (n, y, column, c) =>
      c === 0 || c === 4 ? 0 : (pixelAt(x, n, y - 1, column, c - 1) ?? 0),
    );
    expectClose(deep, toNchw(padded));
    const turned = await runSingle({ x, code: 39, constants: [ints(0, 2, 3, 1)], result: [1, 6, 3, 5] });
    expectClose(turned, toNchw(makeImage([1, 6, 3, 5], (n, y, column, c) => pixelAt(x, n, c, y, column)!)));
  });

  it('MEAN over space and over channels', async () => {
    const channelMean = await runSingle({
      x,
      code: 40,
      constants: [ints(1, 2)],
      options: [],
      result: [1, 3],
    });
    const expected = [0, 1, 2].map((c) =>
      x.data.reduce((sum, v, i) => (i % 3 === c ? sum + v / 30 : sum), 0),
    );
    expectClose(channelMean, expected);
    const kept = await runSingle({
      x,
      code: 40,
      constants: [ints(-1)],
      options: [[0, 'int8', 1]],
      result: [1, 5, 6, 1],
    });
    const perPixel = makeImage([1, 5, 6, 1], (n, y, column) => {
      return [0, 1, 2].reduce((sum, c) => sum + pixelAt(x, n, y, column, c)! / 3, 0);
    });
    expectClose(kept, toNchw(perPixel));
  });

  it.each([
    { name: 'legacy', align: 0, half: 0, at: (i: number, from: number, to: number) => (i * from) / to },
    {
      name: 'aligned corners',
      align: 1,
      half: 0,
      at: (i: number, from: number, to: number) => (i * (from - 1)) / (to - 1),
    },
    {
      name: 'half pixels',
      align: 0,
      half: 1,
      at: (i: number, from: number, to: number) => ((i + 0.5) * from) / to - 0.5,
    },
  ])('RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR, $name', async ({ align, half, at }) => {
    const shape = [1, 13, 11, 3] as const;
    const clamp = (value: number, size: number) => Math.min(Math.max(value, 0), size - 1);
    const linear = makeImage(shape, (n, y, column, c) => {
      const [sy, sx] = [clamp(at(y, 5, 13), 5), clamp(at(column, 6, 11), 6)];
      const [y0, x0] = [Math.floor(sy), Math.floor(sx)];
      const value = (row: number, tap: number) => pixelAt(x, n, clamp(row, 5), clamp(tap, 6), c)!;
      const top = value(y0, x0) + (value(y0, x0 + 1) - value(y0, x0)) * (sx - x0);
      const bottom = value(y0 + 1, x0) + (value(y0 + 1, x0 + 1) - value(y0 + 1, x0)) * (sx - x0);
      return top + (bottom - top) * (sy - y0);
    });
    const constants = [ints(13, 11)];
    const bilinear: OptionField[] = [
      [2, 'int8', align],
      [3, 'int8', half],
    ];
    expectClose(
      await runSingle({ x, code: 23, constants, options: bilinear, result: shape }),
      toNchw(linear),
    );

    const nearest = makeImage(shape, (n, y, column, c) => {
      const pick = (i: number, from: number, to: number) => {
        const position = half ? ((i + 0.5) * from) / to : at(i, from, to);
        return clamp(align ? Math.round(position) : Math.floor(position), from);
      };
      return pixelAt(x, n, pick(y, 5, 13), pick(column, 6, 11), c)!;
    });
    const options: OptionField[] = [
      [0, 'int8', align],
      [1, 'int8', half],
    ];
    expectClose(await runSingle({ x, code: 97, constants, options, result: shape }), toNchw(nearest));
  });

  it('STRIDED_SLICE with masks, a negative stride and a dropped axis', async () => {
    const sliced = await runSingle({
      x,
      code: 45,
      constants: [ints(0, -1, 1, 0), ints(0, 0, 5, 0), ints(1, -2, 2, 1)],
      options: [
        [0, 'int32', 0b1001],
        [1, 'int32', 0b1011],
      ],
      result: [1, 3, 2, 3],
    });
    const expected = makeImage(
      [1, 3, 2, 3],
      (n, y, column, c) => pixelAt(x, n, 4 - 2 * y, 1 + 2 * column, c)!,
    );
    expectClose(sliced, toNchw(expected));
    const dropped = await runSingle({
      x,
      code: 45,
      constants: [ints(0, 2, 0, 0), ints(1, 3, 6, 3), ints(1, 1, 1, 1)],
      options: [[4, 'int32', 0b10]],
      result: [1, 6, 3],
    });
    expectClose(dropped, x.data.slice(2 * 18, 3 * 18));
  });

  it('SPLIT along channels', async () => {
    const bytes = buildTflite({
      tensors: [
        { name: 'axis', ...ints(3) },
        { name: 'in', shape: x.shape },
        ...[0, 1, 2].map((part) => ({ name: `part${part}`, shape: [1, 5, 6, 1] })),
      ],
      operators: [{ code: 49, inputs: [0, 1], outputs: [2, 3, 4], options: [[0, 'int32', 3]] }],
      inputs: [1],
      outputs: [2, 3, 4],
    });
    const outputs = await runModel(importTflite(bytes), toNchw(x));
    for (const part of [0, 1, 2]) {
      const expected = makeImage([1, 5, 6, 1], (n, y, column) => pixelAt(x, n, y, column, part)!);
      expectClose(outputs[`part${part}`]!.data, toNchw(expected));
    }
  });

  it('widens float16 weights behind DEQUANTIZE', async () => {
    // 1.5, −0.25 and the smallest subnormal.
    const halves = Uint16Array.of(0x3e00, 0xb400, 0x0001);
    const bytes = buildTflite({
      tensors: [
        { name: 'in', shape: x.shape },
        { name: 'halves', shape: [3], data: halves },
        { name: 'wide', shape: [3] },
        { name: 'out', shape: x.shape },
      ],
      operators: [
        { code: 6, inputs: [1], outputs: [2] },
        { code: 18, inputs: [0, 2], outputs: [3], options: [] },
      ],
      inputs: [0],
      outputs: [3],
    });
    const expected = mapImage(x, (value, channel) => value * [1.5, -0.25, 2 ** -24][channel]!);
    expectClose((await runModel(importTflite(bytes), toNchw(x))).out!.data, toNchw(expected));
  });

  it('gives an output that is only a rename its own name', async () => {
    const outputs = await runModel(
      importTflite(singleModel({ x, code: 22, constants: [ints(...x.shape)], result: x.shape })),
      toNchw(x),
    );
    expectClose(outputs.out!.data, toNchw(x));
  });
});

describe('importTflite: what it refuses', () => {
  const x = noiseImage([1, 4, 4, 2]);
  const refusal = (bytes: Uint8Array) => {
    try {
      importTflite(bytes);
    } catch (error) {
      if (isIsthmusError(error)) return error;
      throw error;
    }
    throw new Error('It was accepted.');
  };

  it('names an unsupported operator, its place and its output', () => {
    const error = refusal(singleModel({ x, code: 13, result: x.shape }));
    expect(error.code).toBe('model/unsupported-operator');
    expect(error.message).toContain('Operator 0, LOCAL_RESPONSE_NORMALIZATION (output out)');
    expect(error.details).toMatchObject({ operator: 'LOCAL_RESPONSE_NORMALIZATION', index: 0 });
  });

  it('names a custom operator', () => {
    const bytes = buildTflite({
      tensors: [
        { name: 'in', shape: x.shape },
        { name: 'out', shape: [] },
      ],
      operators: [{ code: 32, customCode: 'TFLite_Detection_PostProcess', inputs: [0], outputs: [1] }],
      inputs: [0],
      outputs: [1],
    });
    expect(refusal(bytes).message).toContain('CUSTOM TFLite_Detection_PostProcess');
  });

  it('names a quantized tensor', () => {
    const bytes = buildTflite({
      tensors: [{ name: 'pixels', shape: x.shape, type: 3 }],
      operators: [],
      inputs: [0],
      outputs: [0],
    });
    const error = refusal(bytes);
    expect(error.code).toBe('model/unsupported');
    expect(error.message).toContain('pixels');
  });

  it('says so when the file is something else', () => {
    expect(refusal(new Uint8Array(100)).code).toBe('model/invalid');
    expect(refusal(new Uint8Array(3)).code).toBe('model/truncated');
  });

  it('says so when weights do not fit, shapes contradict or inputs come later', () => {
    const options: OptionField[] = [
      [1, 'int32', 1],
      [2, 'int32', 1],
    ];
    const wrongWeights = { x, code: 3, constants: [{ shape: [1, 1, 1, 3], data: noise(3) }], options };
    expect(refusal(singleModel({ ...wrongWeights, result: [1, 4, 4, 1] })).code).toBe('model/invalid');
    const short = { x, code: 3, constants: [{ shape: [1, 1, 1, 2], data: noise(1) }], options };
    expect(refusal(singleModel({ ...short, result: [1, 4, 4, 1] })).message).toContain(
      'takes 8 bytes, not 4',
    );
    expect(refusal(singleModel({ x, code: 19, result: [1, 4, 4, 3] })).code).toBe('model/invalid');
    const dangling = buildTflite({
      tensors: [
        { name: 'in', shape: x.shape },
        { name: 'later', shape: x.shape },
        { name: 'out', shape: x.shape },
      ],
      operators: [{ code: 19, inputs: [1], outputs: [2] }],
      inputs: [0],
      outputs: [2],
    });
    expect(refusal(dangling).message).toContain('later is not computed before it');
  });

  const intact = singleModel({
    x,
    code: 3,
    constants: [
      { shape: [2, 3, 3, 2], data: noise(36) },
      { shape: [2], data: noise(2) },
    ],
    options: [
      [0, 'int8', same],
      [1, 'int32', 1],
      [2, 'int32', 1],
      [3, 'int8', 1],
    ],
    result: x.shape,
  });

  it('refuses every proper prefix of a file', () => {
    expect(() => importTflite(intact)).not.toThrow();
    for (let length = 0; length < intact.length; length += 1) {
      const error = refusal(intact.slice(0, length));
      expect(['model/truncated', 'model/invalid']).toContain(error.code);
    }
  });

  it('answers damaged bytes with a model or a typed error, nothing else', () => {
    const damage = fc.array(fc.tuple(fc.nat(intact.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(damage, (changes) => {
        const bytes = intact.slice();
        for (const [at, value] of changes) bytes[at] = value;
        try {
          importTflite(bytes);
        } catch (error) {
          expect(isIsthmusError(error), String(error)).toBe(true);
          expect((error as { code: string }).code).toMatch(/^model\//);
        }
      }),
      { numRuns: 3000 },
    );
  });
});
