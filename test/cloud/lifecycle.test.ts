import { rm, truncate, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createReceiver, memoryBundle } from '@isthmus/cloud';
import { createManualClock } from '@isthmus/core';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Fixture, makeFixture, writeFixture } from '../support/fixture.js';
import { createStage, gateRuntime, until } from '../support/receivers.js';
import { chunksOf, encodeRequest, helloFields, request } from '../support/wire-client.js';

let fixture: Fixture;
const stage = createStage();

beforeAll(async () => {
  fixture = await makeFixture();
});
afterEach(() => stage.clear());
afterAll(() => fixture.runtime.close());

describe('a receiver starts', () => {
  it('from a folder, with a runtime of its own', async () => {
    const { folder, remove } = await writeFixture(fixture.files);
    const receiver = await createReceiver({ bundles: [folder] });
    try {
      const { url, port } = await receiver.listen(0);
      expect(url).toBe(`ws://127.0.0.1:${port}`);
      const response = await fetch(`http://127.0.0.1:${port}/models/two-heads/manifest.json`);
      expect(response.headers.get('etag')).toBe(`"${fixture.sha256}"`);
      const { path } = fixture.manifest.segments[0]!.file;
      const part = await fetch(`http://127.0.0.1:${port}/models/two-heads/${path}`, {
        headers: { range: 'bytes=3-8' },
      });
      expect(new Uint8Array(await part.arrayBuffer())).toEqual(
        new Uint8Array(fixture.files.get(path)!.slice(3, 9)),
      );
    } finally {
      await receiver.close();
      await remove();
    }
  });

  const segment = 'segments/1.onnx';
  const faults: [string, (folder: string) => Promise<unknown>, string, string][] = [
    ['no manifest', (folder) => rm(join(folder, 'manifest.json')), 'bundle/not-found', 'isthmus split'],
    ['no JSON', (folder) => writeFile(join(folder, 'manifest.json'), '{'), 'bundle/invalid', 'JSON'],
    ['a segment missing', (folder) => rm(join(folder, segment)), 'bundle/not-found', segment],
    ['a segment cut short', (folder) => truncate(join(folder, segment), 9), 'bundle/hash-mismatch', segment],
    [
      'a segment altered',
      (folder) => {
        const bytes = new Uint8Array(fixture.files.get(segment)!);
        bytes[bytes.length >> 1]! ^= 1;
        return writeFile(join(folder, segment), bytes);
      },
      'bundle/hash-mismatch',
      segment,
    ],
  ];
  for (const [what, spoil, code, names] of faults) {
    it(`not from a folder with ${what}`, async () => {
      const { folder, remove } = await writeFixture(fixture.files);
      try {
        await spoil(folder);
        await expect(createReceiver({ bundles: [folder], runtime: fixture.runtime })).rejects.toMatchObject({
          code,
          message: expect.stringContaining(names),
        });
      } finally {
        await remove();
      }
    });
  }

  it('only with options that make sense', async () => {
    const { runtime } = fixture;
    const bundle = memoryBundle(fixture.files);
    for (const options of [
      { bundles: [] },
      { bundles: [bundle, bundle] },
      { bundles: [bundle], limits: { packetBytes: -1 } },
      { bundles: [bundle], limits: { connections: 1.5 } },
      { bundles: [bundle], limits: { packets: 1 } as object },
      { bundles: [bundle], concurrency: 0 },
      { bundles: [bundle], auth: [] },
      { bundles: [bundle], auth: [''] },
    ]) {
      await expect(createReceiver({ runtime, ...options })).rejects.toMatchObject({ code: 'usage/invalid' });
    }
  });

  it('not on a port in use, or one that cannot be', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as { port: number };
    const { receiver } = await stage.open(fixture);
    await expect(receiver.listen(port)).rejects.toMatchObject({
      code: 'receiver/listen-failed',
      message: expect.stringContaining(`${port}`),
      details: { port },
    });
    await expect(receiver.listen(70_000)).rejects.toMatchObject({ code: 'receiver/listen-failed' });
    await expect(receiver.listen(0, '203.0.113.7')).rejects.toMatchObject({ code: 'receiver/listen-failed' });
    await new Promise((resolve) => other.close(resolve));
    expect((await receiver.listen(port)).port).toBe(port);
  });

  it('and reports a bundle that breaks later without telling clients where it lies', async () => {
    const files = new Map(fixture.files);
    const lines: string[] = [];
    const logger = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) });
    const { connect } = await stage.open(fixture, {
      bundles: [memoryBundle(files, '/secret/place')],
      logger,
      auth: ['a-secret-token'],
    });
    files.set('segments/4.onnx', new Uint8Array(3));
    const client = await connect();
    await client.hello({ token: 'a-secret-token' });
    const packet = await encodeRequest(fixture, 3);
    for (const chunk of chunksOf(1, packet)) client.sendBytes(chunk);
    const error = await client.wait('error');
    expect(error).toMatchObject({ id: 1, code: 'bundle/hash-mismatch' });
    expect(error.message).not.toContain('/secret/place');
    expect(lines.some((line) => line.includes('/secret/place'))).toBe(true);
    expect(lines.some((line) => line.includes('connection accepted'))).toBe(true);
    expect(lines.every((line) => !line.includes('a-secret-token'))).toBe(true);
    // Mended, it works without a restart.
    files.set('segments/4.onnx', fixture.files.get('segments/4.onnx')!);
    await request(client, 2, packet, fixture.manifest);
  });
});

