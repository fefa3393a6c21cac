import { memoryBundle } from '@isthmus/cloud';
import {
  createManualClock,
  decodeResultPacket,
  encodeRequestPacket,
  formatManifest,
  type Manifest,
  sha256Hex,
} from '@isthmus/core';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Fixture, makeFixture, relativeDifference } from '../support/fixture.js';
import { createStage, gateRuntime, until } from '../support/receivers.js';
import { chunksOf, encodeRequest, request } from '../support/wire-client.js';

let fixture: Fixture;
const stage = createStage();

beforeAll(async () => {
  fixture = await makeFixture();
});
afterEach(() => stage.clear());
afterAll(() => fixture.runtime.close());

const levelOf = (manifest: Manifest, codec: string, name: string): number =>
  manifest.codecs.find((entry) => entry.id === codec)!.levels.findIndex((level) => level.name === name);

describe('answers', () => {
  it('are those of the whole model, from every cut', async () => {
    const { connect, receiver } = await stage.open(fixture);
    const client = await connect();
    const accept = await client.hello();
    expect(accept).toMatchObject({ protocol: 1, resumed: false, bundle: fixture.sha256, model: 'two-heads' });
    expect(accept.codecs).toContain('raw');
    const { paths } = fixture.manifest.codecs.find((codec) => codec.id === 'raw')!;
    expect(paths.length).toBe(5);
    for (const { from } of paths) {
      const outputs = await request(client, from, await encodeRequest(fixture, from), fixture.manifest);
      expect(Object.keys(outputs)).toEqual(fixture.manifest.cuts.at(-1)!.tensors.map(({ name }) => name));
      for (const [name, expected] of Object.entries(fixture.expected)) {
        expect(outputs[name]!.shape).toEqual(expected.shape);
        expect(relativeDifference(outputs[name]!, expected)).toBeLessThan(1e-5);
      }
    }
    expect(receiver.stats()).toMatchObject({
      requests: 5,
      succeeded: 5,
      failed: 0,
      runs: 5,
      pendingBytes: 0,
    });
  });

  it('need no run when the decoder lands at the last cut', async () => {
    const last = fixture.manifest.cuts.length - 1;
    const codecs = fixture.manifest.codecs.map((codec) =>
      codec.id === 'raw' ? { ...codec, paths: [...codec.paths, { from: last, to: last }] } : codec,
    );
    const manifest = { ...fixture.manifest, codecs };
    const manifestBytes = new TextEncoder().encode(formatManifest(manifest));
    const files = new Map([...fixture.files, ['manifest.json', manifestBytes]]);
    const { connect, receiver } = await stage.open(fixture, { bundles: [memoryBundle(files)] });
    const client = await connect();
    expect((await client.hello()).bundle).toBe(await sha256Hex(manifestBytes));
    const outputs = await request(client, 1, await encodeRequest({ ...fixture, manifest }, last), manifest);
    expect(outputs.scores!.data).toEqual(fixture.expected.scores!.data);
    expect(receiver.stats().runs).toBe(0);
  });

  it('follow from coarser codecs too', async () => {
    const { connect } = await stage.open(fixture);
    const client = await connect();
    await client.hello();
    const half = await encodeRequest(fixture, 1, { level: levelOf(fixture.manifest, 'raw', 'float16') });
    const coarse = await encodeRequest(fixture, 1, { codec: 'quantized' });
    for (const [id, packet] of [half, coarse].entries()) {
      const outputs = await request(client, id, packet, fixture.manifest);
      expect(relativeDifference(outputs.scores!, fixture.expected.scores!)).toBeLessThan(0.1);
    }
    expect(coarse.byteLength).toBeLessThan(half.byteLength);
  });

  it('come with receipts that account for the time on the receiver', async () => {
    const clock = createManualClock(500);
    const { connect } = await stage.open(fixture, { clock });
    const client = await connect();
    await client.hello();
    const packet = await encodeRequest(fixture, 1);
    const [first, ...rest] = chunksOf(7, packet);
    client.sendBytes(first!);
    client.send({ type: 'ping', id: 1 });
    await client.wait('pong');
    clock.advance(40);
    for (const chunk of rest) client.sendBytes(chunk);
    await client.wait('result');
    const arrival = { id: 7, numBytes: packet.byteLength, firstMs: 500, lastMs: 540 };
    expect(client.events.filter(({ type }) => type === 'arrived')).toEqual([{ type: 'arrived', ...arrival }]);
    const receipt = await client.wait('receipt');
    expect(receipt).toMatchObject(arrival);
    expect(receipt.runMs).toBeGreaterThan(0);
    const order = client.events.map(({ type }) => type).filter((type) => type !== 'pong');
    expect(order).toEqual(['accept', 'arrived', 'receipt', 'result']);
  });

  it('of interleaved requests all arrive', async () => {
    const { connect } = await stage.open(fixture);
    const client = await connect();
    await client.hello();
    const queues = await Promise.all(
      [0, 1, 2, 3].map(async (cut) => chunksOf(cut, await encodeRequest(fixture, cut))),
    );
    while (queues.some((queue) => queue.length > 0)) {
      for (const queue of queues) if (queue.length > 0) client.sendBytes(queue.shift()!);
    }
    for (const id of [0, 1, 2, 3]) {
      const { packet } = await client.wait('result', (event) => event.id === id);
      const { scores } = decodeResultPacket(packet, fixture.manifest);
      expect(relativeDifference(scores!, fixture.expected.scores!)).toBeLessThan(1e-5);
    }
  });

  it('load a span once, however many ask for it at the same time', async () => {
    const { connect, receiver } = await stage.open(fixture, { concurrency: 8 });
    const packet = await encodeRequest(fixture, 2);
    const clients = await Promise.all([1, 2, 3, 4, 5].map(() => connect()));
    await Promise.all(
      clients.map(async (client) => {
        await client.hello();
        await request(client, 1, packet, fixture.manifest);
      }),
    );
    expect(receiver.stats()).toMatchObject({ runs: 5, spans: { loaded: 1, loads: 1 } });
  });

  it('keep coming when the memory for spans is too small for two', async () => {
    const { connect, receiver } = await stage.open(fixture, { maxSpanBytes: 1 });
    const client = await connect();
    await client.hello();
    for (const [id, cut] of [0, 1, 0, 1].entries()) {
      await request(client, id, await encodeRequest(fixture, cut), fixture.manifest);
    }
    expect(receiver.stats().spans.loads).toBe(4);
    await until(() => receiver.stats().spans.loaded <= 1);
  });

  it('survive the death of the inference worker', async () => {
    const workers: { terminate(): Promise<number> }[] = [];
    const onWorker = (worker: (typeof workers)[number]): void => void workers.push(worker);
    process.on('worker', onWorker);
    const runtime = createNodeRuntime({ threads: 1 });
    try {
      const { connect, receiver } = await stage.open(fixture, { runtime });
      const client = await connect();
      await client.hello();
      const packet = await encodeRequest(fixture, 1);
      await request(client, 1, packet, fixture.manifest);
      expect(workers.length).toBe(1);
      await workers[0]!.terminate();
      const { scores } = await request(client, 2, packet, fixture.manifest);
      expect(scores!.data).toEqual(fixture.expected.scores!.data);
      expect(receiver.stats()).toMatchObject({ succeeded: 2, spans: { loads: 2, loaded: 1 } });
    } finally {
      process.off('worker', onWorker);
      await stage.clear();
      await runtime.close();
    }
  });
});

