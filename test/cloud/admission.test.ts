import { connect as connectTcp } from 'node:net';
import { memoryBundle } from '@isthmus/cloud';
import {
  createManualClock,
  encodeControl,
  encodeRequestPacket,
  formatManifest,
  type HelloMessage,
} from '@isthmus/core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Fixture, makeFixture } from '../support/fixture.js';
import { createStage, until } from '../support/receivers.js';
import { chunksOf, encodeRequest, helloFields, request, type WireClient } from '../support/wire-client.js';

let fixture: Fixture;
const stage = createStage();

beforeAll(async () => {
  fixture = await makeFixture();
});
afterEach(() => stage.clear());
afterAll(() => fixture.runtime.close());

async function expectRefusal(client: WireClient, code: string, closeCode: number): Promise<void> {
  expect(await client.wait('closed')).toEqual({ type: 'closed', closeCode, reason: code });
  expect(client.events.filter(({ type }) => type === 'error')).toMatchObject([{ id: null, code }]);
  expect(client.events.some(({ type }) => type === 'result')).toBe(false);
}

describe('admission', () => {
  const tokens = ['first-token', 'second-token'];
  const refusals: [string, Partial<HelloMessage>, string, number][] = [
    ['another protocol version', { protocol: [7, 8] }, 'wire/version-mismatch', 4001],
    ['no token', { token: null }, 'auth/denied', 4003],
    ['a wrong token', { token: 'first-tokem' }, 'auth/denied', 4003],
    ['a model it does not serve', { model: 'other' }, 'bundle/no-such-model', 4004],
  ];
  for (const [what, fields, code, closeCode] of refusals) {
    it(`refuses ${what}`, async () => {
      const { connect } = await stage.open(fixture, { auth: tokens });
      const client = await connect();
      client.send({ ...helloFields, token: 'second-token', ...fields });
      await expectRefusal(client, code, closeCode);
    });
  }

  it('takes any of its tokens, and the newest version both speak', async () => {
    const { connect } = await stage.open(fixture, { auth: tokens });
    for (const token of tokens) {
      const client = await connect();
      expect((await client.hello({ token, protocol: [9, 1] })).protocol).toBe(1);
    }
  });

  it('asks a function for every connection, and takes its failure as a no', async () => {
    const asked: unknown[] = [];
    const { connect } = await stage.open(fixture, {
      auth: async (token, context) => {
        asked.push({ token, ...context });
        if (token === 'boom') throw new Error('the database is away');
        return token === 'good';
      },
    });
    const foreign = await connect({ origin: 'http://nowhere.example' });
    foreign.send({ ...helloFields, token: 'good' });
    await expectRefusal(foreign, 'auth/origin', 4006);
    const good = await connect();
    await good.hello({ token: 'good' });
    for (const token of ['bad', 'boom']) {
      const client = await connect();
      client.send({ ...helloFields, token });
      await expectRefusal(client, 'auth/denied', 4003);
    }
    expect(asked).toMatchObject([
      { token: 'good', via: 'websocket', model: 'two-heads', address: '127.0.0.1', origin: null },
      { token: 'bad' },
      { token: 'boom' },
    ]);
  });

  it('knows the origins of pages', async () => {
    const { connect, url } = await stage.open(fixture, { allowedOrigins: ['https://shop.example.com'] });
    await (await connect()).hello();
    await (await connect({ origin: 'https://shop.example.com' })).hello();
    const foreign = await connect({ origin: 'https://shop.example.com.evil.example' });
    foreign.send(helloFields);
    await expectRefusal(foreign, 'auth/origin', 4006);
    const own = await connect({ origin: url.replace('ws:', 'http:') });
    own.send(helloFields);
    await expectRefusal(own, 'auth/origin', 4006);
  });

  it('lets only pages of its own host in unless told otherwise', async () => {
    const own = await stage.open(fixture);
    await (await own.connect({ origin: own.http })).hello();
    const foreign = await own.connect({ origin: 'https://elsewhere.example' });
    foreign.send(helloFields);
    await expectRefusal(foreign, 'auth/origin', 4006);
    const open = await stage.open(fixture, { allowedOrigins: '*' });
    await (await open.connect({ origin: 'https://elsewhere.example' })).hello();
  });

  it('compares codec tables, and names the bundle it serves', async () => {
    const [raw, ...others] = fixture.manifest.codecs;
    const manifest = { ...fixture.manifest, codecs: [{ ...raw!, tablesSha256: 'a'.repeat(64) }, ...others] };
    const manifestBytes = new TextEncoder().encode(formatManifest(manifest));
    const files = new Map([...fixture.files, ['manifest.json', manifestBytes]]);
    const { connect } = await stage.open(fixture, { bundles: [memoryBundle(files)] });
    const same = await connect();
    const accept = await same.hello({ tables: { [raw!.id]: 'a'.repeat(64), unknown: 'b'.repeat(64) } });
    expect(accept.tables).toEqual({ [raw!.id]: 'a'.repeat(64) });
    const stale = await connect();
    expect((await stale.hello({ bundle: 'c'.repeat(64) })).bundle).toBe(accept.bundle);
    const other = await connect();
    other.send({ ...helloFields, tables: { [raw!.id]: 'b'.repeat(64) } });
    await expectRefusal(other, 'wire/table-mismatch', 4005);
  });

  it('offers the codecs both ends know, and refuses requests in others', async () => {
    const unknown = { ...fixture.manifest.codecs[0]!, id: 'future', kind: 'telepathy' };
    const manifest = { ...fixture.manifest, codecs: [unknown, ...fixture.manifest.codecs] };
    const files = new Map([
      ...fixture.files,
      ['manifest.json', new TextEncoder().encode(formatManifest(manifest))],
    ]);
    const { connect } = await stage.open(fixture, { bundles: [memoryBundle(files)] });
    const client = await connect();
    expect((await client.hello({ codecs: ['raw', 'telepathy'] })).codecs).toEqual(['raw']);
    const header = { from: 0, to: 0, level: 0, codec: 0, deadlineMs: 0 };
    for (const chunk of chunksOf(1, encodeRequestPacket(header, new Uint8Array(8)))) client.sendBytes(chunk);
    expect(await client.wait('error')).toMatchObject({ id: 1, code: 'codec/unknown' });
    await request(client, 2, await encodeRequest({ ...fixture, manifest }, 0), manifest);
  });

  const hello = encodeControl(helloFields);
  const chunk = chunksOf(1, new Uint8Array(100))[0]!;
  const openings: [string, (Uint8Array | string)[], string, number][] = [
    ['a text message', ['hello'], 'wire/malformed', 4000],
    ['an empty message', [new Uint8Array(0)], 'wire/malformed', 4000],
    ['a chunk before hello', [chunk], 'wire/unexpected', 4002],
    ['a ping before hello', [encodeControl({ type: 'ping', id: 1 })], 'wire/unexpected', 4002],
    ['an unknown kind', [Uint8Array.of(9, 9, 9)], 'wire/malformed', 4000],
    ['a hello that is cut short', [hello.subarray(0, 30)], 'wire/malformed', 4000],
    ['two hellos at once', [hello, hello], 'wire/unexpected', 4002],
  ];
  for (const [what, messages, code, closeCode] of openings) {
    it(`closes after ${what}`, async () => {
      const { connect, receiver } = await stage.open(fixture);
      const client = await connect();
      for (const message of messages) client.sendBytes(message);
      await expectRefusal(client, code, closeCode);
      await until(() => receiver.stats().connections === 0);
    });
  }

  const gap = chunksOf(1, new Uint8Array(40_000))[1]!;
  const result = new Uint8Array(chunk);
  result[0] = 3;
  const slips: [string, Uint8Array | string, string, number][] = [
    ['a text message', 'ping', 'wire/malformed', 4000],
    ['a second hello', hello, 'wire/unexpected', 4002],
    ['a result', result, 'wire/unexpected', 4002],
    ['a chunk without a beginning', gap, 'wire/malformed', 4000],
    ['an unknown control message', Uint8Array.of(1, 0x81, 0xa4, 1, 1, 1, 1, 1), 'wire/malformed', 4000],
  ];
  for (const [what, message, code, closeCode] of slips) {
    it(`closes an accepted connection after ${what}`, async () => {
      const { connect } = await stage.open(fixture);
      const client = await connect();
      await client.hello();
      client.sendBytes(message);
      await expectRefusal(client, code, closeCode);
    });
  }

  it('closes messages that are too long for anything with 1009', async () => {
    const { connect } = await stage.open(fixture);
    const client = await connect();
    await client.hello();
    client.sendBytes(new Uint8Array(100_000));
    expect((await client.wait('closed')).closeCode).toBe(1009);
  });

  it('does not wait for a hello for ever', async () => {
    const clock = createManualClock();
    const { connect } = await stage.open(fixture, { clock, limits: { helloTimeoutMs: 1000 } });
    const silent = await connect();
    const greeted = await connect();
    await greeted.hello();
    clock.advance(1000);
    await expectRefusal(silent, 'request/deadline', 4011);
    greeted.send({ type: 'ping', id: 5 });
    expect((await greeted.wait('pong')).id).toBe(5);
  });

  it('does not wait for the auth function for ever either', async () => {
    const clock = createManualClock();
    let asked = false;
    const { connect } = await stage.open(fixture, {
      clock,
      auth: () => {
        asked = true;
        return new Promise(() => {});
      },
    });
    const client = await connect();
    client.send(helloFields);
    await until(() => asked);
    clock.advance(10_000);
    await expectRefusal(client, 'request/deadline', 4011);
  });

  it('counts connections, of all and of each address', async () => {
    for (const limits of [{ connections: 2 }, { connectionsPerAddress: 2 }]) {
      const { connect, receiver } = await stage.open(fixture, { limits });
      const first = await connect();
      await first.hello();
      await (await connect()).hello();
      await expectRefusal(await connect(), 'limit/connections', 4009);
      await first.close();
      await until(() => receiver.stats().connections === 1);
      await (await connect()).hello();
    }
  });

  it('hangs up on a flood of connections without a word', async () => {
    const { connect, url, receiver } = await stage.open(fixture, { limits: { connections: 1 } });
    const first = await connect();
    const handshake = [
      'GET / HTTP/1.1',
      'Host: localhost',
      'Connection: Upgrade',
      'Upgrade: websocket',
      'Sec-WebSocket-Version: 13',
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    ];
    // These never answer the closing handshake, and so stay for a while.
    const sockets = Array.from({ length: 100 }, () => connectTcp(Number(new URL(url).port), '127.0.0.1'));
    const answers = await Promise.all(
      sockets.map((socket) => {
        socket.write(`${handshake.join('\r\n')}\r\n\r\n`);
        return new Promise<string>((resolve) =>
          socket.once('data', (data) => resolve(data.toString('latin1'))),
        );
      }),
    );
    const statuses = answers.map((answer) => answer.split(' ', 2)[1]);
    expect(new Set(statuses)).toEqual(new Set(['101', '503']));
    expect(receiver.stats().connections).toBe(statuses.filter((status) => status === '101').length + 1);
    await first.hello();
    for (const socket of sockets) socket.destroy();
    await until(() => receiver.stats().connections === 1);
  });
});
