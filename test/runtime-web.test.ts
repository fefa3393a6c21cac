import { createTensor, type Runtime } from '@isthmus/core';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { createWebRuntime } from '@isthmus/runtime/web';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  averagingMatrix,
  convModel,
  identityModel,
  oneTensorOfEachType,
  powerModel,
} from './support/runtime-models.js';

describe('the web runtime', () => {
  let runtime: Runtime;
  beforeEach(() => {
    runtime = createWebRuntime({ executionProviders: ['wasm'] });
  });
  afterEach(() => runtime.close());

  it('agrees with the node runtime', async () => {
    const node = createNodeRuntime({ threads: 1 });
    const x = createTensor(
      'float32',
      [2, 3, 16, 16],
      Float32Array.from({ length: 2 * 768 }, (_, i) => Math.cos(i)),
    );
    const [ours, theirs] = await Promise.all(
      [runtime, node].map(async (each) => (await (await each.load(convModel())).run({ x })).outputs),
    );
    await node.close();
    for (const name of ['features', 'scores']) {
      const [own, other] = [ours![name]!, theirs![name]!];
      expect(own.shape).toEqual(other.shape);
      expect(own.data.some((value) => Number(value) !== 0)).toBe(true);
      own.data.forEach((value, i) => {
        expect(Number(value)).toBeCloseTo(Number(other.data[i]), 5);
      });
    }
  });

  it.each(oneTensorOfEachType)(
    'carries $type unchanged, and leaves the feed to the caller',
    async (tensor) => {
      const session = await runtime.load(identityModel(tensor.type));
      const before = tensor.data.slice();
      const { outputs } = await session.run({ x: tensor });
      expect(outputs).toEqual({ y: { type: tensor.type, shape: [2, 2], data: before } });
      expect(outputs.y!.data.constructor).toBe(before.constructor);
      expect(tensor.data).toEqual(before);
    },
  );

  it('says what it runs on, and why it is not what was asked for', async () => {
    const wanting = createWebRuntime({ threads: 8 });
    expect(wanting.description).toBe('onnxruntime-web webgpu or wasm');
    await wanting.load(identityModel('float32'));
    expect(wanting.description).toMatch(
      /^onnxruntime-web \d+\.\d+\.\d+ wasm, 1 thread \(no webgpu: .+; one thread: not cross-origin isolated\)$/,
    );
    await wanting.close();
  });

  it('refuses when nothing that was asked for is there', async () => {
    const wanting = createWebRuntime({ executionProviders: ['webgpu'] });
    await expect(wanting.load(identityModel('float32'))).rejects.toMatchObject({
      code: 'runtime/unavailable',
    });
    await wanting.close();
    expect(() => createWebRuntime({ threads: 1.5 })).toThrowError(
      expect.objectContaining({ code: 'usage/invalid' }),
    );
  });

  it('takes overlapping runs of several sessions one after the other', async () => {
    const [power, identity] = await Promise.all([
      runtime.load(powerModel(3)),
      runtime.load(identityModel('float32')),
    ]);
    const results = await Promise.all([
      power.run({ x: averagingMatrix(4) }),
      identity.run({ x: averagingMatrix(2) }),
      power.run({ x: averagingMatrix(2) }),
    ]);
    expect(results.map((result) => result.outputs.y!.data)).toEqual([
      new Float32Array(16).fill(0.25),
      new Float32Array(4).fill(0.5),
      new Float32Array(4).fill(0.5),
    ]);
  });

  it('reports bad models, bad feeds and bad fetches', async () => {
    for (const bytes of [new Uint8Array(0), Uint8Array.of(1, 2, 3)]) {
      await expect(runtime.load(bytes)).rejects.toMatchObject({ code: 'runtime/load-failed' });
    }
    const session = await runtime.load(powerModel(2));
    const failed = { code: 'runtime/run-failed' };
    const uneven = createTensor('float32', [2, 3], new Float32Array(6));
    await expect(session.run({})).rejects.toMatchObject(failed);
    await expect(session.run({ x: uneven })).rejects.toMatchObject(failed);
    await expect(session.run({ x: averagingMatrix(2) }, ['nowhere'])).rejects.toMatchObject(failed);
    const { outputs } = await session.run({ x: averagingMatrix(2) });
    expect(outputs.y!.data).toEqual(new Float32Array(4).fill(0.5));
  });

  it('ends what waits when it is closed, and refuses afterwards', async () => {
    const session = await runtime.load(powerModel(3));
    const outcomes = Promise.allSettled([1, 2, 3].map(() => session.run({ x: averagingMatrix(50) })));
    await Promise.all([runtime.close(), session.release(), session.release()]);
    const last = (await outcomes).at(-1);
    expect(last).toMatchObject({ status: 'rejected', reason: { code: 'runtime/unavailable' } });
    await expect(runtime.load(powerModel(2))).rejects.toMatchObject({ code: 'runtime/unavailable' });
    await expect(session.run({ x: averagingMatrix(2) })).rejects.toMatchObject({
      code: 'runtime/unavailable',
    });
  });
});
