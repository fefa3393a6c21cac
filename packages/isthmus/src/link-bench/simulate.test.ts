import type { Plan } from '@isthmus/planner';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { controllerPolicy } from './controller-policy.js';
import { fixedPolicy, scheduledPolicy } from './fixed-policies.js';
import type { Policy, PolicyFactory } from './policy.js';
import { createRandom } from './random.js';
import { rateOnly, splitOnly, throughputRule } from './rate-policies.js';
import { createScenario } from './scenario.js';
import { simulate } from './simulate.js';
import { createStepTrace, createSyntheticTrace } from './synthetic-trace.js';
import { constantTrace, quietScenario, smallWorkload } from './testing/small-bundle.js';

const plan = (from: number, codec: string, level: number): Plan => ({
  kind: 'split',
  from,
  codec,
  level,
  to: from,
});

/** A policy that writes down what it is told, and when. */
function recorded(schedule: readonly Plan[]): { factory: PolicyFactory; log: [string, number, object][] } {
  const log: [string, number, object][] = [];
  const factory: PolicyFactory = (setting) => {
    const write =
      (name: string) =>
      (told: object): void => {
        log.push([name, setting.clock.now(), told]);
      };
    const policy: Policy = {
      ...scheduledPolicy('recorded', schedule)(setting),
      ran: write('ran'),
      encoded: write('encoded'),
      sent: write('sent'),
      arrived: write('arrived'),
      answered: write('answered'),
      abandoned: write('abandoned'),
    };
    return policy;
  };
  return { factory, log };
}

test('a frame takes what its stages take, and a policy learns of each when the device does', () => {
  // 5000 bytes and a header of 20, a chunk's of 12, at 100 bytes a millisecond: 50.32 ms.
  const chosen = plan(1, 'quantized', 0);
  const { factory, log } = recorded([chosen, chosen]);
  const { frames } = simulate(
    quietScenario({ trace: constantTrace(100), deadlineMs: 150, intervalMs: 200 }),
    factory,
  );
  // 10 + 2 on the device, 50.32 on the link, 10 there, 2 + 30 in the cloud, 10 back.
  for (const frame of frames) {
    expect(frame).toMatchObject({ state: 'answered', wireBytes: 5032 });
    expect(frame.latencyMs).toBeCloseTo(114.32, 9);
  }
  const first = log.slice(0, 5).map(([name, atMs]) => [name, Math.round(100 * atMs) / 100]);
  expect(first).toEqual([
    ['ran', 12],
    ['encoded', 12],
    ['sent', 12],
    ['arrived', 82.32],
    ['answered', 114.32],
  ]);
  expect(log[0]![2]).toEqual({ to: 1, durationMs: 10 });
  expect(log[2]![2]).toEqual({ id: 0, numBytes: 5032 });
  expect(log[4]![2]).toMatchObject({ plan: chosen, queueMs: 0, decodeMs: 2, runMs: 30 });
});

test('a slow link makes the second frame wait for the first', () => {
  const { frames } = simulate(
    quietScenario({ trace: constantTrace(50), deadlineMs: 500, intervalMs: 50 }),
    scheduledPolicy('both', [plan(1, 'quantized', 0), plan(1, 'quantized', 0)]),
  );
  const sendMs = 5032 / 50;
  expect(frames[0]!.latencyMs).toBeCloseTo(12 + sendMs + 10 + 32 + 10, 9);
  expect(frames[1]!.latencyMs).toBeCloseTo(12 + 2 * sendMs + 10 + 32 + 10 - 50, 9);
});

test('the receiver handles one packet after the other', () => {
  const workload = smallWorkload({ cloudSlowdown: 10 });
  const { factory, log } = recorded([plan(1, 'quantized', 1), plan(1, 'quantized', 1)]);
  const scenario = quietScenario({ workload, trace: constantTrace(1e6), deadlineMs: 1000, intervalMs: 100 });
  const { frames } = simulate(scenario, factory);
  expect(frames.map(({ latencyMs }) => Math.round(latencyMs))).toEqual([352, 572]);
  const waits = log.filter(([name]) => name === 'answered').map(([, , told]) => told);
  expect(waits).toMatchObject([{ queueMs: 0 }, { queueMs: expect.closeTo(220, 6) }]);
});

