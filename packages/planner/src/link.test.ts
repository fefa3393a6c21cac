import { createManualClock } from '@isthmus/core';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLinkEstimator, defaultLinkTuning, type LinkEstimator } from './index.js';

const chunk = 16_384;

/** A first-in first-out pipe of some rate and delay, with an estimator at its near end. */
function createPipe(roundTripMs = 20) {
  const clock = createManualClock();
  const link: LinkEstimator = createLinkEstimator({ clock });
  let freeMs = 0;
  let id = 0;
  return {
    link,
    clock,
    wait: (durationMs: number) => clock.advance(durationMs),
    /** Sends and does not wait. */
    put(numBytes: number, bytesPerSecond: number) {
      const own = ++id;
      link.sent({ id: own, numBytes });
      const startMs = Math.max(freeMs, clock.now());
      freeMs = startMs + (1000 * numBytes) / bytesPerSecond;
      const firstMs = startMs + (1000 * Math.min(numBytes, chunk)) / bytesPerSecond;
      const lastMs = freeMs;
      clock.after(lastMs + roundTripMs - clock.now(), () =>
        link.arrived({ id: own, numBytes, firstMs, lastMs }),
      );
      return own;
    },
    /** Sends, and waits for the acknowledgement. */
    send(numBytes: number, bytesPerSecond: number, waitMs = 100) {
      this.put(numBytes, bytesPerSecond);
      clock.advance(Math.max(waitMs, freeMs + roundTripMs - clock.now() + 0.001));
    },
  };
}

test('knows nothing before it has seen anything', () => {
  expect(createPipe().link.estimate()).toMatchObject({
    phase: 'start-up',
    bytesPerSecond: null,
    roundTripMs: null,
    queuedBytes: 0,
  });
});

test.each([200, 2_000, 20_000, 200_000, 2_000_000])(
  'measures a link with packets of %i bytes',
  (numBytes) => {
    const pipe = createPipe();
    pipe.link.roundTrip(20);
    // Slow enough for the smallest to be told from noise.
    const bytesPerSecond = Math.max(20_000, numBytes * 5);
    for (let i = 0; i < 20; i++) pipe.send(numBytes, bytesPerSecond, 300);
    const { bytesPerSecond: found, phase } = pipe.link.estimate();
    expect(phase).toBe('steady');
    expect(found).toBeGreaterThan(0.9 * bytesPerSecond);
    expect(found).toBeLessThan(1.1 * bytesPerSecond);
  },
);

test('takes a packet that is through at once for what the link can do at least', () => {
  const pipe = createPipe();
  pipe.link.roundTrip(20);
  for (let i = 0; i < 5; i++) pipe.send(500_000, 2_000_000, 400);
  for (let i = 0; i < 100; i++) pipe.send(300, 2_000_000, 100);
  expect(pipe.link.estimate().bytesPerSecond).toBeGreaterThan(1_500_000);
});

test('goes down quickly, up when it lasts, and finds a step up within two seconds', () => {
  const pipe = createPipe();
  pipe.link.roundTrip(20);
  for (let i = 0; i < 50; i++) pipe.send(100_000, 4_000_000);
  for (let i = 0; i < 4; i++) pipe.send(20_000, 200_000);
  expect(pipe.link.estimate().bytesPerSecond).toBeLessThan(500_000);
  pipe.send(20_000, 4_000_000);
  expect(pipe.link.estimate().bytesPerSecond).toBeLessThan(1_500_000);
  for (let i = 0; i < 19; i++) pipe.send(60_000, 4_000_000);
  expect(pipe.link.estimate().bytesPerSecond).toBeGreaterThan(3_000_000);
});

test('believes a collapse before anything has come through, and a death within about a second', () => {
  const pipe = createPipe();
  pipe.link.roundTrip(20);
  for (let i = 0; i < 20; i++) pipe.send(100_000, 2_000_000);
  pipe.put(100_000, 1);
  pipe.wait(220);
  const { phase, bytesPerSecond } = pipe.link.estimate();
  expect(phase).toBe('degrade');
  expect(bytesPerSecond).toBeLessThan(510_000);
  pipe.wait(900);
  expect(pipe.link.estimate().phase).toBe('dead');
});

test('is alive again when a ping is answered', () => {
  const pipe = createPipe();
  pipe.link.roundTrip(20);
  for (let i = 0; i < 20; i++) pipe.send(100_000, 2_000_000);
  pipe.put(100_000, 1);
  pipe.wait(3_000);
  expect(pipe.link.estimate().phase).toBe('dead');
  pipe.link.roundTrip(20);
  expect(pipe.link.estimate().phase).toBe('probe');
  pipe.link.setUp(false);
  expect(pipe.link.estimate().phase).toBe('dead');
  pipe.link.setUp(true);
  expect(pipe.link.estimate().phase).toBe('probe');
});

test('counts what is on the way, and what was taken back', () => {
  const pipe = createPipe();
  pipe.link.roundTrip(20);
  for (let i = 0; i < 20; i++) pipe.send(100_000, 1_000_000, 200);
  const id = pipe.put(100_000, 1_000_000);
  expect(pipe.link.estimate().queuedBytes).toBe(100_000);
  pipe.wait(70);
  expect(pipe.link.estimate().queuedBytes).toBeCloseTo(50_000, -3);
  pipe.link.abandoned({ id, unsentBytes: 100_000 });
  expect(pipe.link.estimate().queuedBytes).toBe(0);
  pipe.link.buffered(7_000);
  expect(pipe.link.estimate().queuedBytes).toBe(7_000);
});

