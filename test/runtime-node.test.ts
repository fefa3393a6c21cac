import { spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Worker } from 'node:worker_threads';
import { createTensor, type Runtime } from '@isthmus/core';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  averagingMatrix,
  convModel,
  identityModel,
  oneTensorOfEachType,
  powerModel,
} from './support/runtime-models.js';

const root = fileURLToPath(new URL('..', import.meta.url));

// setImmediate callbacks that the main thread gets to while `work` is under way.
async function countTicks(work: () => Promise<unknown>): Promise<number> {
  let ticks = 0;
  let done = false;
  const tick = () => {
    ticks++;
    if (!done) setImmediate(tick);
  };
  setImmediate(tick);
  await work();
  done = true;
  return ticks;
}

function runScript(script: string, cwd: string): Promise<{ exitCode: number | null; text: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { cwd });
    let text = '';
    child.stdout.on('data', (chunk) => {
      text += chunk;
    });
    child.stderr.on('data', (chunk) => {
      text += chunk;
    });
    child.on('error', reject);
    child.on('close', (exitCode) => resolve({ exitCode, text }));
  });
}

describe('the node runtime', () => {
  let runtime: Runtime;
  let workers: Worker[];
  const collect = (worker: Worker) => workers.push(worker);

  beforeEach(() => {
    workers = [];
    process.on('worker', collect);
    runtime = createNodeRuntime({ threads: 1 });
  });
  afterEach(async () => {
    await runtime.close();
    process.off('worker', collect);
  });

  it('says what it is, with the version once the engine is loaded', async () => {
    expect(runtime.description).toBe('onnxruntime-node cpu, 1 thread');
    await runtime.load(identityModel('float32'));
    expect(runtime.description).toMatch(/^onnxruntime-node \d+\.\d+\.\d+ cpu, 1 thread$/);
  });

  it.each(oneTensorOfEachType)(
    'carries $type unchanged, and leaves the feed to the caller',
    async (tensor) => {
      const session = await runtime.load(identityModel(tensor.type));
      const before = tensor.data.slice();
      const { outputs, durationMs } = await session.run({ x: tensor });
      expect(outputs).toEqual({ y: { type: tensor.type, shape: [2, 2], data: before } });
      expect(outputs.y!.data.constructor).toBe(before.constructor);
      expect(tensor.data).toEqual(before);
      expect(durationMs).toBeGreaterThan(0);
    },
  );

  it('reads a feed that is part of a larger buffer', async () => {
    const session = await runtime.load(identityModel('float32'));
    const data = Float32Array.of(9, 1, 2, 3, 4, 9).subarray(1, 5);
    const { outputs } = await session.run({ x: createTensor('float32', [2, 2], data) });
    expect(outputs.y!.data).toEqual(Float32Array.of(1, 2, 3, 4));
  });

  it('keeps the model bytes for the caller', async () => {
    const model = identityModel('float32');
    const before = model.slice();
    await runtime.load(model);
    expect(model).toEqual(before);
  });

  it('gives only the outputs asked for', async () => {
    const session = await runtime.load(convModel());
    expect(session.inputNames).toEqual(['x']);
    expect(session.outputNames).toEqual(['features', 'scores']);
    const x = createTensor('float32', [2, 3, 16, 16], new Float32Array(2 * 768).fill(0.5));
    const { outputs } = await session.run({ x }, ['scores']);
    expect(Object.keys(outputs)).toEqual(['scores']);
    expect(outputs.scores!.shape).toEqual([2, 5]);
  });

  it('leaves the event loop free while a model runs', async () => {
    const model = powerModel(20);
    const matrix = averagingMatrix(400);
    const session = await runtime.load(model);
    const inWorker = await countTicks(() => session.run({ x: matrix }));
    const direct = await InferenceSession.create(model, { intraOpNumThreads: 1 });
    const onMainThread = await countTicks(() =>
      direct.run({ x: new OrtTensor('float32', matrix.data, matrix.shape) }),
    );
    await direct.release();
    expect(onMainThread).toBeLessThan(10);
    expect(inWorker).toBeGreaterThan(100);
  });

  it('measures each of several overlapping runs alone', async () => {
    const session = await runtime.load(powerModel(20));
    const x = averagingMatrix(300);
    const startMs = performance.now();
    const results = await Promise.all([1, 2, 3, 4].map(() => session.run({ x })));
    const wholeMs = performance.now() - startMs;
    // Were queueing included, the sum would exceed the whole.
    expect(results.reduce((sum, result) => sum + result.durationMs, 0)).toBeLessThan(wholeMs);
  });

  it.each([
    [{}, /"x" is missing/],
    [{ y: averagingMatrix(2) }, /no input "y"; it takes "x"/],
    [{ x: createTensor('int32', [2, 2], new Int32Array(4)) }, /"x" takes float32\[n, 2\], not int32\[2, 2\]/],
    [{ x: createTensor('float32', [2, 3], new Float32Array(6)) }, /"x" takes .*, not float32\[2, 3\]/],
    [{ x: createTensor('float32', [4], new Float32Array(4)) }, /"x" takes .*, not float32\[4\]/],
    [{ x: { type: 'float32' as const, shape: [9, 2], data: new Float32Array(4) } }, /"x" is malformed/],
  ])('refuses wrong feeds by name (%#)', async (feeds, message) => {
    const session = await runtime.load(identityModel('float32'));
    const run = session.run(feeds as Parameters<typeof session.run>[0]);
    await expect(run).rejects.toMatchObject({
      code: 'runtime/run-failed',
      message: expect.stringMatching(message),
    });
  });

  it('reports what only the engine can refuse, and goes on', async () => {
    const session = await runtime.load(powerModel(2));
    const uneven = createTensor('float32', [2, 3], new Float32Array(6));
    await expect(session.run({ x: uneven })).rejects.toMatchObject({
      code: 'runtime/run-failed',
      message: expect.stringMatching(/MatMul/),
      cause: expect.any(Error),
    });
    await expect(session.run({ x: averagingMatrix(2) }, ['nowhere'])).rejects.toMatchObject({
      code: 'runtime/run-failed',
      message: expect.stringMatching(/no output "nowhere"; it gives "y"/),
    });
    const { outputs } = await session.run({ x: averagingMatrix(2) });
    expect(outputs.y!.data).toEqual(new Float32Array(4).fill(0.5));
  });

  it.each([
    ['nothing', new Uint8Array(0)],
    ['noise', Uint8Array.from({ length: 500 }, (_, i) => (i * 7919) & 255)],
    ['half a model', identityModel('float32').subarray(0, 40)],
  ])('refuses %s as a model', async (_, bytes) => {
    await expect(runtime.load(bytes)).rejects.toMatchObject({
      code: 'runtime/load-failed',
      cause: expect.any(Error),
    });
  });

  it('refuses an execution provider that is not there', async () => {
    const exotic = createNodeRuntime({ executionProviders: ['abacus'] });
    await expect(exotic.load(identityModel('float32'))).rejects.toMatchObject({
      code: 'runtime/load-failed',
    });
    await exotic.close();
    expect(() => createNodeRuntime({ threads: 0 })).toThrowError(
      expect.objectContaining({ code: 'usage/invalid' }),
    );
  });

  it('releases once, and refuses runs afterwards', async () => {
    const session = await runtime.load(identityModel('float32'));
    await Promise.all([session.release(), session.release()]);
    await session.release();
    await expect(session.run({ x: averagingMatrix(2) })).rejects.toMatchObject({
      code: 'runtime/run-failed',
    });
  });

  it('reports a worker that dies, and starts another for the next load', async () => {
    const session = await runtime.load(identityModel('float32'));
    expect(workers).toHaveLength(1);
    // Not a message of the protocol: the worker throws where nobody catches.
    workers[0]!.postMessage(null);
    const pending = session.run({ x: averagingMatrix(2) });
    await expect(pending).rejects.toMatchObject({ code: 'runtime/crashed' });
    await expect(session.run({ x: averagingMatrix(2) })).rejects.toMatchObject({ code: 'runtime/crashed' });
    await session.release();
    const again = await runtime.load(identityModel('float32'));
    expect(workers).toHaveLength(2);
    const { outputs } = await again.run({ x: averagingMatrix(2) });
    expect(outputs.y!.shape).toEqual([2, 2]);
  });

  it('ends every pending call once when it is closed', async () => {
    const session = await runtime.load(powerModel(20));
    const pending = [1, 2, 3].map(() => session.run({ x: averagingMatrix(300) }));
    const outcomes = Promise.allSettled(pending);
    await Promise.all([runtime.close(), runtime.close()]);
    for (const outcome of await outcomes) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'runtime/unavailable' } });
    }
    const closed = { code: 'runtime/unavailable' };
    await expect(session.run({ x: averagingMatrix(2) })).rejects.toMatchObject(closed);
    await expect(runtime.load(identityModel('float32'))).rejects.toMatchObject(closed);
    await session.release();
  });
});

