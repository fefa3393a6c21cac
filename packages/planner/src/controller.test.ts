import { createManualClock, type ManualClock } from '@isthmus/core';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type Constraints,
  type Controller,
  type ControllerOptions,
  createController,
  type Decision,
  deviceBytes,
  type Objective,
} from './index.js';
import { smallManifest as manifest } from './testing/manifest.js';

/** A camera at ten frames a second, a device, a link of some rate and a receiver, as exact as the bundle's profile. */
function createWorld(options: Partial<ControllerOptions> & { slowdown?: number } = {}) {
  const clock: ManualClock = createManualClock();
  const { slowdown = 1 } = options;
  const controller: Controller = createController({ manifest, clock, deviceSlowdown: slowdown, ...options });
  const roundTripMs = 20;
  let freeMs = 0;
  let id = 0;
  controller.roundTrip(roundTripMs);
  const world = {
    clock,
    controller,
    rate: 1_000_000,
    freeMs: () => freeMs,
    decisions: [] as Decision[],
    latenciesMs: [] as number[],
    frame(intervalMs = 100): Decision {
      const startMs = clock.now();
      const decision = controller.decide();
      world.decisions.push(decision);
      const { plan, predicted } = decision;
      if (decision.prepare !== null) controller.spanReady(decision.prepare);
      for (const cut of decision.evict) controller.spanDropped(cut);
      if (plan.kind === 'split' && predicted !== null) {
        const deviceMs = slowdown * [0, 10, 30, 60][plan.from]!;
        clock.advance(deviceMs + slowdown);
        controller.ran({ to: plan.from, durationMs: deviceMs });
        controller.encoded({ ...plan, durationMs: slowdown, numBytes: predicted.numBytes - 32 });
        const own = ++id;
        controller.sent({ id: own, numBytes: predicted.numBytes });
        freeMs = Math.max(freeMs, clock.now()) + (1000 * predicted.numBytes) / world.rate;
        const lastMs = freeMs;
        clock.after(lastMs + roundTripMs - clock.now(), () => {
          controller.arrived({ id: own, numBytes: predicted.numBytes, firstMs: lastMs, lastMs });
          controller.answered({ plan, queueMs: 0, decodeMs: 1, runMs: 60 - [0, 10, 30, 60][plan.from]! });
          world.latenciesMs.push(clock.now() + 1 + 60 - [0, 10, 30, 60][plan.from]! - startMs);
        });
      }
      clock.advance(Math.max(0, startMs + intervalMs - clock.now()));
      return decision;
    },
    run(numFrames: number): Decision[] {
      return Array.from({ length: numFrames }, () => world.frame());
    },
  };
  return world;
}

const cutOf = ({ plan }: Decision): number | string => (plan.kind === 'split' ? plan.from : plan.kind);

test('sends more, and better, over a faster link', () => {
  const qualities = [3_000, 60_000, 20_000_000].map((rate) => {
    const world = createWorld({ constraints: { deadlineMs: 250 } });
    world.rate = rate;
    return world.run(40).at(-1)?.predicted?.quality ?? 0;
  });
  expect(qualities[1]).toBeGreaterThan(qualities[0]!);
  expect(qualities[2]).toBeGreaterThan(qualities[1]!);
});

test('chooses a later cut for a slow link, fetching its span first', () => {
  const world = createWorld({ constraints: { deadlineMs: 200 } });
  world.rate = 60_000;
  const first = world.frame();
  expect(cutOf(first)).toBe(0);
  const decisions = world.run(40);
  expect(decisions.some(({ prepare }) => prepare === 2)).toBe(true);
  expect(cutOf(decisions.at(-1)!)).toBe(2);
  expect(decisions.at(-1)?.reason).toMatch(/quality 0\.99.*link steady/);
});

test('never sends at all what is faster on the device', () => {
  const world = createWorld({ constraints: { deadlineMs: 100, mayRunLocally: true }, slowdown: 0.5 });
  world.rate = 10_000;
  world.run(10);
  expect(new Set(world.run(60).map(cutOf))).toEqual(new Set(['local']));
});

test('after a drop to a twentieth at most two frames are late, and quality comes back within three seconds', () => {
  const world = createWorld({ constraints: { deadlineMs: 150 } });
  world.rate = 2_000_000;
  const before = world.run(30).at(-1)!;
  world.rate = 100_000;
  world.latenciesMs.length = 0;
  world.run(40);
  expect(world.latenciesMs.filter((durationMs) => durationMs > 150).length).toBeLessThanOrEqual(2);
  world.rate = 2_000_000;
  const after = world.run(30).at(-1)!;
  expect(after.predicted?.quality).toBeGreaterThan(0.98 * (before.predicted?.quality ?? 1));
});

