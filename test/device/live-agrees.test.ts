import { requestHeaderBytes, systemClock } from '@isthmus/core';
import { connect, createMemoryCache, type Frame, type Plan, type Session } from '@isthmus/device';
import { createLinkTrace, createShaper, type FrameSet, followTrace, replay } from 'isthmus';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { film } from '../support/camera.js';
import type { Fixture } from '../support/fixture.js';
import { makeMeasuredFixture } from '../support/measured.js';
import { startReceiver } from '../support/restartable.js';

// The same seconds through sockets and in simulation. Frames are small and the deadline is long, so that it is the link
// that decides what is in time, not what else the machine does, and no rate is near what the smallest frames need, where
// a run may end either way. npm run bench -- link-sockets compares closely.
const deadlineMs = 500;
const intervalMs = 100;
const trace = createLinkTrace({
  name: 'drop and outage',
  kind: 'test',
  delayMs: 20,
  segments: [
    { durationMs: 3_000, rateBps: 4e6 },
    { durationMs: 3_000, rateBps: 0.6e6 },
    { durationMs: 3_000, rateBps: 0 },
    { durationMs: 4_000, rateBps: 4e6 },
  ],
});

let fixture: Fixture;
const cleanups: (() => Promise<unknown>)[] = [];
beforeAll(async () => {
  fixture = await makeMeasuredFixture(64);
}, 60_000);
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
afterAll(() => fixture.runtime.close());

/** What the frame takes with every plan. */
async function measureFrame(session: Session<Frame>): Promise<FrameSet> {
  const trials: FrameSet['trials'] = [];
  for (const { id, paths, levels } of session.manifest.codecs) {
    for (const { from, to } of paths) {
      for (const level of levels.keys()) {
        const plan: Plan = { kind: 'split', codec: id, from, to, level };
        const { bytes } = await session.run(fixture.frame, { plan });
        const numBytes = [requestHeaderBytes + bytes.payload];
        trials.push({ codec: id, from, to, level, numBytes, agreement: [1] });
      }
    }
  }
  return { model: session.manifest.model, names: ['frame'], trials };
}

test('as many frames are in time through sockets as in simulation', async () => {
  const receiver = await startReceiver(fixture);
  cleanups.push(() => receiver.stop());
  const shaper = await createShaper({
    target: { host: '127.0.0.1', port: Number(new URL(receiver.url).port) },
    uplink: { rateBps: Infinity, delayMs: trace.delayMs },
  });
  cleanups.push(() => shaper.close());
  const options = { model: 'two-heads', runtime: fixture.runtime, mayRunLocally: false };
  const direct = await connect(receiver.url, { ...options, cache: createMemoryCache() });
  cleanups.push(() => direct.close());
  const frameSet = await measureFrame(direct);
  const session = await connect(`ws://127.0.0.1:${shaper.port}`, {
    ...{ ...options, cache: createMemoryCache(), target: { deadlineMs } },
  });
  cleanups.push(() => session.close());
  const decidedMs: number[] = [];
  session.on('decision', ({ frame }) => {
    decidedMs[frame] = performance.now();
  });
  // The first pings.
  await new Promise((resolve) => setTimeout(resolve, 300));
  followTrace(shaper, trace, systemClock);
  const beginMs = performance.now();
  const shots = await film(session, fixture.frame, { intervalMs, durationMs: trace.durationMs, deadlineMs });

  const answered = shots.flatMap(({ result }, frame) => (result === undefined ? [] : [{ ...result, frame }]));
  const begun = shots.flatMap(({ atMs }, frame) => {
    const value = (decidedMs[frame] ?? Number.NaN) - beginMs - atMs;
    return Number.isNaN(value) ? [] : [{ frame, value: Math.max(0, value) }];
  });
  const { metrics } = replay({
    ...{ manifest: session.manifest, frameSet, trace, deadlineMs, answered, begun },
    ...{ framesPerSecond: 1000 / intervalMs, durationMs: trace.durationMs, seed: 1 },
    constraints: { mayRunLocally: false },
    windowBytes: 4_194_304,
  });
  const hitRate = answered.length / shots.length;
  console.info(`live-agrees: sockets ${hitRate.toFixed(3)}, simulation ${metrics.hitRate.toFixed(3)}`);
  expect(metrics.frames).toBe(shots.length);
  // Neither everything nor nothing: the link matters.
  expect(metrics.hitRate).toBeGreaterThan(0.4);
  expect(metrics.hitRate).toBeLessThan(0.9);
  expect(Math.abs(metrics.hitRate - hitRate)).toBeLessThan(0.15);
}, 60_000);
