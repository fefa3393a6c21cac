import { createManualClock } from '@isthmus/core';
import { describe, expect, test } from 'vitest';
import {
  type Constraints,
  type ControllerTuning,
  createController,
  type Decision,
  deviceBytes,
  type PricedPlan,
  type SplitPlan,
} from './index.js';
import { deepManifest as manifest } from './testing/manifest.js';

// Codecs with networks of their own, one of which lands at a later cut: on which path, over what, for how much memory.
function open(constraints: Constraints = {}, tuning: Partial<ControllerTuning> = {}) {
  const clock = createManualClock();
  const controller = createController({ manifest, clock, constraints, tuning });
  controller.roundTrip(20);
  const candidates = (): PricedPlan[] => controller.decide().candidates();
  return {
    clock,
    controller,
    candidates,
    find({ codec, to }: Pick<SplitPlan, 'codec' | 'to'>): PricedPlan {
      const found = candidates().find(
        ({ plan }) => plan.kind === 'split' && plan.codec === codec && plan.to === to,
      );
      if (found === undefined) throw new Error(`There is no plan with ${codec} to cut ${to}.`);
      return found;
    },
  };
}

const shallow: SplitPlan = { kind: 'split', from: 1, codec: 'deep', level: 0, to: 1 };
const deep: SplitPlan = { ...shallow, to: 2 };

describe('a codec that lands deeper', () => {
  test('is priced by what its own path takes, and the segments behind where it lands', () => {
    const { find } = open();
    expect(find(shallow)).toMatchObject({ deviceMs: 10, encodeMs: 3, cloudMs: 1 + 20 + 30, quality: 0.9 });
    expect(find(deep)).toMatchObject({ deviceMs: 10, encodeMs: 1, cloudMs: 5 + 30, quality: 0.98 });
  });

  test('is learned of on the path that was taken', () => {
    const { controller, find } = open();
    // As profiled on this path. By the other's figures the encoder would be three times as fast, and frames as large again.
    for (let i = 0; i < 20; i++) {
      controller.encoded({ ...deep, durationMs: 1, numBytes: 1_000 });
      controller.answered({ plan: deep, queueMs: 0, decodeMs: 5, runMs: 30 });
    }
    for (const plan of [shallow, deep]) {
      const fresh = open().find(plan);
      const found = find(plan);
      expect(found.encodeMs).toBeCloseTo(fresh.encodeMs, 9);
      expect(found.cloudMs).toBeCloseTo(fresh.cloudMs, 9);
      expect(found.numBytes).toBeCloseTo(fresh.numBytes, 6);
    }
  });

  test("has a decoder of its own: that one being slow says little of the others'", () => {
    const { controller, find } = open();
    const features: SplitPlan = { kind: 'split', from: 1, codec: 'features-1', level: 0, to: 1 };
    for (let i = 0; i < 40; i++) {
      controller.answered({ plan: deep, queueMs: 0, decodeMs: 20, runMs: 30 });
      controller.answered({ plan: features, queueMs: 0, decodeMs: 1, runMs: 50 });
    }
    expect(find(deep).cloudMs).toBeGreaterThan(45);
    expect(find(features).cloudMs).toBeLessThan(53);
  });
});

describe('memory of the device', () => {
  const span = deviceBytes(manifest, 1);

  test('holds the encoder beside the span, and never the decoder', () => {
    expect(deviceBytes(manifest, 1, 'deep')).toBe(span + 50_000);
    expect(deviceBytes(manifest, 1, 'learned')).toBe(span + 500_000);
    expect(deviceBytes(manifest, 0, 'webp')).toBe(0);
    const { find } = open();
    expect(find(deep).deviceBytes).toBe(span + 50_000);
    expect(find({ codec: 'learned', to: 1 }).deviceBytes).toBe(span + 500_000);
    expect(() => deviceBytes(manifest, 1, 'none')).toThrow(/no codec none/);
  });

  test('allows the codecs whose encoders fit it', () => {
    const codecs = (maxDeviceBytes: number): string[] =>
      open({ maxDeviceBytes })
        .candidates()
        .flatMap(({ plan }) => (plan.kind === 'split' && plan.from === 1 ? [plan.codec] : []));
    expect(new Set(codecs(span))).toEqual(new Set(['features-1']));
    expect(new Set(codecs(span + 50_000))).toEqual(new Set(['features-1', 'deep']));
    expect(new Set(codecs(span + 500_000))).toEqual(new Set(['features-1', 'deep', 'learned']));
  });

  test('is enough for every span that is held with the largest of its encoders', () => {
    const ends = (maxDeviceBytes: number): Decision => {
      const { clock, controller } = open({ maxDeviceBytes, deadlineMs: 300 });
      let last: Decision | undefined;
      for (let i = 0; i < 60; i++) {
        const decision = controller.decide();
        for (const cut of decision.evict) controller.spanDropped(cut);
        if (decision.prepare !== null) controller.spanReady(decision.prepare);
        if (decision.prepare === 2) last = decision;
        // At cut 1 until then.
        if (i === 0) controller.spanReady(1);
        clock.advance(100);
      }
      if (last === undefined) throw new Error('The second span was never wanted.');
      return last;
    };
    const both = span + 500_000 + deviceBytes(manifest, 2);
    expect(ends(both).evict).toEqual([]);
    expect(ends(both - 1).evict).toEqual([1]);
  });
});
