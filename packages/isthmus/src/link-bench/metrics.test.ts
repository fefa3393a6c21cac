import type { Plan } from '@isthmus/planner';
import { expect, test } from 'vitest';
import { findDrops } from './drops.js';
import { scheduledPolicy } from './fixed-policies.js';
import { measureRuns } from './metrics.js';
import { simulate } from './simulate.js';
import { createStepTrace } from './synthetic-trace.js';
import { constantTrace, quietScenario, smallManifest, smallWorkload } from './testing/small-bundle.js';

const good: Plan = { kind: 'split', from: 0, codec: 'quantized', level: 0, to: 0 };
const rough: Plan = { kind: 'split', from: 1, codec: 'quantized', level: 1, to: 1 };

function run(schedule: (Plan | undefined)[], { agreement = [1, 0] } = {}) {
  const trial = { codec: 'quantized', from: 0, to: 0, level: 0, numBytes: [20_020, 10_020], agreement };
  const other = { ...trial, from: 1, to: 1, level: 1, numBytes: [1020, 1020] };
  const frameSet = { model: smallManifest.model, names: ['a', 'b'], trials: [trial, other] };
  const scenario = quietScenario({
    workload: smallWorkload({ frameSet }),
    trace: constantTrace(1000),
    numFrames: schedule.length,
  });
  return { scenario, outcome: simulate(scenario, scheduledPolicy('made', schedule)) };
}

test('counts what was answered, how well, how fast and for what', () => {
  const metrics = measureRuns([run([good, good, rough, undefined])], 3.8);
  expect(metrics).toMatchObject({ frames: 4, hitRate: 0.75, switches: 1, longestMiss: 1, drops: null });
  expect(metrics.quality).toBeCloseTo((0.95 + 0.95 + 0.6) / 3, 9);
  expect(metrics.utility).toBeCloseTo((0.95 + 0.95 + 0.6) / 4, 9);
  expect(metrics.regret).toBeCloseTo(1 - 2.5 / 3.8, 9);
  // Pictures take turns: frames 0 and 2 are answered as they should be, frame 1 is not.
  expect(metrics.agreement).toBeCloseTo(2 / 3, 9);
  expect(metrics.bytesPerFrame).toBeCloseTo((20_020 + 24 + 10_020 + 12 + 1020 + 12) / 4, 9);
  // 2 + 20.044 + 10 + 42 + 10, and with 10 032 bytes, and 12 + 1.032 + 10 + 32 + 10.
  expect(metrics.latencyMs?.p99).toBeCloseTo(84.044, 9);
  expect(metrics.latencyMs?.p50).toBeCloseTo(74.032, 9);
});

test('says nothing where there is nothing to say', () => {
  expect(measureRuns([run([undefined, undefined])], 0)).toMatchObject({
    ...{
      hitRate: 0,
      quality: null,
      agreement: null,
      utility: 0,
      regret: null,
      latencyMs: null,
      longestMiss: 2,
    },
  });
  expect(measureRuns([run([good])], undefined).regret).toBeNull();
});

test('finds drops of the capacity, and when it was back', () => {
  expect(findDrops(createStepTrace(), 60_000)).toEqual([
    { dropMs: 20_000, backMs: 30_000 },
    { dropMs: 40_000, backMs: 45_000 },
  ]);
  expect(findDrops(createStepTrace(), 43_000)).toEqual([
    { dropMs: 20_000, backMs: 30_000 },
    { dropMs: 40_000, backMs: Infinity },
  ]);
  expect(findDrops(constantTrace(100), 60_000)).toEqual([]);
});

test('tells how a drop was borne', () => {
  // Ten frames a second: good until the drop, nothing for a second, rough until a second after the link is back.
  const plans = Array.from({ length: 600 }, (_, i) => {
    if (i >= 199 && i < 210) return undefined;
    return i >= 210 && i < 310 ? rough : i >= 400 && i < 450 ? undefined : good;
  });
  const scenario = quietScenario({ trace: createStepTrace(), numFrames: 600, deadlineMs: 120 });
  const outcome = simulate(scenario, scheduledPolicy('made', plans));
  const { drops, longestMiss } = measureRuns([{ scenario, outcome }], undefined);
  expect(drops).toEqual({
    count: 2,
    missedInRow: { median: 11, max: 50 },
    backMs: { median: 0, max: 1000 },
    neverBack: 0,
  });
  expect(longestMiss).toBe(50);
});
