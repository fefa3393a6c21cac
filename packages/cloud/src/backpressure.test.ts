import { createManualClock } from '@isthmus/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Throttle } from './backpressure.js';

describe('Throttle', () => {
  it('lets through what the rate allows and one burst, over any time', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1000, max: 10_000_000 }),
        fc.array(fc.tuple(fc.integer({ min: 1, max: 16_384 }), fc.nat(500)), { maxLength: 200 }),
        (bytesPerSecond, messages) => {
          const clock = createManualClock();
          let reading = true;
          const throttle = new Throttle({
            clock,
            bytesPerSecond,
            pause: () => {
              expect(reading).toBe(true);
              reading = false;
            },
            resume: () => {
              expect(reading).toBe(false);
              reading = true;
            },
          });
          const burstBytes = Math.max(65_536, bytesPerSecond / 4);
          let readBytes = 0;
          for (const [numBytes, waitMs] of messages) {
            clock.advance(waitMs);
            expect(throttle.paused).toBe(!reading);
            if (!reading) continue;
            throttle.take(numBytes);
            readBytes += numBytes;
            const allowedBytes = burstBytes + (clock.now() / 1000) * bytesPerSecond;
            // The message that empties the bucket is here already.
            expect(readBytes).toBeLessThanOrEqual(allowedBytes + 16_384);
          }
          clock.advance(20_000);
          expect(reading).toBe(true);
        },
      ),
    );
  });

  it('counts what still comes in while it is paused', () => {
    const clock = createManualClock();
    const events: string[] = [];
    const throttle = new Throttle({
      clock,
      bytesPerSecond: 65_536,
      pause: () => events.push('pause'),
      resume: () => events.push('resume'),
    });
    throttle.take(65_536 * 2);
    throttle.take(65_536);
    clock.advance(1999);
    expect(events).toEqual(['pause']);
    clock.advance(1);
    expect(events).toEqual(['pause', 'resume']);
    throttle.take(1);
    throttle.stop();
    throttle.stop();
    expect(events).toEqual(['pause', 'resume', 'pause', 'resume']);
  });

  it('never pauses without a rate', () => {
    const pause = (): void => {
      throw new Error('paused');
    };
    const throttle = new Throttle({ clock: createManualClock(), bytesPerSecond: 0, pause, resume: () => {} });
    throttle.take(2 ** 40);
    expect(throttle.paused).toBe(false);
  });
});
