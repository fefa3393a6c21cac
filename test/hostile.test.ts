import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { fileURLToPath } from 'node:url';
import type { ReceiverStats } from '@isthmus/cloud';
import { decodeRequestHeader, encodeControl, encodeRequestPacket, requestHeaderBytes } from '@isthmus/core';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Fixture, makeFixture, relativeDifference, writeFixture } from './support/fixture.js';
import { chunksOf, connectWire, encodeRequest, helloFields, request } from './support/wire-client.js';

interface Report {
  residentBytes: number;
  stats: ReceiverStats;
}

let fixture: Fixture;
let removeFolder: () => Promise<void>;
let child: ChildProcess;
let url: string;
let exited: string | undefined;
let packets: Uint8Array[];

beforeAll(async () => {
  fixture = await makeFixture();
  const written = await writeFixture(fixture.files);
  removeFolder = written.remove;
  const limits = {
    inFlightPerConnection: 8,
    queueLength: 32,
    pendingBytes: 4_194_304,
    keptSessions: 50,
    keptResultBytes: 1_048_576,
  };
  child = fork(
    fileURLToPath(new URL('support/receiver-process.js', import.meta.url)),
    [written.folder, JSON.stringify(limits)],
    { execArgv: ['--expose-gc'], stdio: ['ignore', 'inherit', 'inherit', 'ipc'] },
  );
  child.once('exit', (code, signal) => {
    exited = `the receiver ended with ${code ?? signal}`;
  });
  [{ url }] = (await once(child, 'message')) as [{ url: string }];
  packets = [];
  for (const cut of [0, 1, 3, 4]) {
    packets.push(
      await encodeRequest(fixture, cut),
      await encodeRequest(fixture, cut, { codec: 'quantized' }),
    );
  }
});
afterAll(async () => {
  if (exited === undefined) {
    child.disconnect();
    await once(child, 'exit');
  }
  await fixture.runtime.close();
  await removeFolder();
});

async function report(): Promise<Report> {
  expect(exited).toBeUndefined();
  child.send('report');
  const [answer] = (await once(child, 'message')) as [Report];
  return answer;
}

/** Waits for connections that are being closed. */
async function settled(): Promise<Report> {
  for (;;) {
    const now = await report();
    const { connections, running, waiting } = now.stats;
    if (connections + running + waiting === 0) return now;
  }
}

type Message = Uint8Array | string;

const awkward = fc.constantFrom(0, 1, 2, 127, 128, 255, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff);

/** A change to bytes that leaves most of them what they were. */
const mutation: fc.Arbitrary<(bytes: Uint8Array) => Uint8Array> = fc.oneof(
  fc.constant((bytes: Uint8Array) => bytes),
  fc
    .array(fc.tuple(fc.nat(), fc.nat(7)), { minLength: 1, maxLength: 4 })
    .map((flips) => (bytes: Uint8Array) => {
      const changed = new Uint8Array(bytes);
      for (const [at, bit] of flips) changed[at % Math.max(1, bytes.length)]! ^= 1 << bit;
      return changed;
    }),
  // Headers are where the meaning is.
  fc.tuple(fc.nat(31), fc.integer({ min: 0, max: 255 })).map(([at, value]) => (bytes: Uint8Array) => {
    const changed = new Uint8Array(bytes);
    if (at < changed.length) changed[at] = value;
    return changed;
  }),
  fc.tuple(fc.nat(7), awkward).map(([word, value]) => (bytes: Uint8Array) => {
    const changed = new Uint8Array(bytes);
    if (4 * word + 4 <= changed.length) new DataView(changed.buffer).setUint32(4 * word, value, true);
    return changed;
  }),
  fc.nat().map((length) => (bytes: Uint8Array) => bytes.slice(0, length % (bytes.length + 1))),
  fc
    .uint8Array({ maxLength: 64 })
    .map((tail) => (bytes: Uint8Array) => Uint8Array.from([...bytes.subarray(0, 16_300), ...tail])),
);