test('skips frames over a dead link, or answers them on the device, and goes on when it is back', () => {
  for (const mayRunLocally of [false, true]) {
    const world = createWorld({ constraints: { deadlineMs: 150, mayRunLocally }, slowdown: 2 });
    world.run(20);
    world.controller.linkState(false);
    const decision = world.frame();
    expect(cutOf(decision)).toBe(
      mayRunLocally && world.decisions.some((d) => d.prepare === 3) ? 'local' : 'skip',
    );
    expect(decision.reason).toMatch(/dead|on the device/);
    world.controller.linkState(true);
    expect(cutOf(world.run(5).at(-1)!)).not.toBe('skip');
  }
});

test('finds a link again that comes back from an outage as good as it was', () => {
  const world = createWorld({ constraints: { deadlineMs: 150 } });
  world.rate = 2_000_000;
  const before = world.run(30).at(-1)!;
  // What is on the way when the link dies comes through at the end, seconds late.
  world.rate = 300;
  world.run(3);
  world.rate = 2_000_000;
  const outage = world.run(100).map(cutOf);
  expect(outage.filter((cut) => cut === 'skip').length).toBeGreaterThan(50);
  world.clock.advance(Math.max(0, world.freeMs() - world.clock.now()) + 100);
  const after = world.run(30).at(-1)!;
  expect(after.predicted?.quality).toBeGreaterThan(0.98 * (before.predicted?.quality ?? 1));
});

test('does not oscillate on a constant link', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 5_000, max: 5_000_000 }),
      fc.integer({ min: 60, max: 500 }),
      fc.double({ min: 0.2, max: 5, noNaN: true }),
      (rate, deadlineMs, slowdown) => {
        const world = createWorld({ constraints: { deadlineMs, mayRunLocally: true }, slowdown });
        world.rate = rate;
        world.run(50);
        // Frames that are sent to see what the link carries are no change of mind.
        const decisions = world.run(100).filter(({ reason }) => !reason.startsWith('to see'));
        const cuts = decisions.map(cutOf);
        const switches = cuts.filter((cut, i) => i > 0 && cut !== cuts[i - 1]).length;
        expect(switches).toBeLessThanOrEqual(10);
      },
    ),
    { numRuns: 60 },
  );
});

const constraints: fc.Arbitrary<Constraints> = fc.record(
  {
    deadlineMs: fc.integer({ min: 1, max: 1000 }),
    minQuality: fc.double({ min: 0, max: 1, noNaN: true }),
    maxDeviceBytes: fc.integer({ min: 0, max: 4_000_000 }),
    maxPacketBytes: fc.integer({ min: 2_000, max: 1_000_000 }),
    maxBytesPerHour: fc.integer({ min: 100_000, max: 100_000_000 }),
    neverPixels: fc.boolean(),
    minCut: fc.integer({ min: 0, max: 2 }),
    maxDeviceCut: fc.integer({ min: 0, max: 3 }),
    mayRunLocally: fc.boolean(),
  },
  { requiredKeys: [] },
);

const objective: fc.Arbitrary<Objective> = fc.oneof(
  fc.constantFrom<Objective>({ kind: 'quality' }, { kind: 'latency' }, { kind: 'energy' }, { kind: 'bytes' }),
  fc.constant<Objective>({
    kind: 'utility',
    weights: { quality: 1, perSecond: 0.5, perJoule: 0.1, perMegabyte: 1 },
  }),
);

