import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isIsthmusError } from '@isthmus/core';
import {
  type ConnectOptions,
  connect,
  createMemoryCache,
  exponentialBackoff,
  type Frame,
  type Session,
} from '@isthmus/device';
import { createShaper, type LinkShape, type Photo, pullPhotos, type Shaper } from 'isthmus';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { isthmus, type ReceiverProcess, serve } from '../support/process.js';

// What happens when a receiver process dies or the network goes, with a real model and real processes.
let folder: string;
let bundle: string;
let photo: Photo;
const open: { close(): Promise<void> }[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'isthmus-faults-'));
  bundle = join(folder, 'mobilenet-v1');
  photo = (await pullPhotos())[0]!;
  expect((await isthmus(['split', 'mobilenet-v1', '--out', bundle])).exitCode).toBe(0);
}, 300_000);

afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function startReceiver(port: number = 0): Promise<ReceiverProcess> {
  const receiver = await serve([bundle, '--port', String(port)]);
  open.push({ close: async () => void (await receiver.stop()) });
  return receiver;
}

// 602 KB take about a second and a half: time enough for things to go wrong meanwhile.
const slow: LinkShape = { rateBps: 3.2e6, delayMs: 5 };
const rawFrame = { kind: 'split', from: 0, codec: 'raw', level: 0, to: 0 } as const;

async function start(
  options: Partial<ConnectOptions> = {},
): Promise<{ receiver: ReceiverProcess; shaper: Shaper; session: Session<Frame> }> {
  const receiver = await startReceiver();
  const shaper = await createShaper({ target: { host: '127.0.0.1', port: receiver.port }, uplink: slow });
  open.push(shaper);
  const session = await connect(`ws://127.0.0.1:${shaper.port}`, {
    model: 'mobilenet-v1',
    plan: rawFrame,
    mayRunLocally: false,
    cache: createMemoryCache(),
    reconnect: exponentialBackoff({ firstMs: 50, maxMs: 200 }),
    ...options,
  });
  open.push(session);
  return { receiver, shaper, session };
}

// Waits until part of the packet has arrived: the link holds less than 250 KB, the packet has 602.
async function midRequest(shaper: Shaper): Promise<void> {
  const before = shaper.numBytes.up;
  while (shaper.numBytes.up < before + 250_000) await new Promise((resolve) => setTimeout(resolve, 5));
}

const labelOf = async (result: Promise<{ output: unknown }>): Promise<string> => {
  const output = (await result).output as { classes: { label: string }[] };
  return output.classes[0]!.label;
};

describe('a receiver that is killed in the middle of a request', () => {
  it('answers it once it is back, and goes on', async () => {
    const { receiver, shaper, session } = await start();
    const links: string[] = [];
    session.on('link', ({ state }) => links.push(state));
    const pending = labelOf(session.run(photo.bytes));
    await midRequest(shaper);
    await receiver.kill();
    await startReceiver(receiver.port);
    expect(await pending).toBe('pineapple');
    expect(await labelOf(session.run(photo.bytes))).toBe('pineapple');
    expect(links.at(-1)).toBe('up');
    expect(links.length).toBeGreaterThanOrEqual(2);
  });

  it('and does not come back: the request ends with a typed error, and later ones too', async () => {
    const { receiver, shaper, session } = await start({ linkTimeoutMs: 500 });
    const pending = session.run(photo.bytes);
    const ended = pending.then(
      () => 'an answer',
      (error) => (isIsthmusError(error) ? error.code : error),
    );
    await midRequest(shaper);
    await receiver.kill();
    expect(await ended).toBe('link/lost');
    await expect(session.run(photo.bytes)).rejects.toMatchObject({ code: 'link/lost' });
  });

  it('is not missed by a device that holds the whole model', async () => {
    const { receiver, shaper, session } = await start({ mayRunLocally: true, linkTimeoutMs: 500 });
    await session.prepare({ kind: 'local' });
    const pending = session.run(photo.bytes);
    await midRequest(shaper);
    await receiver.kill();
    const { plan, output } = await pending;
    expect(plan.kind).toBe('local');
    expect(plan.reason).toMatch(/link/);
    expect(output.kind === 'classification' && output.classes[0]!.label).toBe('pineapple');
  });
});

describe('a network that goes away', () => {
  it('and comes back: the request is answered', async () => {
    const { shaper, session } = await start();
    const pending = labelOf(session.run(photo.bytes));
    await midRequest(shaper);
    shaper.cut();
    shaper.restore();
    expect(await pending).toBe('pineapple');
  });
});

describe('a receiver that is told to stop', () => {
  it('finishes what is under way and exits with 0', async () => {
    const { receiver, shaper, session } = await start();
    const pending = labelOf(session.run(photo.bytes));
    await midRequest(shaper);
    const stopped = receiver.stop();
    expect(await pending).toBe('pineapple');
    expect(await stopped).toBe(0);
  });
});

describe('isthmus serve', () => {
  it('says that a port is in use', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    open.push({ close: async () => void server.close() });
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    const { exitCode, stderr } = await isthmus(['serve', bundle, '--port', String(port)]);
    expect(stderr).toContain(String(port));
    expect(stderr).toContain('receiver/listen-failed');
    expect(exitCode).toBe(1);
  });

  it('says that a bundle is not there, or damaged', async () => {
    const missing = await isthmus(['serve', join(folder, 'nothing')]);
    expect(missing.stderr).toContain('bundle/not-found');
    expect(missing.exitCode).toBe(1);
  });

  it('lets only those in who know the token', async () => {
    const receiver = await serve([bundle, '--port', '0', '--token', 'open sesame']);
    open.push({ close: async () => void (await receiver.stop()) });
    const wrong = await isthmus(['run', receiver.url, 'x.jpg', '--token', 'shazam']);
    expect(wrong.stderr).toContain('auth/denied');
    expect(wrong.exitCode).toBe(1);
    await expect(connect(receiver.url, { model: 'mobilenet-v1' })).rejects.toMatchObject({
      code: 'auth/denied',
    });
    const session = await connect(receiver.url, { model: 'mobilenet-v1', token: 'open sesame' });
    await session.close();
  });
});