/** Chunks of a packet that is not what it should be, but whose checksum is right more often than not. */
const packetMessages: fc.Arbitrary<Message[]> = fc
  .record({
    packet: fc.nat(7),
    id: fc.nat(5),
    change: mutation,
    changeChunk: mutation,
    changed: fc.nat(7),
    header: fc.option(
      fc.record({
        // Undefined for the right one: what is changed is the payload, and its checksum is right.
        from: fc.option(fc.nat(6), { nil: undefined, freq: 1 }),
        to: fc.option(fc.nat(6), { nil: undefined, freq: 1 }),
        level: fc.option(fc.nat(3), { nil: undefined, freq: 1 }),
        codec: fc.option(fc.nat(2), { nil: undefined, freq: 1 }),
        deadlineMs: fc.constantFrom(0, 0, 1, 1000, 0xffffffff),
      }),
      { freq: 3 },
    ),
    order: fc.constantFrom(...Array<'whole'>(8).fill('whole'), 'backwards', 'twice', 'unfinished'),
  })
  .map(({ packet, id, change, changeChunk, changed, header, order }) => {
    const valid = packets[packet % packets.length]!;
    const payload = valid.subarray(requestHeaderBytes);
    const { from, to, level, codec } = decodeRequestHeader(valid);
    const altered =
      header === null
        ? change(valid)
        : encodeRequestPacket(
            {
              from: header.from ?? from,
              to: header.to ?? to,
              level: header.level ?? level,
              codec: header.codec ?? codec,
              deadlineMs: header.deadlineMs,
            },
            change(new Uint8Array(payload)),
          );
    const chunks = chunksOf(id, altered.byteLength > 0 ? altered : valid);
    const spoiled = chunks.map((chunk, index) => (index === changed ? changeChunk(chunk) : chunk));
    if (order === 'backwards') return spoiled.reverse();
    if (order === 'twice') return [...spoiled, ...spoiled];
    return order === 'unfinished' ? spoiled.slice(0, -1) : spoiled;
  });

const id = fc.oneof(fc.nat(5), awkward);
const controlMessages: fc.Arbitrary<Message[]> = fc
  .tuple(
    fc.oneof(
      fc.record({ type: fc.constant('cancel' as const), id }),
      fc.record({ type: fc.constant('ping' as const), id }),
      fc.record({ type: fc.constant('pong' as const), id, atMs: fc.double({ min: 0, noNaN: true }) }),
      fc.record({ type: fc.constant('goodbye' as const), code: fc.string(), message: fc.string() }),
      fc.record({
        type: fc.constant('error' as const),
        id: fc.option(id),
        code: fc.string(),
        message: fc.string(),
        retryable: fc.boolean(),
        retryAfterMs: fc.constant(null),
      }),
      fc.record({
        type: fc.constant('hello' as const),
        protocol: fc.array(fc.integer()),
        model: fc.oneof(fc.constant('two-heads'), fc.string()),
        codecs: fc.array(fc.string()),
        token: fc.option(fc.string()),
        resume: fc.option(fc.string()),
        bundle: fc.constant(null),
        tables: fc.constant({}),
        client: fc.string(),
      }),
    ),
    mutation,
  )
  .map(([message, change]) => [change(encodeControl(message))]);

const anyMessages: fc.Arbitrary<Message[]> = fc.oneof(
  { weight: 6, arbitrary: packetMessages },
  { weight: 3, arbitrary: controlMessages },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 100 }).map((bytes): Message[] => [bytes]) },
  { weight: 1, arbitrary: fc.string().map((text): Message[] => [text]) },
);

interface Conversation {
  /** Whether a good hello opens it. */
  greeted: boolean;
  opening: Message;
  messages: Message[];
}

const conversation: fc.Arbitrary<Conversation> = fc.record({
  greeted: fc.boolean(),
  opening: mutation.map((change): Message => change(encodeControl(helloFields))),
  messages: fc.array(anyMessages, { minLength: 1, maxLength: 4 }).map((parts) => parts.flat()),
});

const sentinel = 0xfffffff0;
const statedCodes = new Set([
  1000,
  1001,
  1002,
  1007,
  1009,
  ...Array.from({ length: 12 }, (_, i) => 4000 + i),
]);

