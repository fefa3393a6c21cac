import { createTensor } from '@isthmus/core';
import {
  type ConnectOptions,
  connect,
  createMemoryCache,
  type DecisionEvent,
  exponentialBackoff,
  type Frame,
  type Plan,
  type SegmentEvent,
  type Session,
} from '@isthmus/device';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Fixture, makeFixture, relativeDifference } from '../support/fixture.js';
import { gateRuntime, until } from '../support/receivers.js';
import { codeOf, startReceiver, type TestReceiver, withManifest } from '../support/restartable.js';

let fixture: Fixture;
const cleanups: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  fixture = await makeFixture();
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
afterAll(() => fixture.runtime.close());

async function receive(
  options: Parameters<typeof startReceiver>[1] = {},
  files?: ReadonlyMap<string, Uint8Array>,
): Promise<TestReceiver> {
  const receiver = await startReceiver(fixture, options, files);
  cleanups.push(() => receiver.stop());
  return receiver;
}

async function join(url: string, options: Partial<ConnectOptions> = {}): Promise<Session<Frame>> {
  const session = await connect(url, {
    model: 'two-heads',
    runtime: fixture.runtime,
    cache: createMemoryCache(),
    mayRunLocally: false,
    reconnect: exponentialBackoff({ firstMs: 10, maxMs: 50 }),
    ...options,
  });
  cleanups.push(() => session.close());
  return session;
}

const raw = (cut: number): Plan => ({ kind: 'split', from: cut, codec: 'raw', level: 0, to: cut });

function expectWhole(tensors: Fixture['expected'], limit = 1e-4): void {
  expect(Object.keys(tensors)).toEqual(Object.keys(fixture.expected));
  for (const [name, tensor] of Object.entries(tensors)) {
    expect(relativeDifference(tensor, fixture.expected[name]!)).toBeLessThan(limit);
  }
}