describe('a process with a node runtime', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'isthmus-runtime-'));
    await writeFile(join(folder, 'model.onnx'), powerModel(20));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const start = (rest: string) => `
    import { readFileSync } from 'node:fs';
    import { createNodeRuntime } from '@isthmus/runtime/node';
    const runtime = createNodeRuntime({ threads: 1 });
    const load = () => runtime.load(readFileSync(${JSON.stringify(join(folder, 'model.onnx'))}));
    const x = { type: 'float32', shape: [500, 500], data: new Float32Array(250000) };
    ${rest}`;

  it('ends by itself when the runtime is idle', async () => {
    const { exitCode, text } = await runScript(
      start(`await (await load()).run({ x }); console.log('ran');`),
      root,
    );
    expect({ exitCode, text }).toEqual({ exitCode: 0, text: 'ran\n' });
  });

  it('can be ended in the middle of a run', async () => {
    const script = start(`
      const session = await load();
      for (let i = 0; i < 3; i++) void session.run({ x });
      setTimeout(() => process.exit(3), 20);`);
    expect(await runScript(script, root)).toEqual({ exitCode: 3, text: '' });
  });

  it('says what to install when onnxruntime-node is missing', async () => {
    const scope = join(folder, 'node_modules', '@isthmus');
    await mkdir(join(scope, 'runtime'), { recursive: true });
    for (const part of ['dist', 'package.json']) {
      await cp(join(root, 'packages/runtime', part), join(scope, 'runtime', part), { recursive: true });
    }
    await symlink(join(root, 'packages/core'), join(scope, 'core'), 'junction');
    const script = start(`await load().catch((error) => console.log(error.code, error.message));`);
    const { exitCode, text } = await runScript(script, folder);
    expect(text).toMatch(/^runtime\/unavailable .*npm install onnxruntime-node/);
    expect(exitCode).toBe(0);
  });
});
