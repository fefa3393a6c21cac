import { expect, test } from 'vitest';
import type { AnsweredFrame } from './machine-times.js';
import { type ReplayOptions, replay } from './replay.js';
import { createStepTrace } from './synthetic-trace.js';
import { constantTrace, smallManifest } from './testing/small-bundle.js';

const options: ReplayOptions = {
  manifest: smallManifest,
  trace: constantTrace(1e6),
  ...{ deadlineMs: 200, framesPerSecond: 10, durationMs: 5_000, seed: 1 },
  constraints: { mayRunLocally: false, maxDeviceCut: 0 },
  answered: [],
};

const answered = (frame: number, factor: number): AnsweredFrame => ({
  frame,
  plan: { kind: 'split', from: 0, codec: 'raw', level: 0, to: 0 },
  timing: { deviceMs: 0, encodeMs: factor, queueMs: 4, decodeMs: factor, cloudMs: 40 * factor },
});

test('frames take what the live session took', () => {
  const frames = Array.from({ length: 25 }, (_, frame) => frame);
  const { metrics } = replay({
    ...options,
    framesPerSecond: 5,
    answered: frames.map((frame) => answered(frame, 3)),
    begun: frames.map((frame) => ({ frame, value: 6 })),
  });
  // 6 ms until it begins, 3 to encode, 10 there, 4 of waiting, 3 + 120 in the cloud, 10 back; the link takes next to none.
  expect(metrics).toMatchObject({ frames: 25, hitRate: 1 });
  // All but the first few, when nothing is known of the link.
  expect(metrics.quality).toBeGreaterThan(0.9);
  expect(metrics.latencyMs?.p50).toBeCloseTo(156.08, 1);
});

test('what took too long is not in time', () => {
  const slow = replay({ ...options, answered: [answered(0, 5)] });
  expect(slow.frames.every(({ state }) => state !== 'answered')).toBe(true);
  expect(slow.metrics.latencyMs).toBeNull();
});

test('the device goes no further than its constraints, and never answers alone', () => {
  const { frames } = replay({ ...options, trace: createStepTrace(), durationMs: 60_000 });
  const plans = new Set(frames.map(({ plan }) => plan));
  plans.delete('');
  expect(plans.size).toBeGreaterThan(1);
  expect([...plans].every((plan) => plan.startsWith('0/'))).toBe(true);
});

test('pauses make frames late', () => {
  const pauses = [{ fromMs: 1_000, toMs: 1_900 }];
  const { frames } = replay({ ...options, pauses });
  const late = frames.flatMap(({ state }, frame) => (state === 'answered' ? [] : [frame]));
  expect(late.length).toBeGreaterThan(3);
  expect(late.every((frame) => frame >= 8 && frame <= 22)).toBe(true);
});

test('is the same every time', () => {
  const run = () => replay({ ...options, trace: createStepTrace(), durationMs: 30_000 });
  expect(run()).toEqual(run());
});