describe('a frame', () => {
  test('sent raw at every cut gives what the unsplit model gives', async () => {
    const session = await join((await receive()).url);
    const { paths } = session.manifest.codecs.find(({ id }) => id === 'raw')!;
    expect(paths.length).toBeGreaterThan(3);
    for (const { from } of paths) {
      const { tensors, plan, bytes, timing } = await session.run(fixture.frame, { plan: raw(from) });
      expect(plan).toMatchObject(raw(from));
      expectWhole(tensors);
      expect(bytes.payload).toBe(session.manifest.cuts[from]!.numBytes);
      expect(bytes.up).toBeGreaterThan(bytes.payload);
      expect(timing.deviceMs > 0).toBe(from > 0);
    }
  });

  test('sent quantized is close, and smaller with fewer bits', async () => {
    const session = await join((await receive()).url);
    const { levels, id } = session.manifest.codecs.find(({ kind }) => kind === 'quantized')!;
    const sizes: number[] = [];
    for (const level of levels.keys()) {
      const plan: Plan = { kind: 'split', from: 1, codec: id, level, to: 1 };
      const { tensors, bytes } = await session.run(fixture.frame, { plan });
      expectWhole(tensors, level === 0 ? 0.02 : 1);
      sizes.push(bytes.payload);
    }
    expect(sizes).toEqual([...sizes].sort((a, b) => b - a));
  });

  test('is answered by a plan of the device’s choice when none is given, and the choice is told', async () => {
    const session = await join((await receive()).url);
    const plans: string[] = [];
    session.on('plan', (plan) => plans.push(plan.reason));
    const decisions: DecisionEvent[] = [];
    session.on('decision', (event) => decisions.push(event));
    const { tensors, plan } = await session.run(fixture.frame);
    // By default nothing coarser than half floats.
    expectWhole(tensors, 1e-3);
    expect(plans[0]).toBe(plan.reason);
    expect(decisions).toMatchObject([{ frame: 0, decision: { isFeasible: true, reason: plan.reason } }]);
    const [best, ...others] = decisions[0]!.decision.candidates();
    expect(others.length).toBeGreaterThan(3);
    expect(others.every(({ utility }) => utility <= best!.utility)).toBe(true);
    expect(session.estimate.roundTripMs).not.toBeNull();
  });

  test('may be a bare tensor, and must be the right one', async () => {
    const session = await join((await receive()).url, { plan: raw(1) });
    expectWhole((await session.run(fixture.frame.image!)).tensors);
    const small = createTensor('float32', [1, 3, 8, 8], new Float32Array(192));
    const bytes = createTensor('uint8', [1, 3, 32, 32], new Uint8Array(3072));
    expect(await codeOf(session.run(small))).toBe('tensor/shape-mismatch');
    expect(await codeOf(session.run(bytes))).toBe('tensor/type-mismatch');
    expect(await codeOf(session.run({ other: small }))).toBe('tensor/shape-mismatch');
    expect(await codeOf(session.run('a string' as unknown as Frame))).toBe('image/unsupported');
    expect(await codeOf(session.run({ data: new Uint8Array(12), width: 2, height: 2 }))).toBe(
      'image/unsupported',
    );
  });

  test('may be a picture, by its pixels or its file, and gets a label', async () => {
    const files = withManifest(fixture, {
      preprocess: {
        width: 32,
        height: 32,
        colorOrder: 'rgb',
        fit: 'fill',
        mean: [127, 127, 127],
        std: [128, 128, 128],
      },
      task: {
        kind: 'classification',
        output: 'scores',
        activation: 'softmax',
        labels: ['a', 'b', 'c', 'd', 'e'],
      },
    });
    const session = await join((await receive({}, files)).url, { plan: raw(2) });
    const data = Uint8Array.from({ length: 3 * 48 * 40 }, (_, i) => (i * 37) % 256);
    const picture = sharp(data, { raw: { width: 48, height: 40, channels: 3 } });
    const fromPixels = await session.run({ data, width: 48, height: 40 });
    const fromFile = await session.run(await picture.png().toBuffer());
    expect(fromFile.tensors.scores).toEqual(fromPixels.tensors.scores);
    expect(fromFile.output).toMatchObject({ kind: 'classification' });
    const { classes } = fromFile.output as Extract<typeof fromFile.output, { kind: 'classification' }>;
    expect(classes.reduce((sum, { score }) => sum + score, 0)).toBeCloseTo(1);
    expect(fromFile.bitsPerPixel).toBe((8 * (fromFile.bytes.payload + 20)) / 1024);
    const jpeg = await picture.jpeg().toBuffer();
    expect(await codeOf(session.run(jpeg.subarray(0, jpeg.length / 2)))).toBe('image/decode-failed');
    expect(await codeOf(session.run(new Uint8Array(100)))).toBe('image/decode-failed');
    // Grey and transparent pictures are pictures too.
    for (const other of [picture.clone().greyscale(), picture.clone().ensureAlpha(0.5)]) {
      expect((await session.run(await other.png().toBuffer())).output.kind).toBe('classification');
    }
  });

  test('is one of many in flight, more than the receiver takes at once, each with its own answer', async () => {
    const receiver = await receive({ limits: { inFlightPerConnection: 3 } });
    const session = await join(receiver.url);
    const { data } = fixture.frame.image!;
    const frames = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map((factor) =>
      createTensor(
        'float32',
        [1, 3, 32, 32],
        Float32Array.from(data as Float32Array, (value) => value * factor),
      ),
    );
    const results = await Promise.all(frames.map((frame, i) => session.run(frame, { plan: raw(i % 3) })));
    // Without biases and with Relu, the network is linear in a positive factor.
    results.forEach(({ tensors }, i) => {
      const scores = tensors.scores!.data as Float32Array;
      const expected = fixture.expected.scores!.data as Float32Array;
      scores.forEach((score, j) => {
        expect(score / (i + 1)).toBeCloseTo(expected[j]!, 3);
      });
    });
  });
});

