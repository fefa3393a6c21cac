import type { Manifest } from '@isthmus/core';
import {
  type ConnectOptions,
  connect,
  createMemoryCache,
  type Frame,
  type Plan,
  type PricedPlan,
  type Session,
} from '@isthmus/device';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { CalibratedFixture } from './support/calibrated.js';
import { relativeDifference } from './support/fixture.js';
import { countingRuntime, type LearnedOnly, makeLearnedOnly } from './support/learned-only.js';
import { createStage } from './support/receivers.js';
import { codeOf } from './support/restartable.js';

// Plans that nobody asked for by name, over sockets: a codec with networks of its own where it is best, and no sooner.
const minQuality = 0.96;
let fixtures: LearnedOnly;
const stage = createStage();
const sessions: Session<Frame>[] = [];

beforeAll(async () => {
  fixtures = await makeLearnedOnly();
}, 120_000);
afterEach(async () => {
  for (const session of sessions.splice(0)) await session.close();
  await stage.clear();
});
afterAll(() => fixtures.shallow.runtime.close());

async function open(fixture: CalibratedFixture, options: Partial<ConnectOptions> = {}) {
  const { url, receiver } = await stage.open(fixture);
  const runtime = countingRuntime(fixture.runtime);
  const session: Session<Frame> = await connect(url, {
    model: 'two-heads',
    runtime,
    cache: createMemoryCache(),
    mayRunLocally: false,
    target: { objective: { kind: 'bytes' }, minQuality },
    ...options,
  });
  sessions.push(session);
  return { session, runtime, receiver };
}

/** The fewest bytes that are good enough, by the manifest alone. */
function cheapest({ codecs }: Manifest): Plan & { numBytes: number } {
  const all = codecs.flatMap(({ id, paths, measured = [] }) =>
    paths.flatMap(({ from, to }, path) =>
      (measured[path] ?? []).map(({ numBytes, quality }, level) => ({
        plan: { kind: 'split' as const, from, codec: id, level, to },
        numBytes,
        quality,
      })),
    ),
  );
  const enough = all.filter(({ quality }) => quality >= minQuality);
  const [first] = enough.sort((a, b) => a.numBytes - b.numBytes);
  if (first === undefined) throw new Error('Nothing is good enough.');
  return { ...first.plan, numBytes: first.numBytes };
}

/** What a plan takes on the device, as the session says before anything of it was fetched. */
async function deviceBytesOf(fixture: CalibratedFixture, plan: Plan): Promise<number> {
  const { session } = await open(fixture);
  const decided = new Promise<PricedPlan[]>((resolve) =>
    session.on('decision', ({ decision }) => resolve(decision.candidates())),
  );
  await session.run(fixture.frame);
  const isSame = (other: Plan): boolean =>
    other.kind === 'split' && plan.kind === 'split' && other.from === plan.from && other.codec === plan.codec;
  const found = (await decided).find((priced) => isSame(priced.plan));
  if (found === undefined) throw new Error('There is no such plan.');
  return found.deviceBytes;
}

