import { createManualClock, decodeResultPacket } from '@isthmus/core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Fixture, makeFixture, relativeDifference } from '../support/fixture.js';
import { createStage, gateRuntime, until } from '../support/receivers.js';
import { chunksOf, encodeRequest, request, type WireClient } from '../support/wire-client.js';

let fixture: Fixture;
let packet: Uint8Array;
const stage = createStage();

beforeAll(async () => {
  fixture = await makeFixture();
  packet = await encodeRequest(fixture, 1);
});
afterEach(() => stage.clear());
afterAll(() => fixture.runtime.close());

const send = (client: WireClient, id: number): void => {
  for (const chunk of chunksOf(id, packet)) client.sendBytes(chunk);
};

describe('a session taken up again', () => {
  it('answers what has ended from memory, and what runs once', async () => {
    const runtime = gateRuntime(fixture.runtime);
    const { connect, receiver } = await stage.open(fixture, { runtime });
    const first = await connect();
    const { session } = await first.hello();
    const before = await request(first, 1, packet, fixture.manifest);
    runtime.shut();
    send(first, 2);
    await until(() => runtime.arrived === 2);
    first.socket.terminate();
    await until(() => receiver.stats().connections === 0);
    expect(receiver.stats()).toMatchObject({ sessions: 1, detachedSessions: 1, running: 1 });

    const second = await connect();
    expect(await second.hello({ resume: session })).toMatchObject({ session, resumed: true });
    send(second, 1);
    send(second, 2);
    const { packet: again } = await second.wait('result', ({ id }) => id === 1);
    expect(decodeResultPacket(again, fixture.manifest)).toEqual(before);
    expect((await second.wait('receipt')).id).toBe(1);
    runtime.open();
    await second.wait('result', ({ id }) => id === 2);
    await request(second, 3, packet, fixture.manifest);
    expect(second.events.filter(({ type }) => type === 'result').length).toBe(3);
    expect(second.events.filter(({ type }) => type === 'error')).toEqual([]);
    expect(receiver.stats()).toMatchObject({ runs: 3, answeredFromMemory: 1, detachedSessions: 0 });
  });

  it('gets the answers that came while there was no connection', async () => {
    const runtime = gateRuntime(fixture.runtime);
    const { connect, receiver } = await stage.open(fixture, { runtime });
    const first = await connect();
    const { session } = await first.hello();
    runtime.shut();
    for (const id of [1, 2, 3]) send(first, id);
    await until(() => runtime.arrived === 2 && receiver.stats().waiting === 1);
    first.socket.terminate();
    await until(() => receiver.stats().detachedSessions === 1);
    runtime.open();
    await until(() => receiver.stats().succeeded === 3);
    expect(receiver.stats().pendingBytes).toBe(0);
    const second = await connect();
    await second.hello({ resume: session });
    for (const id of [3, 2, 1]) {
      send(second, id);
      const { packet: result } = await second.wait('result', (event) => event.id === id);
      const { scores } = decodeResultPacket(result, fixture.manifest);
      expect(relativeDifference(scores!, fixture.expected.scores!)).toBeLessThan(1e-5);
    }
    expect(receiver.stats()).toMatchObject({ runs: 3, answeredFromMemory: 3 });
  });

  it('leaves its old connection, should that still be there', async () => {
    const { connect } = await stage.open(fixture);
    const first = await connect();
    const { session } = await first.hello();
    await request(first, 1, packet, fixture.manifest);
    const second = await connect();
    expect((await second.hello({ resume: session })).resumed).toBe(true);
    expect(await first.wait('closed')).toMatchObject({ closeCode: 1000, reason: 'link/closed' });
    await request(second, 2, packet, fixture.manifest);
  });

  it('is given only to whoever shows the same token', async () => {
    const { connect } = await stage.open(fixture, { auth: ['mine', 'yours'] });
    const first = await connect();
    const { session } = await first.hello({ token: 'mine' });
    await request(first, 1, packet, fixture.manifest);
    const thief = await connect();
    const accept = await thief.hello({ token: 'yours', resume: session });
    expect(accept.resumed).toBe(false);
    expect(accept.session).not.toBe(session);
  });

  it('is forgotten after a while, and then requests run again', async () => {
    const clock = createManualClock();
    const { connect, receiver } = await stage.open(fixture, { clock, limits: { resumeMs: 10_000 } });
    const first = await connect();
    const { session } = await first.hello();
    await request(first, 1, packet, fixture.manifest);
    await first.close();
    await until(() => receiver.stats().detachedSessions === 1);
    clock.advance(20_000);
    expect(receiver.stats()).toMatchObject({ sessions: 0, keptResults: 0, keptResultBytes: 0 });
    const second = await connect();
    expect((await second.hello({ resume: session })).resumed).toBe(false);
    await request(second, 1, packet, fixture.manifest);
    expect(receiver.stats()).toMatchObject({ runs: 2, answeredFromMemory: 0 });
  });

  it('keeps no more results than it may, in number and bytes', async () => {
    const resultBytes = 4096 + 1000;
    for (const limits of [{ keptResults: 3 }, { keptResultBytes: 3 * resultBytes }]) {
      const { connect, receiver } = await stage.open(fixture, { limits });
      const first = await connect();
      const { session } = await first.hello();
      for (let id = 0; id < 10; id++) await request(first, id, packet, fixture.manifest);
      expect(receiver.stats().keptResults).toBe(3);
      const second = await connect();
      await second.hello({ resume: session });
      for (const id of [0, 9]) await request(second, id, packet, fixture.manifest);
      expect(receiver.stats()).toMatchObject({ runs: 11, answeredFromMemory: 1 });
    }
  });

  it('is one of a bounded number', async () => {
    const { connect, receiver } = await stage.open(fixture, { limits: { keptSessions: 2 } });
    const sessions: string[] = [];
    for (let i = 0; i < 5; i++) {
      const client = await connect();
      sessions.push((await client.hello()).session);
      await request(client, 1, packet, fixture.manifest);
      await client.close();
      await until(() => receiver.stats().connections === 0);
    }
    expect(receiver.stats()).toMatchObject({ sessions: 2, detachedSessions: 2, keptResults: 2 });
    const client = await connect();
    expect((await client.hello({ resume: sessions[0]! })).resumed).toBe(false);
    const last = await connect();
    expect((await last.hello({ resume: sessions[4]! })).resumed).toBe(true);
  });

  it('is not kept when there is nothing to lose', async () => {
    const { connect, receiver } = await stage.open(fixture);
    for (let i = 0; i < 20; i++) {
      const client = await connect();
      await client.hello();
      await client.close();
    }
    await until(() => receiver.stats().connections === 0);
    expect(receiver.stats().sessions).toBe(0);
  });
});