describe('a request', () => {
  test('that is cancelled ends at once, and those after it are answered', async () => {
    const gate = gateRuntime(fixture.runtime);
    const session = await join((await receive({ runtime: gate })).url, { plan: raw(1) });
    gate.shut();
    const controller = new AbortController();
    const cancelled = codeOf(session.run(fixture.frame, { signal: controller.signal }));
    const other = session.run(fixture.frame);
    await until(() => gate.arrived > 0);
    controller.abort();
    expect(await cancelled).toBe('request/cancelled');
    gate.open();
    expectWhole((await other).tensors);
    expect(await codeOf(session.run(fixture.frame, { signal: controller.signal }))).toBe('request/cancelled');
  });

  test('that misses its deadline fails, on the device if the receiver says nothing', async () => {
    const gate = gateRuntime(fixture.runtime);
    const session = await join((await receive({ runtime: gate })).url, { plan: raw(1) });
    gate.shut();
    expect(await codeOf(session.run(fixture.frame, { deadlineMs: 30 }))).toBe('request/deadline');
    gate.open();
    expectWhole((await session.run(fixture.frame, { deadlineMs: 60_000 })).tensors);
  });

  test('with a plan that cannot be is refused before anything is sent', async () => {
    const receiver = await receive();
    const session = await join(receiver.url);
    const split = { kind: 'split', from: 1, codec: 'raw', level: 0, to: 1 } as const;
    expect(await codeOf(session.run(fixture.frame, { plan: raw(99) }))).toBe('bundle/no-such-cut');
    expect(await codeOf(session.run(fixture.frame, { plan: { ...split, to: 0 } }))).toBe(
      'request/invalid-plan',
    );
    expect(await codeOf(session.run(fixture.frame, { plan: { ...split, codec: 'zip' } }))).toBe(
      'codec/unknown',
    );
    expect(await codeOf(session.run(fixture.frame, { plan: { ...split, level: 9 } }))).toBe(
      'codec/no-such-level',
    );
    expect(await codeOf(session.run(fixture.frame, { plan: { ...split, to: 2 } }))).toBe(
      'codec/no-such-path',
    );
    expect(await codeOf(session.run(fixture.frame, { plan: { kind: 'local' } }))).toBe(
      'request/invalid-plan',
    );
    expect(await codeOf(join(receiver.url, { plan: raw(99) }))).toBe('bundle/no-such-cut');
  });

  test('larger than the receiver takes is refused by the device', async () => {
    const session = await join((await receive({ limits: { packetBytes: 5000 } })).url);
    expect(await codeOf(session.run(fixture.frame, { plan: raw(0) }))).toBe('wire/too-large');
    const { plan, bytes } = await session.run(fixture.frame);
    expect(plan.kind).toBe('split');
    expect(bytes.payload).toBeLessThan(5000);
  });

  test('whose result is larger than the device takes fails alone', async () => {
    const session = await join((await receive()).url, { maxResultBytes: 100, plan: raw(1) });
    expect(await codeOf(session.run(fixture.frame))).toBe('wire/too-large');
    expect(session.link).toBe('up');
  });

  test('of a closed session fails', async () => {
    const gate = gateRuntime(fixture.runtime);
    const session = await join((await receive({ runtime: gate })).url, { plan: raw(1) });
    const closed: unknown[] = [];
    session.on('close', (event) => closed.push(event));
    gate.shut();
    const pending = codeOf(session.run(fixture.frame));
    await until(() => gate.arrived > 0);
    await session.close();
    gate.open();
    expect(await pending).toBe('link/closed');
    expect(await codeOf(session.run(fixture.frame))).toBe('link/closed');
    await session.close();
    expect(closed).toEqual([{ error: undefined }]);
  });
});

