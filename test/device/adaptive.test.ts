import { decodeControl, messageKind } from '@isthmus/core';
import {
  type ConnectOptions,
  connect,
  createMemoryCache,
  type Decision,
  type Frame,
  type Session,
  type WebSocketLike,
} from '@isthmus/device';
import { createShaper, type Shaper } from 'isthmus';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { film, type Shot } from '../support/camera.js';
import type { Fixture } from '../support/fixture.js';
import { makeMeasuredFixture } from '../support/measured.js';
import { codeOf, startReceiver } from '../support/restartable.js';

// A camera at ten frames a second, over a link that changes as links do.
const camera = { intervalMs: 100, deadlineMs: 200 };
const fast = { rateBps: 10e6, delayMs: 10 };
const slow = { rateBps: 0.5e6, delayMs: 10 };
const dead = { rateBps: 0, delayMs: 10 };

let fixture: Fixture;
const cleanups: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  fixture = await makeMeasuredFixture(64);
}, 60_000);
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
afterAll(() => fixture.runtime.close());

interface Scene {
  shaper: Shaper;
  session: Session<Frame>;
  decisions: Decision[];
  /** Films for a while, and gives the shots with the decisions made meanwhile. */
  film(durationMs: number): Promise<{ shots: Shot[]; decisions: Decision[] }>;
}

async function open(options: Pick<ConnectOptions, 'mayRunLocally' | 'maxDeviceBytes'> = {}): Promise<Scene> {
  const receiver = await startReceiver(fixture);
  cleanups.push(() => receiver.stop());
  const port = Number(new URL(receiver.url).port);
  const shaper = await createShaper({ target: { host: '127.0.0.1', port }, uplink: fast });
  cleanups.push(() => shaper.close());
  const session = await connect(`ws://127.0.0.1:${shaper.port}`, {
    model: 'two-heads',
    runtime: fixture.runtime,
    cache: createMemoryCache(),
    target: { deadlineMs: camera.deadlineMs },
    ...options,
  });
  cleanups.push(() => session.close());
  const decisions: Decision[] = [];
  session.on('decision', ({ decision }) => decisions.push(decision));
  return {
    shaper,
    session,
    decisions,
    async film(durationMs) {
      const before = decisions.length;
      const shots = await film(session, fixture.frame, { ...camera, durationMs });
      return { shots, decisions: decisions.slice(before) };
    },
  };
}

const answered = (shots: readonly Shot[]): number =>
  shots.filter(({ result }) => result !== undefined).length;
const median = (values: number[]): number =>
  values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
const medianBytes = (decisions: readonly Decision[]): number =>
  median(decisions.flatMap(({ predicted }) => (predicted === null ? [] : [predicted.numBytes])));
const medianQuality = (decisions: readonly Decision[]): number =>
  median(decisions.map(({ predicted }) => predicted?.quality ?? 0));

test('frames follow the link: smaller after a drop to a twentieth, none over a dead link, good again after', async () => {
  // The frame itself goes over the link: how large it is follows from the link alone.
  const { shaper, film: shoot } = await open({ maxDeviceBytes: 0 });
  const shots: Shot[] = [];
  const start = await shoot(3_000);
  const wantedQuality = medianQuality(start.decisions.slice(-10)) - 0.01;
  // Ordinarily three seconds are enough; a busy machine may take a multiple.
  const filmUntilGood = async (): Promise<boolean> => {
    for (let second = 0; second < 12; second++) {
      const scene = await shoot(1_000);
      shots.push(...scene.shots);
      if (answered(scene.shots) >= 5 && medianQuality(scene.decisions) > wantedQuality) return true;
    }
    return false;
  };
  shaper.setUplink(slow);
  const drop = await shoot(4_000);
  shaper.setUplink(fast);
  const hasRecovered = await filmUntilGood();
  shaper.setUplink(dead);
  const outage = await shoot(5_000);
  shaper.setUplink(fast);
  const isBack = await filmUntilGood();

  shots.push(...start.shots, ...drop.shots, ...outage.shots);
  expect(shots.every(({ ends }) => ends === 1)).toBe(true);
  const codes = new Set(shots.map(({ code }) => code));
  for (const code of ['no error', 'request/deadline', 'request/skipped', 'request/dropped'])
    codes.delete(code);
  expect([...codes]).toEqual([]);

  expect(answered(start.shots.slice(-10))).toBeGreaterThanOrEqual(5);
  expect(medianBytes(drop.decisions.slice(-20))).toBeLessThan(0.7 * medianBytes(start.decisions.slice(-20)));
  expect({ hasRecovered, isBack }).toEqual({ hasRecovered: true, isBack: true });
  // After a while the link is given up: few frames are still sent, to see whether it is back.
  const late = outage.shots.filter(({ atMs }) => atMs > 3_000);
  expect(answered(late)).toBe(0);
  const skipped = late.filter(({ code }) => code === 'request/skipped');
  expect(skipped.length).toBeGreaterThan(0.7 * late.length);
}, 90_000);