describe('a receiver drains', () => {
  it('finishing what is under way and refusing what is new', async () => {
    const runtime = gateRuntime(fixture.runtime);
    const { connect, receiver, http, url } = await stage.open(fixture, { runtime });
    const busy = await connect();
    const idle = await connect();
    const silent = await connect();
    await Promise.all([busy.hello(), idle.hello()]);
    runtime.shut();
    const packet = await encodeRequest(fixture, 1);
    const [first, ...rest] = chunksOf(2, packet);
    for (const chunk of chunksOf(1, packet)) busy.sendBytes(chunk);
    busy.sendBytes(first!);
    await until(() => receiver.stats().running === 1 && receiver.stats().pendingBytes > packet.byteLength);

    const drained = receiver.drain();
    for (const client of [idle, silent]) {
      expect(await client.wait('closed')).toMatchObject({ closeCode: 1001, reason: 'receiver/draining' });
    }
    expect((await busy.wait('goodbye')).code).toBe('receiver/draining');
    expect((await fetch(`${http}/health/ready`)).status).toBe(503);
    expect((await fetch(`${http}/health/live`)).status).toBe(200);
    const late = await connect();
    expect(await late.wait('closed')).toMatchObject({ closeCode: 1001, reason: 'receiver/draining' });
    for (const chunk of chunksOf(3, packet)) busy.sendBytes(chunk);
    expect(await busy.wait('error')).toMatchObject({ id: 3, code: 'receiver/draining', retryable: true });
    for (const chunk of rest) busy.sendBytes(chunk);
    await busy.wait('arrived', ({ id }) => id === 2);
    runtime.open();
    await drained;
    expect(await busy.wait('closed')).toMatchObject({ closeCode: 1001, reason: 'receiver/draining' });
    const ends = busy.events.flatMap((event) => (event.type === 'result' ? [event.id] : []));
    expect(ends.sort()).toEqual([1, 2]);
    expect(receiver.stats()).toMatchObject({ connections: 0, pendingBytes: 0 });
    await expect(fetch(http)).rejects.toThrow();
    await expect(receiver.listen(0)).rejects.toMatchObject({ code: 'receiver/draining' });
    expect(url).toBeDefined();
  });

  it('no longer than it may', async () => {
    const clock = createManualClock();
    const runtime = gateRuntime(fixture.runtime);
    const { connect, receiver } = await stage.open(fixture, { runtime, clock });
    const client = await connect();
    await client.hello();
    runtime.shut();
    for (const chunk of chunksOf(1, await encodeRequest(fixture, 1))) client.sendBytes(chunk);
    await until(() => receiver.stats().running === 1);
    const drained = receiver.drain(5000);
    await client.wait('goodbye');
    clock.advance(5000);
    await client.wait('closed');
    runtime.open();
    await drained;
  });

  it('for a client that says goodbye', async () => {
    const { connect } = await stage.open(fixture);
    const client = await connect();
    await client.hello();
    for (const chunk of chunksOf(1, await encodeRequest(fixture, 1))) client.sendBytes(chunk);
    client.send({ type: 'goodbye', code: 'link/closed', message: '' });
    expect(await client.wait('closed')).toMatchObject({ closeCode: 1000 });
    expect(client.events.filter(({ type }) => type === 'result').length).toBe(1);
  });

  it('at once when it is closed, however often', async () => {
    const { connect, receiver } = await stage.open(fixture);
    const client = await connect();
    client.send(helloFields);
    await Promise.all([receiver.close(), receiver.close()]);
    await client.wait('closed');
    await receiver.drain();
  });
});