describe.each(['shallow', 'deep'] as const)('auto, with a %s learned codec', (name) => {
  test('chooses it where it is best, and is answered well in as few bytes as it was said to take', async () => {
    const fixture = fixtures[name];
    const { numBytes, ...best } = cheapest(fixture.manifest);
    // Else there would be nothing to show.
    expect(best).toMatchObject({ codec: name === 'deep' ? 'learned-2-3' : 'learned-3' });
    const { session } = await open(fixture);
    // Cut 0 until the span is there.
    await expect
      .poll(async () => (await session.run(fixture.frames[0]!)).plan, { timeout: 10_000, interval: 20 })
      .toMatchObject(best);
    const sizes: number[] = [];
    for (const frame of fixture.frames) {
      const { plan, tensors, bytes } = await session.run(frame);
      expect(plan).toMatchObject(best);
      sizes.push(bytes.payload);
      const whole = await session.run(frame, {
        plan: { kind: 'split', from: 0, codec: 'raw', level: 0, to: 0 },
      });
      for (const [output, tensor] of Object.entries(tensors)) {
        expect(relativeDifference(tensor, whole.tensors[output]!)).toBeLessThan(0.4);
      }
    }
    const mean = sizes.reduce((sum, size) => sum + size, 0) / sizes.length;
    expect(Math.abs(mean / numBytes - 1)).toBeLessThan(0.3);
  });

  test('chooses it only where its encoder fits the memory, which counts it', async () => {
    const fixture = fixtures[name];
    const { manifest } = fixture;
    const best = cheapest(manifest);
    if (best.kind === 'local') throw new Error('A codec was expected.');
    const plain: Plan = { kind: 'split', from: best.from, codec: 'raw', level: 0, to: best.from };
    const needed = await deviceBytesOf(fixture, best);
    expect(needed).toBeGreaterThan(await deviceBytesOf(fixture, plain));

    const tight = await open(fixture, { maxDeviceBytes: needed - 1 });
    expect(await codeOf(tight.session.run(fixture.frame, { plan: best }))).toBe('request/invalid-plan');
    await tight.session.prepare(plain);
    for (let i = 0; i < 5; i++) {
      const { plan } = await tight.session.run(fixture.frame);
      expect(plan.kind === 'split' && plan.codec).not.toBe(best.codec);
    }

    const enough = await open(fixture, { maxDeviceBytes: needed });
    await enough.session.prepare(best);
    const decisions: number[] = [];
    enough.session.on('decision', ({ decision }) => decisions.push(decision.predicted?.deviceBytes ?? 0));
    const { plan } = await enough.session.run(fixture.frame);
    expect(plan).toMatchObject({ codec: best.codec });
    expect(decisions).toEqual([needed]);
  });
});

describe('memory', () => {
  const at = (from: number, codec: string, to = from): Plan => ({ kind: 'split', from, codec, level: 0, to });

  test('of an encoder is given back with its span, and when something else needs it', async () => {
    const fixture = fixtures.shallow;
    const learned = at(3, 'learned-3');
    const { session, runtime } = await open(fixture, {
      plan: learned,
      maxDeviceBytes: await deviceBytesOf(fixture, learned),
    });
    const { files } = fixture.manifest.codecs.find(({ id }) => id === 'learned-3')!;
    const encoder = files.find(({ path }) => path.endsWith('encoder.onnx'))!.numBytes;
    const loaded = (): Promise<number> =>
      session.run(fixture.frame, { plan: at(4, 'raw') }).then(() => runtime.loadedBytes);
    await session.run(fixture.frame);
    const both = runtime.loadedBytes;
    await session.run(fixture.frame, { plan: at(3, 'raw') });
    expect(runtime.loadedBytes).toBe(both);
    // What was used longest ago goes: the encoder.
    const second = (await loaded()) - (both - encoder);
    expect(second).toBeGreaterThan(0);
    await session.run(fixture.frame);
    expect(runtime.loadedBytes).toBe(both);
    // The span goes, and with it the encoder that leaves from its cut.
    await loaded();
    await expect.poll(() => runtime.loadedBytes).toBe(second);
    await session.close();
    await expect.poll(() => runtime.loadedBytes).toBe(0);
  });

  test('of a decoder counts at the receiver, and is given back when something else needs it', async () => {
    const fixture = fixtures.deep;
    const entry = fixture.manifest.codecs.find(({ id }) => id === 'learned-2-3')!;
    const decoder = entry.files.find(({ path }) => path.endsWith('decoder.onnx'))!;
    const plan = at(2, 'learned-2-3', 3);
    const runtime = countingRuntime(fixture.runtime);
    for (const maxSpanBytes of [2 ** 30, 1]) {
      const { url, receiver } = await stage.open(fixture, { runtime, maxSpanBytes });
      const session = await connect(url, { model: 'two-heads', runtime: fixture.runtime, plan });
      sessions.push(session);
      const first = await session.run(fixture.frame);
      if (maxSpanBytes > 1) {
        expect(receiver.stats().spans).toMatchObject({ loaded: 1 });
        expect(receiver.stats().spans.numBytes).toBeGreaterThan(decoder.numBytes);
        expect(runtime.loadedBytes).toBeGreaterThanOrEqual(decoder.numBytes);
      } else {
        await expect.poll(() => runtime.loadedBytes).toBe(0);
        expect(receiver.stats().spans).toMatchObject({ loaded: 0, numBytes: 0 });
      }
      const second = await session.run(fixture.frame);
      expect(second.tensors).toEqual(first.tensors);
      await receiver.close();
      await expect.poll(() => runtime.loadedBytes).toBe(0);
    }
  });
});
