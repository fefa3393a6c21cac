import { createManualClock } from '@isthmus/core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Fixture, makeFixture } from '../support/fixture.js';
import { createStage, until } from '../support/receivers.js';
import { chunksOf, encodeRequest, request } from '../support/wire-client.js';

let fixture: Fixture;
const stage = createStage();

beforeAll(async () => {
  fixture = await makeFixture(128);
});
afterEach(() => stage.clear());
afterAll(() => fixture.runtime.close());

describe('a client that is too fast', () => {
  it('is read slower, and gets its answers all the same', async () => {
    const clock = createManualClock();
    const { connect, receiver } = await stage.open(fixture, { clock, limits: { bytesPerSecond: 100_000 } });
    const client = await connect();
    expect((await client.hello()).limits.bytesPerSecond).toBe(100_000);
    // Much more than all sockets' buffers hold.
    const packet = await encodeRequest(fixture, 1);
    const ids = Array.from({ length: 30 }, (_, id) => id);
    for (const id of ids) for (const chunk of chunksOf(id, packet)) client.sendBytes(chunk);
    await until(() => receiver.stats().receivedBytes > 65_536);
    for (let i = 0; i < 50; i++) await new Promise((resolve) => setTimeout(resolve, 1));
    const stuckBytes = client.socket.bufferedAmount;
    expect(stuckBytes).toBeGreaterThan(0);
    expect(receiver.stats().receivedBytes).toBeLessThan(packet.byteLength * 2);
    while (!client.events.some((event) => event.type === 'result' && event.id === 29)) {
      clock.advance(1000);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(receiver.stats()).toMatchObject({ succeeded: 30, pendingBytes: 0 });
    expect(client.events.some(({ type }) => type === 'closed' || type === 'error')).toBe(false);
    expect(clock.now()).toBeGreaterThan(((packet.byteLength * 29) / 100_000) * 1000 * 0.9);
  });
});

describe('a client that does not read', () => {
  it('has its results held back, then its requests refused, and is cut off when it goes on', async () => {
    const { connect, receiver } = await stage.open(fixture, {
      limits: { inFlightPerConnection: 16, keptResultBytes: 0 },
    });
    const client = await connect();
    await client.hello();
    const [chunk, ...more] = chunksOf(1, await encodeRequest(fixture, 4));
    const sendOne = (id: number): void => {
      for (const each of [chunk!, ...more]) {
        const copy = new Uint8Array(each);
        new DataView(copy.buffer).setUint32(4, id, true);
        client.sendBytes(copy);
      }
    };
    client.socket.pause();
    let id = 0;
    // Each result has 64 KiB: what the sockets hold is full soon. Eight at once are allowed if all others are gone.
    while (receiver.stats().failed === 0) {
      for (let i = 0; i < 8; i++) sendOne(id++);
      await until(() => {
        const { requests, running, waiting } = receiver.stats();
        return requests === id && running + waiting === 0;
      });
    }
    const { pendingBytes } = receiver.stats();
    expect(pendingBytes).toBeGreaterThan(0);
    expect(pendingBytes).toBeLessThan(17 * 2 * 70_000);
    while (receiver.stats().connections === 1 && receiver.stats().sessions === 1) {
      for (let i = 0; i < 2000; i++) client.sendBytes(Uint8Array.of(1, 0x82, ...pingFields));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(receiver.stats().pendingBytes).toBe(0);
    expect(receiver.stats().sentBytes).toBeLessThan(64 * 2 ** 20);
    client.socket.resume();
    expect(await client.wait('closed')).toMatchObject({ closeCode: 4010, reason: 'limit/rate' });
  });

  it('does not make pongs pile up', async () => {
    const { connect, receiver } = await stage.open(fixture);
    const client = await connect();
    await client.hello();
    client.socket.pause();
    const data = Buffer.alloc(125);
    for (let round = 0; round < 200; round++) {
      for (let i = 0; i < 500; i++) client.socket.ping(data);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await until(() => client.socket.bufferedAmount === 0);
    let pongs = 0;
    client.socket.on('pong', () => pongs++);
    client.socket.resume();
    await request(client, 1, await encodeRequest(fixture, 4), fixture.manifest);
    expect(pongs).toBeGreaterThan(0);
    expect(pongs).toBeLessThan(100_000);
    expect(receiver.stats().connections).toBe(1);
  });
});

describe('a client that falls silent', () => {
  it('is taken for dead when it does not even answer pings', async () => {
    const clock = createManualClock();
    const { connect, receiver } = await stage.open(fixture, { clock, limits: { idleTimeoutMs: 10_000 } });
    const dead = await connect({ autoPong: false });
    const quiet = await connect();
    await Promise.all([dead.hello(), quiet.hello()]);
    for (let beat = 0; beat < 6; beat++) {
      const pinged = beat < 1 ? [dead, quiet] : [quiet];
      const pings = pinged.map(({ socket }) => new Promise((resolve) => socket.once('ping', resolve)));
      clock.advance(5000);
      await Promise.all(pings);
      // A message behind the pong shows that the receiver has heard it.
      quiet.send({ type: 'ping', id: beat });
      await quiet.wait('pong', ({ id }) => id === beat);
    }
    await dead.wait('closed');
    expect(receiver.stats().connections).toBe(1);
  });

  it('loses the packets it does not finish', async () => {
    const clock = createManualClock();
    const { connect, receiver } = await stage.open(fixture, { clock, limits: { idleTimeoutMs: 10_000 } });
    const client = await connect();
    await client.hello();
    const packet = await encodeRequest(fixture, 1);
    const [first, ...rest] = chunksOf(1, packet);
    client.sendBytes(first!);
    for (let id = 0; id < 4; id++) {
      client.send({ type: 'ping', id });
      await client.wait('pong', (event) => event.id === id);
      clock.advance(5000);
    }
    expect(await client.wait('error')).toMatchObject({ id: 1, code: 'request/deadline', retryable: true });
    for (const chunk of rest) client.sendBytes(chunk);
    await request(client, 2, packet, fixture.manifest);
    expect(receiver.stats()).toMatchObject({ succeeded: 1, failed: 1, pendingBytes: 0 });
  });
});

// {type: 'ping', id: 1} as MessagePack, behind its map header.
const text = (word: string): number[] => [0xa0 | word.length, ...Buffer.from(word)];
const pingFields = [...text('type'), ...text('ping'), ...text('id'), 1];
