import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { isIsthmusError, sha256Hex } from '@isthmus/core';
import { createGraphBuilder, writeModel } from '@isthmus/graph';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { pullModel } from './pull-model.js';
import type { PullOptions } from './pull-options.js';
import { type FileServer, startFileServer, whole } from './testing/file-server.js';

const graph = createGraphBuilder({ name: 'relu', opset: 17 });
graph.output(
  graph.node('Relu', [graph.input('x', 'float32', [1, 3])], {}, { output: 'y' }),
  'float32',
  [1, 3],
);
const onnx = writeModel(graph.build());

const tfjs = JSON.stringify({
  modelTopology: {
    model_config: {
      class_name: 'Sequential',
      config: {
        layers: [
          { class_name: 'Dense', config: { name: 'd', use_bias: false, batch_input_shape: [null, 2] } },
        ],
      },
    },
  },
  weightsManifest: [{ paths: ['w.bin'], weights: [{ name: 'd/kernel', shape: [2, 1], dtype: 'float32' }] }],
});

const runtime = createNodeRuntime({ threads: 1 });
afterAll(() => runtime.close());

let folder: string;
let server: FileServer | undefined;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'isthmus-file-'));
});
afterEach(async () => {
  await server?.close();
  server = undefined;
  await rm(folder, { recursive: true, force: true });
});

const options = (sha256?: string): PullOptions => ({
  runtime,
  cacheDir: join(folder, 'cache'),
  ...(sha256 !== undefined && { sha256 }),
});

async function refusal(work: Promise<unknown>) {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!isIsthmusError(error)) throw new Error(`Expected an IsthmusError, got ${error}`);
  return error;
}

const cached = () => readdir(join(folder, 'cache', 'models')).catch(() => []);

describe('pullModel', () => {
  it('lists the models there are when asked for another', async () => {
    const error = await refusal(pullModel('mobilenet-v9', options()));
    expect(error.code).toBe('pull/unknown-model');
    expect(error.message).toContain('mobilenet-v1, resnet-50, tiny-yolo-v2');
  });

  it('takes an ONNX file by path or URL, unchanged, and finds it again', async () => {
    const path = join(folder, 'My Relu.onnx');
    await writeFile(path, onnx);
    const sha256 = await sha256Hex(onnx);
    const pulled = await pullModel(`file:${path}`, options(sha256));
    expect(pulled).toMatchObject({
      name: 'my-relu',
      fromCache: false,
      preprocess: null,
      task: { kind: 'tensor' },
    });
    expect(pulled.provenance).toMatchObject({
      source: 'My Relu.onnx',
      sha256,
      integrity: `sha256-${sha256}`,
    });
    expect(new Uint8Array(await readFile(pulled.modelPath))).toEqual(onnx);
    await rm(path);
    expect(await pullModel(pathToFileURL(path).href, options(sha256))).toEqual({
      ...pulled,
      fromCache: true,
    });
  });

  it('takes a TensorFlow.js model with the weights beside it', async () => {
    const model = join(folder, 'tiny');
    await mkdir(model);
    await writeFile(join(model, 'model.json'), tfjs);
    await writeFile(join(model, 'w.bin'), new Uint8Array(Float32Array.of(2, 3).buffer));
    const sha256 = await sha256Hex(new TextEncoder().encode(tfjs));
    const pulled = await pullModel(`file:${join(model, 'model.json')}`, options(sha256));
    expect(pulled.name).toBe('tiny');
    const session = await runtime.load(await readFile(pulled.modelPath));
    const feeds = { d_input: { type: 'float32', shape: [1, 2], data: Float32Array.of(10, 1) } } as const;
    const { outputs } = await session.run(feeds);
    expect([...(outputs.d!.data as Float32Array)]).toEqual([23]);
    await session.release();
  });

  it('does not follow a model.json out of its folder', async () => {
    const hostile = tfjs.replace('w.bin', '../w.bin');
    await mkdir(join(folder, 'tiny'));
    await writeFile(join(folder, 'tiny', 'model.json'), hostile);
    await writeFile(join(folder, 'w.bin'), new Uint8Array(8));
    const sha256 = await sha256Hex(new TextEncoder().encode(hostile));
    const error = await refusal(pullModel(`file:${join(folder, 'tiny', 'model.json')}`, options(sha256)));
    expect(error.code).toBe('model/invalid');
    expect(error.message).toContain('../w.bin');
  });

  it('downloads from https', async () => {
    server = await startFileServer(whole(onnx));
    const { url } = server;
    // The address is https; the bytes come from a plain server on loopback.
    const overLoopback: typeof fetch = (address, init) =>
      fetch(String(address).replace('https://models.example', url), init);
    const withFetch = { ...options(await sha256Hex(onnx)), fetch: overLoopback };
    const pulled = await pullModel('https://models.example/relu.onnx?v=1', withFetch);
    expect(pulled).toMatchObject({ name: 'relu', fromCache: false });
    expect(server.requests.map(({ path }) => path)).toEqual(['/relu.onnx?v=1']);
    expect(await readdir(join(folder, 'cache', 'downloads'))).toEqual([]);
    const wrong = { ...withFetch, sha256: '0'.repeat(64) };
    expect((await refusal(pullModel('https://models.example/relu.onnx', wrong))).code).toBe('pull/integrity');
    expect(await cached()).toHaveLength(1);
  });

  it('refuses a file with another hash', async () => {
    const path = join(folder, 'relu.onnx');
    await writeFile(path, onnx);
    expect((await refusal(pullModel(`file:${path}`, options('0'.repeat(64))))).code).toBe('pull/integrity');
    expect(await cached()).toEqual([]);
  });

  it('keeps nothing of a file that is not what its name says', async () => {
    for (const [name, code] of [
      ['photo.onnx', 'model/not-onnx'],
      ['photo.tflite', 'model/invalid'],
      ['photo.json', 'model/invalid'],
    ] as const) {
      const bytes = new TextEncoder().encode('\xff\xd8\xff\xe0 this is a photograph and nothing else');
      await writeFile(join(folder, name), bytes);
      const error = await refusal(pullModel(`file:${join(folder, name)}`, options(await sha256Hex(bytes))));
      expect(error.code).toBe(code);
    }
    expect(await cached()).toEqual([]);
  });

  it('reports a path that is not there', async () => {
    const error = await refusal(pullModel(`file:${folder}/none.onnx`, options('0'.repeat(64))));
    expect(error.code).toBe('pull/disk');
    expect(error.message).toContain('none.onnx');
  });

  it.each([
    { source: 'file:a.onnx', why: 'a missing sha256' },
    { source: 'file:a.onnx', sha256: 'abc', why: 'a malformed sha256' },
    { source: 'http://host/a.onnx', sha256: '0'.repeat(64), why: 'http without s' },
    { source: 'https://host/a.pt', sha256: '0'.repeat(64), why: 'an unknown ending' },
    { source: 'https://host/model.json', sha256: '0'.repeat(64), why: 'a model of several files over https' },
  ])('refuses $why', async ({ source, sha256 }) => {
    expect((await refusal(pullModel(source, options(sha256)))).code).toBe('usage/invalid');
  });
});