/** Says everything, then asks whether anybody is there. Returns the number of messages sent. */
async function converse({ greeted, opening, messages }: Conversation): Promise<number> {
  const client = await connectWire(url);
  try {
    if (greeted) await client.hello();
    const said = greeted ? messages : [opening, ...messages];
    for (const message of said) client.sendBytes(message);
    client.send({ type: 'ping', id: sentinel });
    await client.wait('pong', (event) => event.id === sentinel).catch(() => {});
    for (const event of [...client.events]) {
      if (event.type !== 'arrived') continue;
      // Either it ends, or the whole connection does.
      const ends = [
        client.wait('result', (end) => end.id === event.id),
        client.wait('error', (end) => end.id === event.id),
      ];
      await Promise.any(ends).catch(() => {});
    }
    const last = client.events.at(-1)!;
    if (last.type === 'closed') {
      expect(statedCodes).toContain(last.closeCode);
      if (last.closeCode >= 4000) expect(last.reason).toMatch(/^[a-z]+\/[a-z-]+$/);
    }
    const codes = client.events.flatMap((event) => (event.type === 'error' ? [event.code] : []));
    expect(codes).not.toContain('internal');
    return said.length;
  } finally {
    client.socket.terminate();
  }
}

async function expectService(): Promise<void> {
  const client = await connectWire(url);
  await client.hello();
  const outputs = await request(client, 1, await encodeRequest(fixture, 1), fixture.manifest);
  expect(relativeDifference(outputs.scores!, fixture.expected.scores!)).toBeLessThan(1e-5);
  await client.close();
}

describe('a live receiver', () => {
  it('answers or closes with a stated code, whatever 10,000 mutated messages say', async () => {
    let sent = 0;
    let warmBytes = Infinity;
    while (sent < 20_000) {
      await fc.assert(
        fc.asyncProperty(fc.array(conversation, { minLength: 4, maxLength: 4 }), async (several) => {
          const counts = await Promise.all(several.map(converse));
          sent += counts.reduce((sum, count) => sum + count, 0);
          expect(exited).toBeUndefined();
        }),
        { numRuns: 100, endOnFailure: true },
      );
      if (warmBytes === Infinity && sent > 5000) warmBytes = (await settled()).residentBytes;
    }
    await expectService();
    const { residentBytes, stats } = await settled();
    expect(stats.pendingBytes).toBe(0);
    expect(stats.keptResultBytes).toBeLessThanOrEqual(1_048_576);
    expect(stats.sessions).toBeLessThanOrEqual(50);
    expect(stats.succeeded).toBeGreaterThan(300);
    expect(stats.failed).toBeGreaterThan(1000);
    expect(residentBytes - warmBytes).toBeLessThan(64 * 2 ** 20);
  });

  it('outlives frames and requests that are no WebSocket and no HTTP', async () => {
    const { hostname, port } = new URL(url);
    const upgrade = [
      'GET / HTTP/1.1',
      'Host: localhost',
      'Connection: Upgrade',
      'Upgrade: websocket',
      'Sec-WebSocket-Version: 13',
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
      '',
      '',
    ].join('\r\n');
    const get = 'GET /models/two-heads/segments/1.onnx HTTP/1.1\r\nHost: x\r\nRange: bytes=0-9\r\n\r\n';
    // A masked binary frame that holds a hello.
    const hello = encodeControl(helloFields);
    const frame = Uint8Array.from([0x82, 0xfe, hello.length >> 8, hello.length & 255, 0, 0, 0, 0, ...hello]);
    const stream = fc.oneof(
      fc
        .array(
          fc.oneof(
            mutation.map((change) => change(frame)),
            fc.uint8Array({ maxLength: 200 }),
          ),
        )
        .map((frames) => Buffer.concat([Buffer.from(upgrade), ...frames])),
      mutation.map((change) => Buffer.from(change(Buffer.from(upgrade)))),
      mutation.map((change) => Buffer.from(change(Buffer.from(get)))),
      fc.string().map((path) => Buffer.from(get.replace('segments/1.onnx', path))),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(stream, { minLength: 4, maxLength: 4 }), async (several) => {
        await Promise.all(
          several.map(async (bytes) => {
            const socket = connectTcp(Number(port), hostname);
            socket.on('error', () => {});
            socket.resume();
            socket.end(bytes);
            await new Promise((resolve) => socket.once('close', resolve));
          }),
        );
        expect(exited).toBeUndefined();
      }),
      { numRuns: 300, endOnFailure: true },
    );
    await expectService();
    expect((await settled()).stats.pendingBytes).toBe(0);
  });
});
