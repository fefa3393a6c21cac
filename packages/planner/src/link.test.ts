import { createManualClock } from '@isthmus/core';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLinkEstimator } from './index.js';

const chunk = 16_384;

function createLink() {
  const clock = createManualClock();
  const link = createLinkEstimator({ clock });
  // A packet over a link of that rate; only what follows the first chunk takes measurable time.
  const send = (numBytes: number, bytesPerSecond: number, waitMs = 100) => {
    clock.advance(waitMs);
    const firstMs = clock.now();
    link.addArrival({ numBytes, firstMs, lastMs: firstMs + (1000 * (numBytes - chunk)) / bytesPerSecond });
  };
  return { link, send, clock };
}

test('knows nothing before it has seen anything', () => {
  expect(createLink().link.estimate()).toEqual({ bytesPerSecond: null, roundTripMs: null });
});

test('measures the rate of what follows the first chunk', () => {
  const { link, send } = createLink();
  send(500_000, 2_000_000);
  expect(link.estimate().bytesPerSecond).toBeCloseTo(2_000_000, 0);
});

test('a packet of one chunk says nothing about the rate', () => {
  const { link, send, clock } = createLink();
  link.addArrival({ numBytes: 900, firstMs: 0, lastMs: 0 });
  expect(link.estimate().bytesPerSecond).toBeNull();
  send(500_000, 2_000_000);
  for (let i = 0; i < 1000; i++) {
    clock.advance(10);
    link.addArrival({ numBytes: 900, firstMs: 0, lastMs: 80 });
  }
  expect(link.estimate().bytesPerSecond).toBeCloseTo(2_000_000, 0);
});

test('follows a drop within seconds and a rise more slowly', () => {
  const { link, send } = createLink();
  for (let i = 0; i < 100; i++) send(200_000, 4_000_000);
  for (let i = 0; i < 20; i++) send(200_000, 400_000);
  expect(link.estimate().bytesPerSecond).toBeLessThan(600_000);
  for (let i = 0; i < 20; i++) send(200_000, 4_000_000);
  const soon = link.estimate().bytesPerSecond ?? 0;
  expect(soon).toBeLessThan(2_000_000);
  for (let i = 0; i < 1000; i++) send(200_000, 4_000_000);
  expect(link.estimate().bytesPerSecond).toBeGreaterThan(3_500_000);
});

test('a packet that arrives all at once is fast, not infinitely fast', () => {
  const { link } = createLink();
  link.addArrival({ numBytes: 100_000, firstMs: 5, lastMs: 5 });
  expect(link.estimate().bytesPerSecond).toBeLessThan(1e10);
});

test('the round trip is the least of the recent ones', () => {
  const { link } = createLink();
  link.addRoundTrip(5);
  link.addRoundTrip(50);
  expect(link.estimate().roundTripMs).toBe(5);
  for (let i = 0; i < 16; i++) link.addRoundTrip(40 + i);
  expect(link.estimate().roundTripMs).toBe(40);
});

test('the estimate lies between the slowest and the fastest packet', () => {
  const packet = fc.record({
    numBytes: fc.integer({ min: chunk + 1000, max: 2_000_000 }),
    bytesPerSecond: fc.integer({ min: 10_000, max: 5_000_000 }),
    waitMs: fc.integer({ min: 0, max: 20_000 }),
  });
  fc.assert(
    fc.property(fc.array(packet, { minLength: 1, maxLength: 30 }), (packets) => {
      const { link, send } = createLink();
      for (const { numBytes, bytesPerSecond, waitMs } of packets) send(numBytes, bytesPerSecond, waitMs);
      const rates = packets.map(({ bytesPerSecond }) => bytesPerSecond);
      const estimate = link.estimate().bytesPerSecond ?? 0;
      expect(estimate).toBeGreaterThan(0.999 * Math.min(...rates));
      expect(estimate).toBeLessThan(1.001 * Math.max(...rates));
    }),
  );
});
