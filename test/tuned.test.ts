import {
  builtinCodecs,
  createManualClock,
  createTensor,
  encodeRequestPacket,
  type FileRef,
  findCodecKind,
} from '@isthmus/core';
import { connect, createMemoryCache, type Frame, type Plan, type Session } from '@isthmus/device';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { relativeDifference, withBundle, writeFixture } from './support/fixture.js';
import { type ReceiverProcess, serve } from './support/process.js';
import { createStage, gateRuntime, until } from './support/receivers.js';
import { brightness, makeTunedFixture, type TunedFixture } from './support/tuned.js';
import { chunksOf } from './support/wire-client.js';

// Codecs whose decoder goes on to the model's end: between this process and a receiver's, and while it takes its time.
let fixture: TunedFixture;
let receiver: ReceiverProcess;
let removeFolder: () => Promise<void>;
const sessions: Session<Frame>[] = [];
const stage = createStage();

beforeAll(async () => {
  fixture = await makeTunedFixture();
  const written = await writeFixture(fixture.files);
  removeFolder = written.remove;
  receiver = await serve([written.folder, '--port', '0']);
}, 120_000);
afterEach(async () => {
  for (const session of sessions.splice(0)) await session.close();
  await stage.clear();
});
afterAll(async () => {
  await receiver?.stop();
  await removeFolder?.();
  await fixture?.runtime.close();
});

const last = 5;
const plan = (from: number, codec: string): Plan => ({ kind: 'split', from, codec, level: 0, to: last });

async function open(onSegment?: (path: string) => void): Promise<Session<Frame>> {
  const session = await connect(receiver.url, {
    model: 'two-heads',
    runtime: fixture.runtime,
    cache: createMemoryCache(),
    mayRunLocally: false,
  });
  if (onSegment) session.on('segment', ({ path }) => onSegment(path));
  sessions.push(session);
  return session;
}

describe('through sockets', () => {
  test('a latent goes on through tuned segments to the end, where nothing is left to run', async () => {
    const fetched = new Set<string>();
    const session = await open((path) => fetched.add(path));
    for (const frame of fixture.frames.slice(0, 3)) {
      const { tensors, timing } = await session.run(frame, { plan: plan(2, 'learned-tuned') });
      const expected = await fixture.runTuned(2, await fixture.tensorsAt(2, frame));
      const plain = await session.run(frame, { plan: { ...plan(2, 'raw'), to: 2 } as Plan });
      expect(relativeDifference(tensors.scores!, expected.scores!)).toBeLessThan(0.03);
      expect(relativeDifference(plain.tensors.scores!, expected.scores!)).toBeGreaterThan(0.06);
      expect(relativeDifference(tensors.features!, expected.features!)).toBeLessThan(0.03);
      expect(timing).toMatchObject({ cloudMs: 0 });
    }
    expect([...fetched].filter((path) => path.startsWith('codecs/')).sort()).toEqual([
      'codecs/learned-tuned/encoder.onnx',
      'codecs/learned-tuned/tables.json',
    ]);
  });

  test('a picture is what the device sends, and the cloud mends it', async () => {
    const fetched = new Set<string>();
    const session = await open((path) => fetched.add(path));
    const [frame] = fixture.frames;
    const picture = await session.run(frame!, { plan: plan(0, 'webp-tuned') });
    const adapted = await session.run(frame!, { plan: plan(0, 'webp-adapted') });
    expect(adapted.bytes.payload).toBe(picture.bytes.payload);
    expect(picture.bytes.payload).toBeLessThan(fixture.manifest.cuts[0]!.numBytes / 8);
    const bright = (frame!.image!.data as Float32Array).map((value) => value + brightness);
    for (const [actual, image] of [
      [picture, frame!.image!],
      [adapted, createTensor('float32', [1, 3, 32, 32], bright)],
    ] as const) {
      const expected = await fixture.runTuned(0, { image });
      expect(relativeDifference(actual.tensors.features!, expected.features!)).toBeLessThan(0.15);
    }
    expect(relativeDifference(adapted.tensors.features!, picture.tensors.features!)).toBeGreaterThan(0.15);
    expect([...fetched].filter((path) => path.startsWith('codecs/'))).toEqual([]);
  });
});