describe('requests that cannot be answered', () => {
  const header = { from: 1, to: 1, level: 0, codec: 0, deadlineMs: 0 };

  it('end with an error of their own, before the packet is whole if its header says enough', async () => {
    const { connect, receiver } = await stage.open(fixture, { limits: { packetBytes: 20_000 } });
    const client = await connect();
    await client.hello();
    const rawBytes = fixture.manifest.cuts[1]!.numBytes;
    const lastLevel = fixture.manifest.codecs[0]!.levels.length;
    const cases: [Partial<typeof header>, number, string][] = [
      [{ from: 99, to: 99 }, 100, 'bundle/no-such-cut'],
      [{ to: 99 }, 100, 'bundle/no-such-cut'],
      [{ codec: 77 }, 100, 'codec/unknown'],
      [{ to: 2 }, 100, 'codec/no-such-path'],
      [{ level: lastLevel }, 100, 'codec/no-such-level'],
      [{ from: 4, to: 4 }, fixture.manifest.cuts[4]!.numBytes + 1, 'wire/too-large'],
      [{}, rawBytes, 'wire/too-large'],
      [{ from: 4, to: 4 }, fixture.manifest.cuts[4]!.numBytes - 1, 'codec/corrupt'],
    ];
    for (const [id, [fields, payloadBytes, code]] of cases.entries()) {
      const chunks = chunksOf(
        id,
        encodeRequestPacket({ ...header, ...fields }, new Uint8Array(payloadBytes)),
      );
      client.sendBytes(chunks[0]!);
      if (code === 'codec/corrupt') for (const chunk of chunks.slice(1)) client.sendBytes(chunk);
      const error = await client.wait('error', (event) => event.id === id);
      expect(error).toMatchObject({ id, code });
      // What follows for a packet that was refused is ignored.
      if (code !== 'codec/corrupt') for (const chunk of chunks.slice(1)) client.sendBytes(chunk);
    }
    const outputs = await request(client, 50, await encodeRequest(fixture, 3), fixture.manifest);
    expect(outputs.scores!.data).toEqual(fixture.expected.scores!.data);
    expect(receiver.stats()).toMatchObject({ failed: cases.length, succeeded: 1, pendingBytes: 0 });
  });

  it('fail their checksum', async () => {
    const { connect } = await stage.open(fixture);
    const client = await connect();
    await client.hello();
    const packet = await encodeRequest(fixture, 4);
    packet[packet.length - 1]! ^= 1;
    for (const chunk of chunksOf(1, packet)) client.sendBytes(chunk);
    expect(await client.wait('error')).toMatchObject({ id: 1, code: 'wire/crc-mismatch', retryable: true });
    expect(client.events.map(({ type }) => type)).toEqual(['accept', 'arrived', 'receipt', 'error']);
  });

  it('are dropped when their deadline passes in the queue', async () => {
    const clock = createManualClock();
    const runtime = gateRuntime(fixture.runtime);
    const { connect, receiver } = await stage.open(fixture, { runtime, clock, concurrency: 1 });
    const client = await connect();
    await client.hello();
    runtime.shut();
    const packet = await encodeRequest(fixture, 4);
    const hasty = await encodeRequest(fixture, 4, { deadlineMs: 100 });
    const patient = await encodeRequest(fixture, 4, { deadlineMs: 1000 });
    for (const [id, each] of [packet, hasty, patient].entries()) {
      for (const chunk of chunksOf(id, each)) client.sendBytes(chunk);
    }
    await until(() => receiver.stats().waiting === 2);
    clock.advance(500);
    runtime.open();
    await client.wait('result', ({ id }) => id === 2);
    expect(await client.wait('error')).toMatchObject({ id: 1, code: 'request/deadline' });
    expect(client.events.filter(({ type }) => type === 'result').length).toBe(2);
    expect(runtime.arrived).toBe(2);
  });

  it('are turned away when the queue is full, and told when to come back', async () => {
    const runtime = gateRuntime(fixture.runtime);
    const { connect, receiver } = await stage.open(fixture, {
      runtime,
      concurrency: 1,
      limits: { queueLength: 1 },
    });
    const client = await connect();
    await client.hello();
    runtime.shut();
    const packet = await encodeRequest(fixture, 4);
    for (const id of [1, 2, 3]) for (const chunk of chunksOf(id, packet)) client.sendBytes(chunk);
    const error = await client.wait('error');
    expect(error).toMatchObject({ id: 3, code: 'receiver/busy', retryable: true });
    expect(error.retryAfterMs).toBeGreaterThan(0);
    runtime.open();
    await client.wait('result', ({ id }) => id === 2);
    await request(client, 3, packet, fixture.manifest);
    expect(receiver.stats()).toMatchObject({ succeeded: 3, failed: 1, pendingBytes: 0 });
  });

  it('are turned away when they are more than a connection may have under way', async () => {
    const runtime = gateRuntime(fixture.runtime);
    const { connect, receiver } = await stage.open(fixture, {
      runtime,
      limits: { inFlightPerConnection: 2 },
    });
    const client = await connect();
    expect((await client.hello()).limits.inFlight).toBe(2);
    runtime.shut();
    const packet = await encodeRequest(fixture, 4);
    for (const id of [1, 2, 3]) for (const chunk of chunksOf(id, packet)) client.sendBytes(chunk);
    expect(await client.wait('error')).toMatchObject({ id: 3, code: 'limit/in-flight', retryable: true });
    runtime.open();
    await client.wait('result', ({ id }) => id === 2);
    await request(client, 3, packet, fixture.manifest);
    expect(receiver.stats().succeeded).toBe(3);
  });

  it('are turned away when all requests together hold too many bytes', async () => {
    const packet = await encodeRequest(fixture, 4);
    const { connect, receiver } = await stage.open(fixture, {
      limits: { pendingBytes: packet.byteLength * 2 - 1 },
    });
    const [one, other] = [await connect(), await connect()];
    await Promise.all([one.hello(), other.hello()]);
    const header = packet.slice(0, 100);
    const partial = chunksOf(1, header)[0]!;
    partial[1] = 0;
    one.sendBytes(partial);
    await until(() => receiver.stats().pendingBytes === packet.byteLength);
    for (const chunk of chunksOf(1, packet)) other.sendBytes(chunk);
    expect(await other.wait('error')).toMatchObject({ id: 1, code: 'receiver/busy', retryable: true });
    await one.close();
    await until(() => receiver.stats().pendingBytes === 0);
    await request(other, 2, packet, fixture.manifest);
  });
});