test('a device that holds the whole model answers alone while the link is dead', async () => {
  const { shaper, session, film: shoot } = await open({ mayRunLocally: true });
  await session.prepare({ kind: 'local' });
  await shoot(1_000);
  shaper.setUplink(dead);
  const outage = await shoot(3_000);
  const late = outage.shots.filter(({ atMs }) => atMs > 2_000);
  expect(answered(late)).toBeGreaterThanOrEqual(late.length / 2);
  expect(late.every(({ result }) => result === undefined || result.plan.kind === 'local')).toBe(true);
}, 60_000);

describe('frames that come faster than the device takes them', () => {
  test('give way to newer ones, where there is a deadline', async () => {
    const { session, decisions } = await open({ mayRunLocally: false });
    await session.run(fixture.frame);
    const runs = Array.from({ length: 12 }, () => codeOf(session.run(fixture.frame)));
    const codes = await Promise.all(runs);
    expect(codes.filter((code) => code === 'request/dropped').length).toBeGreaterThanOrEqual(9);
    // The last to come is never the one to go.
    expect(codes.at(-1)).toBe('no error');
    expect(decisions.length).toBe(13 - codes.filter((code) => code === 'request/dropped').length);
  });

  test('wait for their turn, where there is none', async () => {
    const receiver = await startReceiver(fixture);
    cleanups.push(() => receiver.stop());
    const session = await connect(receiver.url, { model: 'two-heads', cache: createMemoryCache() });
    cleanups.push(() => session.close());
    const codes = await Promise.all(Array.from({ length: 12 }, () => codeOf(session.run(fixture.frame))));
    expect(new Set(codes)).toEqual(new Set(['no error']));
  });
});

test('while frames are skipped, the link is looked after', async () => {
  const receiver = await startReceiver(fixture);
  cleanups.push(() => receiver.stop());
  let pings = 0;
  const session = await connect(receiver.url, {
    model: 'two-heads',
    runtime: fixture.runtime,
    cache: createMemoryCache(),
    mayRunLocally: false,
    // Nothing is that quick.
    target: { deadlineMs: 0.001 },
    pingIntervalMs: 3_600_000,
    pingTimeoutMs: 7_200_000,
    webSocket(url) {
      const socket = new WebSocket(url, { perMessageDeflate: false }) as WebSocketLike;
      const send = socket.send.bind(socket);
      socket.send = (message) => {
        if (message[0] === messageKind.control && decodeControl(message).type === 'ping') pings++;
        send(message);
      };
      return socket;
    },
  });
  cleanups.push(() => session.close());
  // The first few come after connecting, whatever happens.
  await expect.poll(() => pings, { timeout: 10_000 }).toBe(3);
  const skip = async (): Promise<number> => {
    expect(await codeOf(session.run(fixture.frame))).toBe('request/skipped');
    return pings;
  };
  await expect.poll(skip, { timeout: 10_000 }).toBeGreaterThanOrEqual(6);
});

describe('a target', () => {
  test.each([
    { minQuality: 2 },
    { maxAccuracyDrop: -1 },
    { deadlineMs: Number.NaN },
    { energy: 'bicycle' as 'phoneLte' },
  ])('%j is refused', async (target) => {
    expect(await codeOf(connect('ws://127.0.0.1:1', { model: 'two-heads', target }))).toBe('usage/invalid');
  });

  test('that leaves no plan is named when a frame asks for one', async () => {
    const receiver = await startReceiver(fixture);
    cleanups.push(() => receiver.stop());
    const session = await connect(receiver.url, {
      model: 'two-heads',
      runtime: fixture.runtime,
      cache: createMemoryCache(),
      mayRunLocally: false,
      maxDeviceBytes: 0,
      target: { neverPixels: true },
    });
    cleanups.push(() => session.close());
    expect(await codeOf(session.run(fixture.frame))).toBe('request/invalid-plan');
  });

  test('that the device computes at least up to a cut is kept', async () => {
    const receiver = await startReceiver(fixture);
    cleanups.push(() => receiver.stop());
    const session = await connect(receiver.url, {
      model: 'two-heads',
      runtime: fixture.runtime,
      cache: createMemoryCache(),
      mayRunLocally: false,
      target: { minCut: 2 },
    });
    cleanups.push(() => session.close());
    const first = await codeOf(session.run(fixture.frame));
    expect(['no error', 'request/skipped']).toContain(first);
    await expect.poll(async () => codeOf(session.run(fixture.frame)), { timeout: 10_000 }).toBe('no error');
    const { plan } = await session.run(fixture.frame);
    expect(plan.kind === 'split' && plan.from >= 2).toBe(true);
  });
});