describe('who knows them', () => {
  const target = { objective: { kind: 'bytes' }, minQuality: 0.2 } as const;

  test('is auto, unless the device or the receiver is older than tuned segments', async () => {
    const older = builtinCodecs.filter(({ kind, version }) => kind !== 'learned' || version === 1);
    const { manifest } = fixture;
    const codecs = manifest.codecs.filter(({ id }) => ['raw', 'learned-tuned'].includes(id));
    const only = {
      ...fixture,
      ...(await withBundle(fixture, { manifest: { ...manifest, codecs }, files: fixture.files })),
    };
    for (const [onDevice, atReceiver, codec] of [
      [builtinCodecs, builtinCodecs, 'learned-tuned'],
      [older, builtinCodecs, 'raw'],
      [builtinCodecs, older, 'raw'],
    ] as const) {
      const { url } = await stage.open(only, { codecs: atReceiver });
      const session: Session<Frame> = await connect(url, {
        ...{ model: 'two-heads', runtime: fixture.runtime, cache: createMemoryCache() },
        ...{ target, mayRunLocally: false, codecs: onDevice },
      });
      sessions.push(session);
      const to = codec === 'raw' ? 2 : last;
      await session.prepare({ kind: 'split', from: 2, codec, level: 0, to });
      for (let i = 0; i < 5; i++) {
        expect((await session.run(fixture.frames[i]!)).plan).toMatchObject({ codec });
      }
    }
  });

  test('counts the segments that they load once more as memory', async () => {
    const { receiver: own, url } = await stage.open(fixture, { maxSpanBytes: 2 ** 30 });
    const session: Session<Frame> = await connect(url, { model: 'two-heads', runtime: fixture.runtime });
    sessions.push(session);
    await session.run(fixture.frames[0]!, { plan: plan(0, 'webp-tuned') });
    const segments = fixture.manifest.segments.reduce((sum, { file }) => sum + file.numBytes, 0);
    expect(own.stats().spans).toMatchObject({ loaded: 0 });
    expect(own.stats().spans.numBytes).toBeGreaterThanOrEqual(segments);
  });
});

describe('decoding that takes long', () => {
  /** A receiver whose networks wait at a gate, in simulated time. */
  async function openGated() {
    const clock = createManualClock();
    const runtime = gateRuntime(fixture.runtime);
    const { connect: connectWire, receiver: own } = await stage.open(fixture, {
      runtime,
      clock,
      concurrency: 1,
    });
    const client = await connectWire();
    await client.hello({ codecs: ['raw', 'learned'] });
    const ids = fixture.manifest.codecs.findIndex(({ id }) => id === 'learned-tuned');
    const entry = fixture.manifest.codecs[ids]!;
    const readFile = async ({ path }: FileRef): Promise<Uint8Array> => fixture.files.get(path)!;
    const context = { manifest: fixture.manifest, entry, readFile, runtime: fixture.runtime };
    const encoder = await findCodecKind(builtinCodecs, entry).createEncoder(context);
    const path = { from: 2, to: last, level: 0 };
    const payload = await encoder.encode(await fixture.tensorsAt(2), path);
    const send = (id: number, deadlineMs = 0): void => {
      const packet = encodeRequestPacket({ ...path, codec: ids, deadlineMs }, payload);
      for (const chunk of chunksOf(id, packet)) client.sendBytes(chunk);
    };
    return { clock, runtime, client, own, send };
  }

  test('is waiting while its networks load and wait for the runtime, and work while they run', async () => {
    const { clock, runtime, client, own, send } = await openGated();
    runtime.shut();
    send(1);
    await until(() => runtime.arrived === 1);
    clock.advance(5000);
    runtime.open();
    await client.wait('result');
    const { queueMs, decodeMs, runMs } = await client.wait('receipt');
    expect(runMs).toBe(0);
    expect(decodeMs).toBeLessThan(2500);
    expect(queueMs + decodeMs).toBe(5000);
    expect(runtime.arrived).toBe(2);
    expect(own.stats()).toMatchObject({ succeeded: 1, runs: 0, spans: { loads: 0 }, pendingBytes: 0 });
  });

  test('ends between two networks when the deadline has passed', async () => {
    const { clock, runtime, client, own, send } = await openGated();
    runtime.shut();
    send(1, 1000);
    await until(() => runtime.arrived === 1);
    clock.advance(1001);
    runtime.open();
    expect(await client.wait('error')).toMatchObject({ id: 1, code: 'request/deadline' });
    expect(runtime.arrived).toBe(1);
    send(2, 1000);
    await client.wait('result', ({ id }) => id === 2);
    expect(own.stats()).toMatchObject({ succeeded: 1, failed: 1, pendingBytes: 0, running: 0 });
  });

  test('ends between two networks when it was cancelled, and lets the next one begin', async () => {
    const { runtime, client, own, send } = await openGated();
    runtime.shut();
    send(1);
    await until(() => runtime.arrived === 1);
    send(2);
    await until(() => own.stats().waiting === 1);
    client.send({ type: 'cancel', id: 1 });
    expect(await client.wait('error')).toMatchObject({ id: 1, code: 'request/cancelled' });
    runtime.open();
    await client.wait('result', ({ id }) => id === 2);
    expect(runtime.arrived).toBe(3);
    expect(client.events.filter((event) => 'id' in event && event.id === 1).map(({ type }) => type)).toEqual([
      'arrived',
      'error',
    ]);
    expect(own.stats()).toMatchObject({ succeeded: 1, pendingBytes: 0, running: 0, waiting: 0 });
  });
});
