import type { Plan } from '@isthmus/planner';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { controllerPolicy } from './controller-policy.js';
import { fixedPolicy, scheduledPolicy } from './fixed-policies.js';
import { qualitiesOf } from './metrics.js';
import { oraclePolicy, planOracle } from './oracle.js';
import type { PolicyFactory } from './policy.js';
import { createRandom } from './random.js';
import { rateOnly, splitOnly, throughputRule } from './rate-policies.js';
import { createScenario, type Scenario } from './scenario.js';
import { simulate } from './simulate.js';
import { createSyntheticTrace } from './synthetic-trace.js';
import { constantTrace, quietScenario, smallManifest, smallWorkload } from './testing/small-bundle.js';
import { createLinkTrace } from './trace.js';

const sumOf = (scenario: Scenario, policy: PolicyFactory): number =>
  qualitiesOf({ scenario, outcome: simulate(scenario, policy) }).reduce((sum, quality) => sum + quality, 0);

/** The best of all schedules there are, by trying them all in the simulation. */
function bruteForce(scenario: Scenario): number {
  const choices: (Plan | undefined)[] = [undefined, ...scenario.workload.options.map(({ plan }) => plan)];
  const numSchedules = choices.length ** scenario.numFrames;
  let best = 0;
  for (let n = 0; n < numSchedules; n++) {
    let rest = n;
    const schedule = Array.from({ length: scenario.numFrames }, () => {
      const choice = choices[rest % choices.length];
      rest = Math.floor(rest / choices.length);
      return choice;
    });
    best = Math.max(best, sumOf(scenario, scheduledPolicy('tried', schedule)));
  }
  return best;
}

test('gives up a little of the first frame for more of the second', () => {
  // Both fit at 0.95 one after the other in neither order: 50 ms each, and 32 in the cloud.
  const scenario = quietScenario({ trace: constantTrace(100), intervalMs: 20, deadlineMs: 130 });
  const { quality, plans } = planOracle(scenario);
  expect(quality).toBeCloseTo(bruteForce(scenario), 9);
  expect(plans).toHaveLength(2);
  expect(quality).toBeGreaterThan(1);
});

test('is as good as trying everything', () => {
  const small = { ...smallManifest, codecs: smallManifest.codecs.slice(1) };
  const settings = fc.record({
    rates: fc.array(fc.oneof(fc.constant(0), fc.integer({ min: 5, max: 400 })), {
      minLength: 2,
      maxLength: 12,
    }),
    // No answer just at a deadline: the oracle keeps a margin from it, for rounding's sake.
    deadlineMs: fc.integer({ min: 40, max: 250 }).map((ms) => ms + 0.1234),
    intervalMs: fc.integer({ min: 5, max: 120 }),
    deviceSlowdown: fc.constantFrom(0.5, 1, 3),
    cloudSlowdown: fc.constantFrom(0.1, 1, 2),
    noise: fc.array(fc.double({ min: 0.7, max: 1.4, noNaN: true }), { minLength: 4, maxLength: 4 }),
  });
  fc.assert(
    fc.property(settings, ({ rates, deadlineMs, intervalMs, noise, ...slow }) => {
      const segments = [...rates, 50].map((rate) => ({ durationMs: 40, rateBps: 8000 * rate }));
      const scenario = quietScenario({
        workload: smallWorkload({ manifest: small, ...slow }),
        trace: createLinkTrace({ name: 'random', kind: 'test', segments, delayMs: 5 }),
        deadlineMs,
        intervalMs,
        numFrames: 4,
        deviceNoise: Float64Array.from(noise),
        cloudNoise: Float64Array.from(noise).reverse(),
      });
      const best = bruteForce(scenario);
      const { quality } = planOracle(scenario);
      expect(quality).toBeCloseTo(best, 9);
      expect(sumOf(scenario, oraclePolicy(scenario))).toBeCloseTo(best, 9);
    }),
    { numRuns: 25 },
  );
});

test('is beaten by nobody', () => {
  const settings = fc.record({
    kind: fc.constantFrom('3g' as const, 'lte' as const, 'satellite' as const),
    deadlineMs: fc.integer({ min: 60, max: 400 }),
    framesPerSecond: fc.integer({ min: 2, max: 30 }),
    deviceSlowdown: fc.constantFrom(0.5, 2, 10),
    seed: fc.integer(),
  });
  fc.assert(
    fc.property(settings, ({ kind, deadlineMs, framesPerSecond, deviceSlowdown, seed }) => {
      const workload = smallWorkload({ deviceSlowdown });
      // Ten seconds of 3G may be all outage, which is no trace.
      const trace = createSyntheticTrace(kind, { durationMs: 120_000, random: createRandom(seed) });
      const durationMs = 10_000;
      const scenario = createScenario({ workload, trace, deadlineMs, framesPerSecond, durationMs, seed });
      const { quality } = planOracle(scenario);
      // What is planned is what comes of it.
      expect(sumOf(scenario, oraclePolicy(scenario))).toBeCloseTo(quality, 6);
      const others = [
        ...workload.options.map(({ plan }) => fixedPolicy(plan)),
        ...[controllerPolicy(), throughputRule, splitOnly, rateOnly(0), rateOnly(1)],
      ];
      for (const policy of others)
        expect(sumOf(scenario, policy)).toBeLessThanOrEqual(1.005 * quality + 1e-9);
    }),
    { numRuns: 20 },
  );
});

test('loses less than half a percent by keeping few states', () => {
  const trace = createSyntheticTrace('lte-poor', { durationMs: 20_000, random: createRandom(5) });
  const scenario = createScenario({
    workload: smallWorkload(),
    trace,
    deadlineMs: 400,
    framesPerSecond: 20,
    seed: 5,
  });
  const many = planOracle(scenario, { maxStates: 100_000 }).quality;
  expect(planOracle(scenario, { maxStates: 64 }).quality).toBeGreaterThan(0.995 * many);
  expect(many).toBeGreaterThan(0);
});