test('while the device is busy the newest frame waits, the others are missed', () => {
  const workload = smallWorkload({ deviceSlowdown: 10 });
  const scenario = quietScenario({
    workload,
    trace: constantTrace(1e6),
    deadlineMs: 1000,
    intervalMs: 100,
    numFrames: 10,
  });
  const { frames } = simulate(scenario, fixedPolicy({ kind: 'local' }));
  // 400 ms each: frames 0, 4 and 8, which begin at once, and 9, which waits for 8.
  expect(frames.map(({ state }) => state === 'answered')).toEqual([
    true,
    false,
    false,
    false,
    true,
    false,
    false,
    false,
    true,
    true,
  ]);
  expect(frames[9]!.latencyMs).toBe(700);
  expect(frames[1]!.state).toBe('missed');
  expect(frames[8]).toMatchObject({ latencyMs: 400, wireBytes: 0 });
  expect(frames[8]!.joules).toBeCloseTo(0.8, 9);
});

test('an answer just at the deadline is in time, a little later it is late, and the rest of the packet is dropped', () => {
  const scenario = (deadlineMs: number) =>
    quietScenario({ trace: constantTrace(100), numFrames: 1, deadlineMs });
  const run = (deadlineMs: number, chosen: Plan) => {
    const { factory, log } = recorded([chosen]);
    const [frame] = simulate(scenario(deadlineMs), factory).frames;
    return { frame, abandoned: log.filter(([name]) => name === 'abandoned') };
  };
  const local: Plan = { kind: 'local' };
  expect(run(40, local).frame).toMatchObject({ state: 'answered', latencyMs: 40 });
  expect(run(39.9, local).frame).toMatchObject({ state: 'late', latencyMs: Number.NaN });
  // 80 020 bytes from 1 ms on: at 100 ms 9900 are through, and chunks up to 81 920 in the socket.
  expect(run(100, plan(0, 'raw', 0))).toMatchObject({
    frame: { wireBytes: 80_080 },
    abandoned: [['abandoned', 100, { unsentBytes: 0 }]],
  });
  const workload = smallWorkload({ manifest: wide() });
  const { factory, log } = recorded([plan(0, 'raw', 0)]);
  const [frame] = simulate(
    quietScenario({ workload, trace: constantTrace(100), numFrames: 1 }),
    factory,
  ).frames;
  expect(frame).toMatchObject({ state: 'late', wireBytes: 5 * 16_384 });
  expect(log.at(-1)).toMatchObject(['abandoned', 100, { id: 0, unsentBytes: expect.any(Number) }]);
});

function wide() {
  const { manifest } = smallWorkload();
  const [raw, ...others] = manifest.codecs;
  const measured = raw!.measured!.map((levels) =>
    levels.map((level) => ({ ...level, numBytes: 10 * level.numBytes })),
  );
  return { ...manifest, codecs: [{ ...raw!, measured }, ...others] };
}

test('a policy that loads its spans has them when they are there, not before', () => {
  const ready: [number, number][] = [];
  const factory: PolicyFactory = ({ clock }) => ({
    name: 'loads',
    spans: { spanReady: (cut) => ready.push([cut, clock.now()]), spanDropped: () => {} },
    decide: ({ index }) => ({ plan: { kind: 'skip' }, prepare: index === 0 ? 2 : index === 1 ? 1 : null }),
  });
  simulate(quietScenario({ trace: constantTrace(100), numFrames: 10 }), factory);
  // Two files of 250 kB: 200 ms and a round trip of 20, 5 ms to load; then only 2.5 ms to load what is there.
  expect(ready.map(([cut, atMs]) => [cut, Math.round(10 * atMs) / 10])).toEqual([
    [2, 225],
    [1, 227.5],
  ]);
  const hasty: PolicyFactory = (setting) => ({
    ...factory(setting),
    decide: () => ({ plan: plan(1, 'raw', 0) }),
  });
  expect(() => simulate(quietScenario({ trace: constantTrace(100) }), hasty)).toThrow(/not there/);
});

const policies: PolicyFactory[] = [
  controllerPolicy(),
  throughputRule,
  splitOnly,
  rateOnly(1),
  fixedPolicy(plan(1, 'quantized', 0)),
];

test('is the same for the same seed', () => {
  const workload = smallWorkload();
  const run = (seed: number, policy: PolicyFactory) => {
    const trace = createSyntheticTrace('lte', { durationMs: 20_000, random: createRandom(seed) });
    return simulate(createScenario({ workload, trace, deadlineMs: 120, framesPerSecond: 10, seed }), policy);
  };
  for (const policy of policies) {
    expect(run(1, policy)).toEqual(run(1, policy));
    expect(run(1, policy)).not.toEqual(run(2, policy));
  }
});