test('is less and less sure of a link that is not used', () => {
  const pipe = createPipe();
  pipe.link.roundTrip(20);
  for (let i = 0; i < 50; i++) pipe.send(100_000, 1_000_000, 200);
  const before = pipe.link.estimate().spread;
  pipe.wait(60_000);
  expect(pipe.link.estimate().spread).toBeGreaterThan(3 * before);
});

test('the round trip is the least of the recent ones', () => {
  const { link } = createPipe();
  link.roundTrip(5);
  link.roundTrip(50);
  expect(link.estimate().roundTripMs).toBe(5);
  for (let i = 0; i < 16; i++) link.roundTrip(40 + i);
  expect(link.estimate().roundTripMs).toBe(40);
});

const packet = fc.record({
  numBytes: fc.integer({ min: 200, max: 2_000_000 }),
  bytesPerSecond: fc.integer({ min: 10_000, max: 5_000_000 }),
  waitMs: fc.integer({ min: 0, max: 20_000 }),
});

test('the estimate lies between the slowest and the fastest packet', () => {
  fc.assert(
    fc.property(fc.array(packet, { minLength: 1, maxLength: 30 }), (packets) => {
      const pipe = createPipe();
      pipe.link.roundTrip(20);
      // One that surely can be told from noise.
      pipe.send(1_000_000, packets[0]?.bytesPerSecond ?? 1);
      for (const { numBytes, bytesPerSecond, waitMs } of packets) pipe.send(numBytes, bytesPerSecond, waitMs);
      const rates = packets.map(({ bytesPerSecond }) => bytesPerSecond);
      const estimate = pipe.link.estimate().bytesPerSecond ?? 0;
      const { noiseMs, maxGrowth } = defaultLinkTuning;
      // Of packets that are through at once only the least that they show is known; more is tried.
      const isGuess = packets.some(
        ({ numBytes, bytesPerSecond }) => 1000 * numBytes <= noiseMs * bytesPerSecond,
      );
      expect(estimate).toBeGreaterThan(0.9 * Math.min(...rates));
      expect(estimate).toBeLessThan(1.1 * (isGuess ? maxGrowth : 1) * Math.max(...rates));
    }),
  );
});

test('a faster link never makes for a lower estimate', () => {
  fc.assert(
    fc.property(
      // Large enough to be told from noise.
      fc.array(fc.integer({ min: 20_000, max: 500_000 }), { minLength: 1, maxLength: 20 }),
      fc.integer({ min: 10_000, max: 2_000_000 }),
      fc.double({ min: 1, max: 4, noNaN: true }),
      (sizes, bytesPerSecond, factor) => {
        const [slower, faster] = [1, factor].map((times) => {
          const pipe = createPipe();
          pipe.link.roundTrip(20);
          // The pace is the same on both, so that only the rate differs.
          for (const numBytes of sizes) {
            pipe.send(numBytes, bytesPerSecond * times, (1000 * numBytes) / bytesPerSecond + 100);
          }
          return pipe.link.estimate().bytesPerSecond ?? 0;
        });
        // What comes sooner has had less time to outweigh what was before.
        expect(faster).toBeGreaterThan(0.8 * (slower ?? 0));
      },
    ),
  );
});

test('stays finite and within bounds whatever it is told', () => {
  const event = fc.oneof(
    fc.record({ kind: fc.constant('sent' as const), id: fc.nat(5), numBytes: fc.nat(3_000_000) }),
    fc.record({
      kind: fc.constant('arrived' as const),
      id: fc.nat(5),
      numBytes: fc.nat(3_000_000),
      firstMs: fc.double({ min: 0, max: 1e9, noNaN: true }),
      lastMs: fc.double({ min: 0, max: 1e9, noNaN: true }),
    }),
    fc.record({ kind: fc.constant('abandoned' as const), id: fc.nat(5), unsentBytes: fc.nat(3_000_000) }),
    fc.record({ kind: fc.constant('roundTrip' as const), durationMs: fc.nat(10_000) }),
    fc.record({ kind: fc.constant('wait' as const), durationMs: fc.nat(10_000) }),
    fc.record({ kind: fc.constant('setUp' as const), isUp: fc.boolean() }),
  );
  fc.assert(
    fc.property(fc.array(event, { maxLength: 60 }), (events) => {
      const clock = createManualClock();
      const link = createLinkEstimator({ clock });
      for (const one of events) {
        if (one.kind === 'sent') link.sent(one);
        else if (one.kind === 'arrived') link.arrived(one);
        else if (one.kind === 'abandoned') link.abandoned(one);
        else if (one.kind === 'roundTrip') link.roundTrip(one.durationMs);
        else if (one.kind === 'setUp') link.setUp(one.isUp);
        else clock.advance(one.durationMs);
        const { bytesPerSecond, spread, queuedBytes, roundTripMs } = link.estimate();
        expect(bytesPerSecond ?? 1).toBeGreaterThanOrEqual(1);
        expect(bytesPerSecond ?? 1).toBeLessThanOrEqual(1.0001e10);
        expect(spread).toBeGreaterThanOrEqual(0.08);
        expect(spread).toBeLessThanOrEqual(1.5);
        expect(queuedBytes).toBeGreaterThanOrEqual(0);
        expect(queuedBytes).toBeLessThan(1e9);
        expect(roundTripMs ?? 0).toBeLessThanOrEqual(10_000);
      }
    }),
  );
});

test('smaller packets than were sent are not expected to be there sooner, up to the size of a frame of the link', () => {
  const pipe = createPipe();
  pipe.link.roundTrip(20);
  for (let i = 0; i < 40; i++) pipe.send(900, 50_000);
  expect(pipe.link.estimate().leastBytes).toBeCloseTo(900, 0);
  for (let i = 0; i < 40; i++) pipe.send(60_000, 1_000_000);
  expect(pipe.link.estimate().leastBytes).toBeCloseTo(1_500, 0);
});
