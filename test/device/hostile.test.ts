import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  type AcceptMessage,
  ChunkScheduler,
  type ControlMessage,
  decodeChunk,
  encodeControl,
  encodeResultPacket,
  messageKind,
} from '@isthmus/core';
import {
  type ConnectOptions,
  connect,
  createMemoryCache,
  exponentialBackoff,
  type Frame,
  type Plan,
  type Session,
} from '@isthmus/device';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type WebSocket, WebSocketServer } from 'ws';
import { type Fixture, makeFixture } from '../support/fixture.js';
import { codeOf } from '../support/restartable.js';

// Receivers that break the protocol: real servers, written for the purpose.

let fixture: Fixture;
const cleanups: (() => unknown)[] = [];

beforeAll(async () => {
  fixture = await makeFixture();
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
afterAll(() => fixture.runtime.close());

type Behaviour = (socket: WebSocket, message: Uint8Array, numConnections: number) => void;

async function serve(behave: Behaviour): Promise<string> {
  const server: Server = createServer((request, response) => {
    const bytes = fixture.files.get(request.url!.replace('/models/two-heads/', ''));
    response.writeHead(bytes === undefined ? 404 : 200).end(bytes);
  });
  let numConnections = 0;
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', (socket) => {
    const own = ++numConnections;
    socket.on('error', () => {});
    socket.on('message', (data: Buffer) => behave(socket, new Uint8Array(data), own));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanups.push(() => {
    for (const socket of sockets.clients) socket.terminate();
    server.closeAllConnections();
    server.close();
  });
  return `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function join(url: string, options: Partial<ConnectOptions> = {}): Promise<Session<Frame>> {
  const session = await connect(url, {
    model: 'two-heads',
    runtime: fixture.runtime,
    cache: createMemoryCache(),
    mayRunLocally: false,
    plan: raw(0),
    reconnect: exponentialBackoff({ firstMs: 5, maxMs: 5 }),
    ...options,
  });
  cleanups.push(() => session.close());
  return session;
}

const raw = (cut: number): Plan => ({ kind: 'split', from: cut, codec: 'raw', level: 0, to: cut });
const say = (socket: WebSocket, message: ControlMessage): void => socket.send(encodeControl(message));
const accept = (fields: Partial<AcceptMessage> = {}): AcceptMessage => ({
  type: 'accept',
  protocol: 1,
  session: 's',
  resumed: false,
  model: 'two-heads',
  bundle: fixture.sha256,
  tables: {},
  codecs: ['raw'],
  limits: { packetBytes: 1e6, inFlight: 4, bytesPerSecond: 0 },
  ...fields,
});
const isHello = (message: Uint8Array): boolean => message[0] === messageKind.control && message.length > 60;

/** Accepts, and does that to the last chunk of every request. */
function onRequest(answer: (socket: WebSocket, id: number, numConnections: number) => void): Behaviour {
  return (socket, message, numConnections) => {
    if (isHello(message)) say(socket, accept());
    if (message[0] !== messageKind.requestChunk) return;
    const chunk = decodeChunk(message);
    if (chunk.last) answer(socket, chunk.id, numConnections);
  };
}

function sendResult(socket: WebSocket, id: number, packet: Uint8Array): void {
  const scheduler = new ChunkScheduler();
  scheduler.add(messageKind.resultChunk, id, packet);
  for (let next = scheduler.next(); next !== undefined; next = scheduler.next()) socket.send(next.message);
}

const goodResult = (): Uint8Array => encodeResultPacket(Object.values(fixture.expected));

test.each(['wire/version-mismatch', 'auth/denied', 'limit/connections', 'auth/origin'])(
  'a hello refused with %s says so',
  async (code) => {
    const url = await serve((socket) => {
      say(socket, { type: 'error', id: null, code, message: 'No.', retryable: false, retryAfterMs: null });
      socket.close(4099, code);
    });
    expect(await codeOf(join(url))).toBe(code);
  },
);

test('a hello refused by the close code alone says so too', async () => {
  const url = await serve((socket) => socket.close(4001, 'wire/version-mismatch'));
  expect(await codeOf(join(url))).toBe('wire/version-mismatch');
});

test('a receiver that accepts what it must not is left', async () => {
  const other = await serve((socket) => say(socket, accept({ protocol: 2 })));
  expect(await codeOf(join(other))).toBe('wire/version-mismatch');
  const stranger = await serve((socket) => say(socket, accept({ bundle: '0'.repeat(64) })));
  expect(await codeOf(join(stranger))).toBe('bundle/invalid');
  const silent = await serve(() => {});
  expect(await codeOf(join(silent, { connectTimeoutMs: 20 }))).toBe('link/connect-failed');
  const hasty = await serve((socket) => say(socket, { type: 'pong', id: 1, atMs: 0 }));
  expect(await codeOf(join(hasty))).toBe('wire/unexpected');
  const chatty = await serve((socket) => socket.send('hello'));
  expect(await codeOf(join(chatty))).toBe('wire/malformed');
});

test('a request that takes the link down every time is not sent for ever', async () => {
  let sends = 0;
  const url = await serve(
    onRequest((socket) => {
      sends++;
      socket.terminate();
    }),
  );
  expect(await codeOf((await join(url)).run(fixture.frame))).toBe('link/lost');
  expect(sends).toBe(4);
});

test('a result that breaks the framing costs the link, not the request', async () => {
  const url = await serve(
    onRequest((socket, id, numConnections) => {
      const packet = goodResult();
      if (numConnections === 1) socket.send(Uint8Array.of(3, 0, 0, 0, id, 0, 0, 0, 9, 0, 0, 0, 1, 2, 3));
      else sendResult(socket, id, packet);
    }),
  );
  const session = await join(url);
  const states: string[] = [];
  session.on('link', ({ state, error }) => states.push(`${state} ${error?.code ?? ''}`.trim()));
  expect((await session.run(fixture.frame)).tensors).toEqual(fixture.expected);
  expect(states).toEqual(['lost wire/malformed', 'up']);
});

test('a result with a wrong checksum is asked for again, once', async () => {
  let results = 0;
  const damaged = (times: number): Promise<string> =>
    serve(
      onRequest((socket, id) => {
        const packet = goodResult();
        if (results++ < times) packet[packet.length - 1]! ^= 1;
        sendResult(socket, id, packet);
      }),
    );
  expect((await (await join(await damaged(1))).run(fixture.frame)).tensors).toEqual(fixture.expected);
  results = 0;
  expect(await codeOf((await join(await damaged(2))).run(fixture.frame))).toBe('wire/crc-mismatch');
});

test('a result of something else fails that request', async () => {
  const tensors = Object.values(fixture.expected);
  const url = await serve(
    onRequest((socket, id) => sendResult(socket, id, encodeResultPacket(tensors.slice(1)))),
  );
  const session = await join(url);
  expect(await codeOf(session.run(fixture.frame))).toBe('wire/malformed');
  expect(session.link).toBe('up');
});

test('errors that pass are waited out; others are passed on, unknown ones as internal', async () => {
  let refusals = 0;
  const refuse = (code: string, times: number): Promise<string> => {
    refusals = 0;
    return serve(
      onRequest((socket, id) => {
        if (refusals++ >= times) sendResult(socket, id, goodResult());
        else say(socket, { type: 'error', id, code, message: 'No.', retryable: true, retryAfterMs: 1 });
      }),
    );
  };
  const busy = await join(await refuse('receiver/busy', 3));
  expect((await busy.run(fixture.frame)).tensors).toEqual(fixture.expected);
  expect(await codeOf((await join(await refuse('receiver/busy', 99))).run(fixture.frame))).toBe(
    'receiver/busy',
  );
  expect(await codeOf((await join(await refuse('runtime/run-failed', 1))).run(fixture.frame))).toBe(
    'runtime/run-failed',
  );
  expect(await codeOf((await join(await refuse('who/knows', 1))).run(fixture.frame))).toBe('internal');
});

test('answers to requests that nobody made are ignored', async () => {
  const url = await serve(
    onRequest((socket, id) => {
      sendResult(socket, id + 1000, goodResult());
      say(socket, {
        type: 'error',
        id: id + 1000,
        code: 'receiver/busy',
        message: '',
        retryable: true,
        retryAfterMs: 0,
      });
      say(socket, { type: 'pong', id: 77, atMs: 0 });
      sendResult(socket, id, goodResult());
      sendResult(socket, id, goodResult());
    }),
  );
  const session = await join(url);
  expect((await session.run(fixture.frame)).tensors).toEqual(fixture.expected);
  expect((await session.run(fixture.frame)).tensors).toEqual(fixture.expected);
  expect(session.link).toBe('up');
});

test('whatever bytes a receiver answers with, a request ends with a stated code or an answer', async () => {
  let answers: Uint8Array[] = [];
  const url = await serve(
    onRequest((socket, id) => {
      for (const answer of answers) socket.send(answer);
      sendResult(socket, id, goodResult());
    }),
  );
  const good = goodResult();
  const scheduler = new ChunkScheduler();
  scheduler.add(messageKind.resultChunk, 1, good);
  const first = scheduler.next()!.message;
  const mutated = fc
    .array(fc.tuple(fc.nat({ max: first.length - 1 }), fc.nat({ max: 255 })), { minLength: 1, maxLength: 8 })
    .map((changes) => {
      const bytes = first.slice();
      for (const [at, value] of changes) bytes[at] = value;
      return bytes;
    });
  const noise = fc.uint8Array({ minLength: 0, maxLength: 64 });
  const kinds = fc
    .tuple(fc.integer({ min: 1, max: 3 }), noise)
    .map(([kind, rest]) => Uint8Array.of(kind, ...rest));
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof(mutated, noise, kinds), { minLength: 1, maxLength: 4 }),
      async (bytes) => {
        answers = bytes;
        const session = await join(url);
        const code = await codeOf(session.run(fixture.frame));
        expect(code).toMatch(/^(no error|[a-z]+\/[a-z-]+|internal)$/);
        await session.close();
      },
    ),
    { numRuns: 150 },
  );
});