describe('cancelled requests', () => {
  it('end at once, whether they are on their way, waiting or running', async () => {
    const runtime = gateRuntime(fixture.runtime);
    const { connect, receiver } = await stage.open(fixture, { runtime, concurrency: 1 });
    const client = await connect();
    await client.hello();
    runtime.shut();
    const packet = await encodeRequest(fixture, 1);
    const chunks = chunksOf(1, packet);
    client.sendBytes(chunks[0]!);
    client.send({ type: 'cancel', id: 1 });
    expect(await client.wait('error')).toMatchObject({ id: 1, code: 'request/cancelled' });
    for (const chunk of chunks.slice(1)) client.sendBytes(chunk);
    for (const id of [2, 3]) for (const chunk of chunksOf(id, packet)) client.sendBytes(chunk);
    await until(() => receiver.stats().waiting === 1 && runtime.arrived === 1);
    for (const id of [2, 3]) {
      client.send({ type: 'cancel', id });
      await client.wait('error', (event) => event.id === id);
    }
    client.send({ type: 'cancel', id: 3 });
    client.send({ type: 'cancel', id: 999 });
    runtime.open();
    await request(client, 4, packet, fixture.manifest);
    expect(client.events.filter(({ type }) => type === 'error').length).toBe(3);
    expect(client.events.filter(({ type }) => type === 'result').length).toBe(1);
    expect(receiver.stats()).toMatchObject({ runs: 2, succeeded: 1, failed: 3, pendingBytes: 0 });
  });

  it('may be thousands', async () => {
    const { connect, receiver } = await stage.open(fixture);
    const client = await connect();
    await client.hello();
    const packet = await encodeRequest(fixture, 1);
    for (let id = 0; id < 3000; id++) {
      client.sendBytes(chunksOf(id, packet)[0]!);
      client.send({ type: 'cancel', id });
    }
    await client.wait('error', ({ id }) => id === 2999);
    expect(client.events.filter(({ type }) => type === 'error').length).toBe(3000);
    await request(client, 5000, packet, fixture.manifest);
    expect(receiver.stats()).toMatchObject({ succeeded: 1, failed: 3000, pendingBytes: 0 });
  });
});