test('never takes a plan outside the constraints', () => {
  fc.assert(
    fc.property(
      constraints,
      objective,
      fc.array(fc.integer({ min: 1_000, max: 5_000_000 }), { maxLength: 8 }),
      (given, wanted, rates) => {
        let world: ReturnType<typeof createWorld>;
        try {
          world = createWorld({ constraints: given, objective: wanted });
        } catch (error) {
          expect(error).toMatchObject({ code: 'request/invalid-plan' });
          return;
        }
        const held = new Set([0]);
        let sentBytes = 0;
        for (const rate of rates) {
          world.rate = rate;
          for (let i = 0; i < 6; i++) {
            const { plan, predicted, isFeasible, prepare, evict } = world.frame();
            for (const cut of evict) held.delete(cut);
            const cut = plan.kind === 'split' ? plan.from : plan.kind === 'local' ? 3 : 0;
            expect(held.has(cut)).toBe(true);
            if (prepare !== null) held.add(prepare);
            const heldBytes = [...held].reduce((sum, one) => sum + deviceBytes(manifest, one), 0);
            expect(heldBytes).toBeLessThanOrEqual(given.maxDeviceBytes ?? Infinity);
            if (plan.kind === 'skip' || predicted === null) continue;
            sentBytes += predicted.numBytes;
            expect(sentBytes).toBeLessThanOrEqual(
              ((given.maxBytesPerHour ?? Infinity) * (60_000 + world.clock.now())) / 3_600_000 + 1e-6,
            );
            expect(predicted.numBytes).toBeLessThanOrEqual((given.maxPacketBytes ?? Infinity) + 1000);
            expect(cut).toBeLessThanOrEqual(given.maxDeviceCut ?? 3);
            if (plan.kind === 'local') expect(given.mayRunLocally).toBe(true);
            else
              expect(plan.from).toBeGreaterThanOrEqual(
                Math.max(given.minCut ?? 0, given.neverPixels === true ? 1 : 0),
              );
            if (isFeasible) expect(predicted.quality).toBeGreaterThanOrEqual(given.minQuality ?? 0);
          }
        }
      },
    ),
    { numRuns: 200 },
  );
});

test('objectives pull in their directions', () => {
  const after = (wanted: Objective) => {
    const world = createWorld({
      objective: wanted,
      constraints: { minQuality: 0.9, mayRunLocally: true, deadlineMs: 400 },
      slowdown: 3,
    });
    world.rate = 300_000;
    return world.run(60).at(-1)!;
  };
  const [quality, latency, energy, bytes] = (['quality', 'latency', 'energy', 'bytes'] as const).map((kind) =>
    after({ kind }),
  );
  expect(latency?.predicted?.totalMs).toBeLessThanOrEqual(quality?.predicted?.totalMs ?? 0);
  expect(energy?.predicted?.joules).toBeLessThanOrEqual(quality?.predicted?.joules ?? 0);
  expect(bytes?.predicted?.numBytes).toBe(0);
  expect(quality?.predicted?.quality).toBeGreaterThanOrEqual(latency?.predicted?.quality ?? 1);
});

test('says so when nothing is feasible, and takes the least bad', () => {
  const world = createWorld({ constraints: { deadlineMs: 200, deadlineProbability: 0.5, minQuality: 0.95 } });
  world.rate = 3_000;
  const decision = world.run(30).at(-1)!;
  expect(decision.isFeasible).toBe(false);
});

test('every candidate is there to be looked at, best first', () => {
  const world = createWorld({ constraints: { deadlineMs: 150, mayRunLocally: true } });
  const candidates = world.run(3).at(-1)!.candidates();
  expect(candidates.length).toBeGreaterThan(8);
  const utilities = candidates.map(({ utility }) => utility);
  expect(utilities).toEqual([...utilities].sort((a, b) => b - a));
});

test('a scene that takes more bytes than usual is expected to go on doing so', () => {
  const world = createWorld({ constraints: { deadlineMs: 150 } });
  const before = world.run(5).at(-1)!.candidates();
  for (let i = 0; i < 30; i++) {
    world.controller.encoded({
      codec: 'features-1',
      from: 1,
      to: 1,
      level: 1,
      durationMs: 1,
      numBytes: 20_000,
    });
  }
  const after = world.controller.decide().candidates();
  const bytesOf = (all: typeof before, codec: string) =>
    all.find(({ plan }) => plan.kind === 'split' && plan.codec === codec && plan.level === 0)?.numBytes ?? 0;
  expect(bytesOf(after, 'features-1')).toBeGreaterThan(1.6 * bytesOf(before, 'features-1'));
  expect(bytesOf(after, 'raw-0')).toBe(bytesOf(before, 'raw-0'));
});

test('a throttled device shows within a few frames', () => {
  const world = createWorld({ constraints: { deadlineMs: 150 } });
  world.rate = 200_000;
  world.run(20);
  for (let i = 0; i < 4; i++) world.controller.ran({ to: 1, durationMs: 60 });
  const local = world.controller
    .decide()
    .candidates()
    .find(({ plan }) => plan.kind === 'split' && plan.from === 2);
  expect(local?.deviceMs).toBeGreaterThan(100);
});