describe('connect()', () => {
  test('names what is wrong', async () => {
    const receiver = await receive({ auth: ['secret'] });
    expect(await codeOf(join(receiver.url))).toBe('auth/denied');
    expect(await codeOf(join(receiver.url, { token: 'wrong' }))).toBe('auth/denied');
    expect(await codeOf(join(receiver.url, { token: 'secret', model: 'other' }))).toBe(
      'bundle/no-such-model',
    );
    expect(await codeOf(join('not a url'))).toBe('usage/invalid');
    expect(await codeOf(join('ftp://localhost'))).toBe('usage/invalid');
    expect(await codeOf(join(receiver.url, { model: '' }))).toBe('usage/invalid');
    expect(await codeOf(join('ws://127.0.0.1:1'))).toBe('link/connect-failed');
    expect(await codeOf(join(receiver.url, { token: 'secret', signal: AbortSignal.abort() }))).toBe(
      'request/cancelled',
    );
    const session = await join(receiver.url, { token: 'secret', plan: raw(1) });
    expectWhole((await session.run(fixture.frame)).tensors);
  });

  test('accepts http addresses as well as ws', async () => {
    const session = await join((await receive()).url.replace('ws:', 'http:'), { plan: raw(0) });
    expectWhole((await session.run(fixture.frame)).tensors);
  });
});

describe('segments', () => {
  test('are downloaded once, when they are wanted, and not again by the next session', async () => {
    const { url } = await receive();
    const cache = createMemoryCache();
    const run = async (): Promise<{ requested: string[]; done: SegmentEvent[] }> => {
      const requested: string[] = [];
      const done: SegmentEvent[] = [];
      const session = await join(url, {
        cache,
        fetch: (input, init) => {
          requested.push(new URL(String(input)).pathname.replace('/models/two-heads/', ''));
          return fetch(input, init);
        },
      });
      session.on('segment', (event) => event.done && done.push(event));
      await session.run(fixture.frame, { plan: raw(0) });
      expect(requested).toEqual(['manifest.json']);
      await Promise.all([1, 2, 2, 1].map((cut) => session.run(fixture.frame, { plan: raw(cut) })));
      await session.close();
      return { requested, done };
    };
    const first = await run();
    expect(first.requested.filter((path) => path.startsWith('segments/')).sort()).toEqual([
      'segments/0.onnx',
      'segments/1.onnx',
    ]);
    expect(first.done.every(({ numBytes, receivedBytes }) => numBytes === receivedBytes)).toBe(true);
    const second = await run();
    expect(second.requested).toEqual(['manifest.json']);
    expect(new Set(second.done.map(({ source }) => source))).toEqual(new Set(['cache']));
  });

  test('that were changed on the way are refused, and a damaged cache is mended', async () => {
    const { url } = await receive();
    const { path, sha256 } = fixture.manifest.segments[0]!.file;
    const tampered = await join(url, {
      plan: raw(1),
      fetch: async (input, init) => {
        const response = await fetch(input, init);
        if (!String(input).endsWith(path)) return response;
        const bytes = new Uint8Array(await response.arrayBuffer());
        bytes[bytes.length >> 1]! ^= 1;
        return new Response(bytes);
      },
    });
    expect(await codeOf(tampered.run(fixture.frame))).toBe('bundle/hash-mismatch');

    const cache = createMemoryCache();
    await cache.put(sha256, new Uint8Array(fixture.manifest.segments[0]!.file.numBytes));
    const mended = await join(url, { plan: raw(1), cache });
    expectWhole((await mended.run(fixture.frame)).tensors);
    expect(await cache.get(sha256)).toEqual(fixture.files.get(path));
  });

  test('that the device has no memory for are not loaded', async () => {
    const { numBytes } = fixture.manifest.segments[0]!.file;
    const session = await join((await receive()).url, { maxDeviceBytes: numBytes / 2 });
    expect(await codeOf(session.run(fixture.frame, { plan: raw(1) }))).toBe('request/invalid-plan');
    expectWhole((await session.run(fixture.frame)).tensors, 1e-3);
  });
});