test('no policy gets more through than the link carries, and every frame ends', () => {
  const options = fc.record({
    seed: fc.integer(),
    deadlineMs: fc.integer({ min: 20, max: 500 }),
    framesPerSecond: fc.integer({ min: 1, max: 30 }),
    policy: fc.constantFrom(...policies),
  });
  fc.assert(
    fc.property(options, ({ policy, ...more }) => {
      // Long enough to carry something: an outage may take all of the first seconds.
      const trace = createSyntheticTrace('3g', { durationMs: 120_000, random: createRandom(more.seed) });
      const scenario = createScenario({ workload: smallWorkload(), trace, durationMs: 15_000, ...more });
      const { frames, deliveredBytes } = simulate(scenario, policy);
      expect(deliveredBytes).toBeLessThan(trace.bytesBetween(0, 15_000 + more.deadlineMs) + 1);
      expect(frames).toHaveLength(scenario.numFrames);
      for (const { state, latencyMs, wireBytes, joules } of frames) {
        expect(wireBytes).toBeGreaterThanOrEqual(0);
        expect(joules).toBeGreaterThanOrEqual(0);
        if (state === 'answered') expect(latencyMs).toBeLessThanOrEqual(more.deadlineMs);
        else expect(latencyMs).toBeNaN();
      }
    }),
    { numRuns: 60 },
  );
});

test('simple rules go down when the link does, and come back', () => {
  const trace = createStepTrace();
  const scenario = createScenario({
    workload: smallWorkload(),
    trace,
    deadlineMs: 150,
    framesPerSecond: 10,
    seed: 1,
  });
  const { frames } = simulate(scenario, rateOnly(1));
  const levels = (fromMs: number, toMs: number) =>
    frames
      .slice(fromMs / 100, toMs / 100)
      .filter(({ state }) => state === 'answered')
      .map(({ option }) => scenario.workload.options[option]!.quality);
  expect(Math.min(...levels(5_000, 19_000))).toBe(1);
  expect(Math.max(...levels(22_000, 29_000))).toBe(0.6);
  expect(levels(41_000, 44_500)).toEqual([]);
  expect(Math.max(...levels(55_000, 60_000))).toBe(1);
});

test('frames wait until they are read, and packets for the way into the receiver', () => {
  const { factory, log } = recorded([plan(1, 'quantized', 0)]);
  const scenario = quietScenario({
    ...{ trace: constantTrace(100), deadlineMs: 200, numFrames: 1 },
    ...{ prepareMs: Float64Array.of(7), cloudWaitMs: Float64Array.of(3) },
  });
  const [frame] = simulate(scenario, factory).frames;
  expect(frame!.latencyMs).toBeCloseTo(114.32 + 7 + 3, 9);
  expect(log.at(-1)).toMatchObject(['answered', frame!.latencyMs, { queueMs: 3 }]);
});

test('nothing goes on while the device is paused', () => {
  const { factory, log } = recorded([plan(1, 'quantized', 0)]);
  // In the middle of encoding, and when the answer comes to the link back.
  const pauses = [
    { fromMs: 11, toMs: 15 },
    { fromMs: 100, toMs: 140 },
  ];
  const scenario = quietScenario({ trace: constantTrace(100), deadlineMs: 200, numFrames: 1, pauses });
  expect(simulate(scenario, factory).frames).toMatchObject([{ state: 'answered', latencyMs: 150 }]);
  const times = log.map(([name, atMs]) => [name, Math.round(100 * atMs) / 100]);
  expect(times).toEqual([
    ['ran', 15],
    ['encoded', 15],
    ['sent', 15],
    ['arrived', 85.32],
    ['answered', 150],
  ]);
});

test('what the socket holds goes through in vain', () => {
  const run = (windowBytes: number) => {
    const workload = smallWorkload({ manifest: wide() });
    const scenario = quietScenario({ workload, trace: constantTrace(100), numFrames: 1, windowBytes });
    return simulate(scenario, scheduledPolicy('large', [plan(0, 'raw', 0)])).frames[0]!.wireBytes;
  };
  expect(run(16_384)).toBeLessThan(run(65_536));
  // All of 800 kB is in the buffers of the kernel.
  expect(run(4_194_304)).toBeGreaterThan(800_000);
});

test('the link is pinged as often as the policy wants it', () => {
  const roundTripsOf = (isOverdue: boolean): number[] => {
    const roundTrips: number[] = [];
    const factory: PolicyFactory = () => ({
      name: 'skips',
      isOverdue: () => isOverdue,
      roundTrip: (durationMs) => roundTrips.push(Math.round(durationMs)),
      decide: ({ index }) => ({ plan: index === 0 ? plan(1, 'quantized', 1) : { kind: 'skip' } }),
    });
    simulate(quietScenario({ trace: constantTrace(100), numFrames: 60 }), factory);
    return roundTrips;
  };
  // Connecting has told the round trip; then one in five seconds, or one every quarter of a second.
  expect(roundTripsOf(false)).toEqual([20, 20, 20, 20]);
  expect(roundTripsOf(true).length).toBeGreaterThan(20);
});
