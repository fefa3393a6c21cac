import type { Plan } from '@isthmus/planner';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type AnsweredFrame, fillGaps, measureMachines } from './machine-times.js';
import { smallWorkload } from './testing/small-bundle.js';

const plan = (from: number, codec: string, level: number): Plan => ({
  kind: 'split',
  from,
  codec,
  level,
  to: from,
});

const answered = (frame: number, chosen: Plan, timing: Partial<AnsweredFrame['timing']>): AnsweredFrame => ({
  frame,
  plan: chosen,
  timing: { deviceMs: 0, encodeMs: 0, queueMs: 0, decodeMs: 0, cloudMs: 0, ...timing },
});

test('plans take what they took; others by the nearest that was used', () => {
  const fine = plan(1, 'quantized', 0);
  // 10 ms and 2 ms by the profile on the device; 2 ms and 30 ms in the cloud.
  const times = [20, 30, 90].map((deviceMs, index) =>
    answered(index, fine, { deviceMs, encodeMs: 6, decodeMs: 2, cloudMs: 15, queueMs: index }),
  );
  const { workload, deviceNoise, cloudNoise, cloudWaitMs } = measureMachines(smallWorkload(), times, 4);
  const of = (chosen: Plan) => workload.options[workload.indexOf(chosen) ?? -1];
  expect(of(fine)).toMatchObject({ deviceMs: 30, encodeMs: 6, decodeMs: 2, cloudMs: 15 });
  // The same cut and codec, at another level.
  expect(of(plan(1, 'quantized', 1))).toMatchObject({ deviceMs: 30, encodeMs: 6, decodeMs: 2, cloudMs: 15 });
  // Another codec at the same cut, and another cut: by the factor of all.
  expect(of(plan(1, 'raw', 0))).toMatchObject({ deviceMs: 30, encodeMs: 3, decodeMs: 1, cloudMs: 15 });
  expect(of(plan(0, 'quantized', 0))).toMatchObject({ deviceMs: 0, encodeMs: 6, decodeMs: 2, cloudMs: 20 });
  expect([...deviceNoise]).toEqual([26 / 36, 1, 96 / 36, 96 / 36]);
  expect([...cloudNoise]).toEqual([1, 1, 1, 1]);
  expect([...cloudWaitMs]).toEqual([0, 1, 2, 2]);
});

test('without an answer everything takes what the profile says', () => {
  const before = smallWorkload();
  const { workload, deviceNoise } = measureMachines(before, [], 2);
  expect(workload.options).toEqual(before.options);
  expect([...deviceNoise]).toEqual([1, 1]);
});

test('gaps hold the value of the nearest frame', () => {
  const frames = fc.uniqueArray(fc.nat({ max: 60 }), { minLength: 1 });
  fc.assert(
    fc.property(frames, (known) => {
      const filled = fillGaps(
        61,
        known.map((frame) => ({ frame, value: frame })),
        -1,
      );
      for (const [frame, value] of filled.entries()) {
        const nearest = Math.min(...known.map((one) => Math.abs(one - frame)));
        expect(Math.abs(value - frame)).toBe(nearest);
      }
    }),
  );
  expect([...fillGaps(2, [], 7)]).toEqual([7, 7]);
});
