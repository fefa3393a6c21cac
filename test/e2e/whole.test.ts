import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type NamedTensors, parseManifest, preprocessImage, type RawImage, type Tensor } from '@isthmus/core';
import { connect, createMemoryCache } from '@isthmus/device';
import { writeModel } from '@isthmus/graph';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { type Photo, pullModel, pullPhotos } from 'isthmus';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inceptionModel, unetModel } from '../../packages/graph/src/testing/models.js';
import { relativeDifference } from '../support/fixture.js';
import { isthmus, type ReceiverProcess, serve } from '../support/process.js';

// The split must equal the whole: device process here, receiver process there, every cut, real weights.
const baseModels = ['mobilenet-v1', 'resnet-50', 'tiny-yolo-v2'] as const;
const ownModels = { inception: inceptionModel, unet: unetModel };
const names = [...baseModels, ...Object.keys(ownModels)];

const runtime = createNodeRuntime();
let folder: string;
let receiver: ReceiverProcess;
let photo: Photo;
const modelPaths = new Map<string, string>();

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'isthmus-e2e-'));
  photo = (await pullPhotos())[0]!;
  for (const name of baseModels) modelPaths.set(name, (await pullModel(name, { runtime })).modelPath);
  for (const [name, make] of Object.entries(ownModels)) {
    const path = join(folder, `${name}.onnx`);
    await writeFile(path, writeModel(make()));
    modelPaths.set(name, path);
  }
  for (const name of names) {
    const source = (baseModels as readonly string[]).includes(name) ? name : modelPaths.get(name)!;
    const { exitCode, stderr } = await isthmus(['split', source, '--out', join(folder, name), '--json']);
    expect(stderr.includes('isthmus:') ? stderr : '', name).toBe('');
    expect(exitCode).toBe(0);
  }
  receiver = await serve([...names.map((name) => join(folder, name)), '--port', '0']);
}, 300_000);

afterAll(async () => {
  await receiver?.stop();
  await runtime.close();
  await rm(folder, { recursive: true, force: true });
});

async function decode(bytes: Uint8Array): Promise<RawImage> {
  const { data, info } = await sharp(bytes)
    .rotate()
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  return { data, width: info.width, height: info.height, channels: 3 };
}

// A picture where the model takes one, else values without a pattern.
async function makeFrame(name: string): Promise<NamedTensors> {
  const manifest = parseManifest(await readFile(join(folder, name, 'manifest.json'), 'utf8'));
  return Object.fromEntries(
    await Promise.all(
      manifest.cuts[0]!.tensors.map(async (tensor): Promise<[string, Tensor]> => {
        if (manifest.preprocess)
          return [tensor.name, preprocessImage(await decode(photo.bytes), manifest.preprocess)];
        const length = tensor.shape.reduce((count, size) => count * size, 1);
        const data = Float32Array.from({ length }, (_, i) => Math.sin(i * 12.9898) * 1.7);
        return [tensor.name, { type: 'float32', shape: tensor.shape, data }];
      }),
    ),
  );
}

describe.each(names)('%s', (name) => {
  it('answers at every cut, and on the device alone, as the unsplit model does', async () => {
    const frame = await makeFrame(name);
    const whole = await runtime.load(await readFile(modelPaths.get(name)!));
    const { outputs: expected } = await whole.run(frame);
    await whole.release();
    const session = await connect(receiver.url, { model: name, cache: createMemoryCache() });
    try {
      const cuts = session.manifest.cuts.length - 1;
      expect(cuts).toBeGreaterThanOrEqual(3);
      for (let from = 0; from < cuts; from++) {
        const { tensors, bytes } = await session.run(frame, {
          plan: { kind: 'split', from, codec: 'raw', level: 0, to: from },
        });
        expect(bytes.up).toBeGreaterThan(session.manifest.cuts[from]!.numBytes);
        for (const [output, tensor] of Object.entries(expected)) {
          expect(
            relativeDifference(tensors[output]!, tensor),
            `${output} at cut ${from}`,
          ).toBeLessThanOrEqual(1e-4);
        }
      }
      const { tensors, bytes } = await session.run(frame, { plan: { kind: 'local' } });
      expect(bytes.up).toBe(0);
      for (const [output, tensor] of Object.entries(expected)) {
        expect(relativeDifference(tensors[output]!, tensor), `${output} locally`).toBeLessThanOrEqual(1e-4);
      }
    } finally {
      await session.close();
    }
  });
});

describe('tiny-yolo-v2', () => {
  it('finds the same boxes in a photograph at every cut', async () => {
    const cat = (await pullPhotos()).find(({ name }) => name.startsWith('french'))!;
    const session = await connect(receiver.url, { model: 'tiny-yolo-v2' });
    try {
      const local = await session.run(cat.bytes, { plan: { kind: 'local' } });
      const split = await session.run(cat.bytes, {
        plan: { kind: 'split', from: 1, codec: 'raw', level: 0, to: 1 },
      });
      expect(local.output.kind).toBe('detection');
      expect(split.output.kind === 'detection' && split.output.boxes.map((box) => box.label)).toEqual(
        local.output.kind === 'detection' && local.output.boxes.map((box) => box.label),
      );
    } finally {
      await session.close();
    }
  });
});

describe('isthmus run', () => {
  it('prints label, plan, bytes and milliseconds', async () => {
    const path = join(folder, photo.name);
    await writeFile(path, photo.bytes);
    const { stdout, exitCode } = await isthmus([
      ...['run', receiver.url, path, '--model', 'mobilenet-v1'],
      ...['--plan', '2/quantized/4-bit', '--plan', 'local', '--plan', 'auto'],
    ]);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/image +answer +plan +bytes up +bpp +device ms +link ms +cloud ms +total ms/);
    expect(stdout).toMatch(/acanthus-mollis\.jpg +pineapple 0\.\d+ +cut 2 · quantized 4-bit +[\d.]+ KB/);
    expect(stdout).toMatch(/pineapple 0\.\d+ +local +0 B/);
  });

  it('says which models there are when it is not told which', async () => {
    const { stderr, exitCode } = await isthmus(['run', receiver.url, 'x.jpg']);
    expect(stderr).toContain('serves: mobilenet-v1, resnet-50, tiny-yolo-v2, inception, unet');
    expect(exitCode).toBe(2);
  });
});
