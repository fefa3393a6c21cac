import { connect, createMemoryCache, type Decision } from '@isthmus/device';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { film, type Shot } from '../support/camera.js';
import { type Fixture, writeFixture } from '../support/fixture.js';
import { makeMeasuredFixture } from '../support/measured.js';
import { openNamespace } from '../support/namespace.js';
import { type ReceiverProcess, serve } from '../support/process.js';

// The kernel's own shaping, with the kernel's TCP over it: a receiver process in a network namespace of its own behind
// a token bucket. Whatever our proxy gets wrong about links, this does not.
const opened = openNamespace();
const namespace = 'missing' in opened ? undefined : opened;
const why = 'missing' in opened ? ` (skipped: ${opened.missing})` : '';
if (why !== '') console.info(`kernel-shaped${why}`);

const [fastBps, slowBps] = [10e6, 0.4e6];
const camera = { intervalMs: 100, deadlineMs: 200 };
let fixture: Fixture;
let receiver: ReceiverProcess | undefined;
let removeFolder: (() => Promise<void>) | undefined;

beforeAll(async () => {
  if (namespace === undefined) return;
  fixture = await makeMeasuredFixture(64);
  const { folder, remove } = await writeFixture(fixture.files);
  removeFolder = remove;
  receiver = await serve([folder, '--port', '0', '--host', namespace.address], namespace.prefix);
}, 60_000);

afterAll(async () => {
  await receiver?.kill();
  namespace?.remove();
  await removeFolder?.();
  await fixture?.runtime.close();
});

const numAnswered = (shots: readonly Shot[]): number =>
  shots.filter(({ result }) => result !== undefined).length;
// Over all frames: of one that is skipped nothing is sent.
const meanOf = (decisions: readonly Decision[], name: 'numBytes' | 'quality'): number =>
  decisions.reduce((sum, { predicted }) => sum + (predicted?.[name] ?? 0), 0) / Math.max(1, decisions.length);

test.skipIf(namespace === undefined)(
  `frames follow a link that the kernel shapes, and come back after the cable was out${why}`,
  async () => {
    if (namespace === undefined || receiver === undefined) throw new Error('There is no receiver.');
    const { setRate, setPlugged, address } = namespace;
    setRate(fastBps);
    const session = await connect(`ws://${address}:${receiver.port}`, {
      model: 'two-heads',
      runtime: fixture.runtime,
      cache: createMemoryCache(),
      // The frame itself goes over the link: how large it is follows from the link alone.
      maxDeviceBytes: 0,
      target: { deadlineMs: camera.deadlineMs },
    });
    try {
      let decisions: Decision[] = [];
      session.on('decision', ({ decision }) => decisions.push(decision));
      const shoot = async (durationMs: number): Promise<{ shots: Shot[]; decided: Decision[] }> => {
        decisions = [];
        const shots = await film(session, fixture.frame, { ...camera, durationMs });
        return { shots, decided: decisions };
      };
      const fast = await shoot(4_000);
      setRate(slowBps);
      const slow = await shoot(5_000);
      setRate(fastBps);
      setPlugged(false);
      const unplugged = await shoot(3_000);
      setPlugged(true);
      // TCP waits twice as long before each attempt: after three seconds without a cable for up to four more.
      const back = await shoot(9_000);

      const all = [fast, slow, unplugged, back].flatMap(({ shots }) => shots);
      expect(all.every(({ ends }) => ends === 1)).toBe(true);
      const expected = ['no error', 'request/deadline', 'request/skipped', 'request/dropped'];
      expect(all.map(({ code }) => code).filter((code) => !expected.includes(code))).toEqual([]);
      expect(numAnswered(fast.shots.slice(-10))).toBeGreaterThanOrEqual(5);
      // No more is sent than the link carries, and over a better one what is sent is better.
      const carriedBytes = (slowBps / 8000) * camera.intervalMs;
      expect(meanOf(slow.decided.slice(-30), 'numBytes')).toBeLessThan(1.2 * carriedBytes);
      expect(meanOf(fast.decided.slice(-20), 'quality')).toBeGreaterThan(
        meanOf(slow.decided.slice(-30), 'quality'),
      );
      // What arrives late is no answer: over a slow link some frames still must.
      expect(numAnswered(slow.shots.slice(-30))).toBeGreaterThanOrEqual(5);
      expect(numAnswered(unplugged.shots.slice(-15))).toBe(0);
      expect(numAnswered(back.shots.slice(-10))).toBeGreaterThanOrEqual(5);
    } finally {
      await session.close();
    }
  },
  90_000,
);
