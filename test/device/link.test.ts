import {
  type ConnectOptions,
  connect,
  createMemoryCache,
  exponentialBackoff,
  type Frame,
  type LinkState,
  type Plan,
  type Session,
} from '@isthmus/device';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type Fixture, makeFixture, relativeDifference } from '../support/fixture.js';
import { gateRuntime, until } from '../support/receivers.js';
import { codeOf, startReceiver, type TestReceiver, withManifest } from '../support/restartable.js';

let fixture: Fixture;
const cleanups: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  fixture = await makeFixture();
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
afterAll(() => fixture.runtime.close());

async function receive(options: Parameters<typeof startReceiver>[1] = {}): Promise<TestReceiver> {
  const receiver = await startReceiver(fixture, options);
  cleanups.push(() => receiver.stop());
  return receiver;
}

async function join(url: string, options: Partial<ConnectOptions> = {}): Promise<Session<Frame>> {
  const session = await connect(url, {
    model: 'two-heads',
    runtime: fixture.runtime,
    cache: createMemoryCache(),
    mayRunLocally: false,
    plan: raw(1),
    reconnect: exponentialBackoff({ firstMs: 10, maxMs: 50 }),
    ...options,
  });
  cleanups.push(() => session.close());
  return session;
}

const raw = (cut: number): Plan => ({ kind: 'split', from: cut, codec: 'raw', level: 0, to: cut });

function reach(session: Session<Frame>, state: LinkState): Promise<void> {
  return new Promise((resolve) => {
    if (session.link === state) resolve();
    session.on('link', (event) => event.state === state && resolve());
  });
}

function expectWhole(tensors: Fixture['expected']): void {
  for (const [name, tensor] of Object.entries(tensors)) {
    expect(relativeDifference(tensor, fixture.expected[name]!)).toBeLessThan(1e-4);
  }
}

test('a request whose receiver dies is answered when it comes back', async () => {
  const gate = gateRuntime(fixture.runtime);
  const receiver = await receive({ runtime: gate });
  const session = await join(receiver.url);
  gate.shut();
  let ends = 0;
  const pending = session.run(fixture.frame).finally(() => ends++);
  await until(() => gate.arrived > 0);
  await Promise.all([receiver.stop(), reach(session, 'gone')]);
  gate.open();
  await receiver.start();
  expectWhole((await pending).tensors);
  expect(ends).toBe(1);
  expectWhole((await session.run(fixture.frame)).tensors);
});

test('a request whose receiver does not come back fails, and the session works when it does', async () => {
  const gate = gateRuntime(fixture.runtime);
  const receiver = await receive({ runtime: gate });
  const session = await join(receiver.url, { linkTimeoutMs: 100 });
  await session.run(fixture.frame);
  gate.shut();
  const pending = codeOf(session.run(fixture.frame));
  await until(() => gate.arrived > 1);
  await Promise.all([receiver.stop(), reach(session, 'gone')]);
  gate.open();
  expect(await pending).toBe('link/lost');
  expect(await codeOf(session.run(fixture.frame))).toBe('link/lost');
  const back = reach(session, 'up');
  await receiver.start();
  await back;
  expectWhole((await session.run(fixture.frame)).tensors);
});

test('the device answers alone when the link is gone and it has the whole model', async () => {
  const gate = gateRuntime(fixture.runtime);
  const receiver = await receive({ runtime: gate });
  const session = await join(receiver.url, { mayRunLocally: true });
  await session.prepare({ kind: 'local' });
  gate.shut();
  const pending = session.run(fixture.frame);
  await until(() => gate.arrived > 0);
  await receiver.stop();
  const answered = await pending;
  expect(answered.plan).toEqual({ kind: 'local', reason: 'link lost' });
  expect(answered.bytes).toEqual({ up: 0, down: 0, payload: 0 });
  expectWhole(answered.tensors);
  expect((await session.run(fixture.frame)).plan.kind).toBe('local');
  gate.open();
  const back = reach(session, 'up');
  await receiver.start();
  await back;
  expect((await session.run(fixture.frame)).plan).toMatchObject(raw(1));
});

test('without the segments, requests wait for the link even where the device may answer alone', async () => {
  const receiver = await receive();
  const session = await join(receiver.url, { mayRunLocally: true, linkTimeoutMs: 200 });
  await receiver.stop();
  expect(await codeOf(session.run(fixture.frame))).toBe('link/lost');
});

test('a receiver that drains answers what is under way; what is new goes to the next', async () => {
  const gate = gateRuntime(fixture.runtime);
  const receiver = await receive({ runtime: gate });
  const session = await join(receiver.url);
  gate.shut();
  const before = session.run(fixture.frame);
  await until(() => gate.arrived > 0);
  const drained = receiver.receiver.drain();
  const after = session.run(fixture.frame);
  gate.open();
  expectWhole((await before).tensors);
  await drained;
  await receiver.start();
  expectWhole((await after).tensors);
});

test('a receiver that comes back with another bundle is followed', async () => {
  const receiver = await receive();
  const session = await join(receiver.url);
  await session.run(fixture.frame);
  await receiver.stop();
  const pending = session.run(fixture.frame);
  await receiver.start(withManifest(fixture, { profiledOn: 'another machine' }));
  expectWhole((await pending).tensors);
  expect(session.manifest.profiledOn).toBe('another machine');
});

test('a token that is not good any more ends the session', async () => {
  let good = true;
  const receiver = await receive({ auth: () => good });
  const session = await join(receiver.url, { token: 'secret' });
  const closed = new Promise((resolve) => session.on('close', ({ error }) => resolve(error?.code)));
  good = false;
  await receiver.stop();
  await receiver.start();
  expect(await closed).toBe('auth/denied');
  expect(await codeOf(session.run(fixture.frame))).toBe('auth/denied');
});

test('a policy that gives up leaves the reason', async () => {
  const receiver = await receive();
  const session = await join(receiver.url, {
    reconnect: { nextDelayMs: ({ failures }) => (failures < 2 ? 1 : null) },
  });
  await Promise.all([receiver.stop(), reach(session, 'closed')]);
  expect(await codeOf(session.run(fixture.frame))).toBe('link/lost');
});
