import { IsthmusError, type Manifest } from '@isthmus/core';
import { type ChosenPlan, checkPlan, choosePlan, deviceBytes, type Plan } from '@isthmus/planner';
import type { ResolvedOptions } from './options.js';
import type { Pace } from './pace.js';
import type { Uplink } from './uplink.js';

export interface PlansOptions {
  options: ResolvedOptions;
  uplink: Uplink;
  devicePace: Pace;
  cloudPace: Pace;
  /** Told when frames are answered by another plan than before. */
  onChange: (plan: ChosenPlan) => void;
}

/** Which plans a session uses. */
export interface Plans {
  mayRunLocally(manifest: Manifest): boolean;
  /**
   * The plan wanted, checked, or the best by what is known now.
   *
   * @throws IsthmusError `request/invalid-plan`, and as `checkPlan`
   */
  choose(manifest: Manifest, wanted: Plan | 'auto', deadlineMs: number | undefined): ChosenPlan;
  /** A frame is answered by that plan. */
  announce(plan: ChosenPlan): void;
}

export function createPlans({ options, uplink, devicePace, cloudPace, onChange }: PlansOptions): Plans {
  let last: ChosenPlan | undefined;

  const mayRunLocally = (manifest: Manifest): boolean =>
    options.mayRunLocally ?? deviceBytes(manifest, manifest.cuts.length - 1) <= options.maxDeviceBytes;

  return {
    mayRunLocally,
    choose(manifest, wanted, deadlineMs) {
      const local = mayRunLocally(manifest);
      if (wanted !== 'auto') {
        checkPlan(manifest, wanted);
        if (wanted.kind === 'split' || local) return { ...wanted, reason: 'as asked' };
        throw new IsthmusError(
          'request/invalid-plan',
          'The device may not run the whole model: mayRunLocally is false, or maxDeviceBytes too small.',
        );
      }
      const deadlines = [deadlineMs, options.target.deadlineMs].filter((value) => value !== undefined);
      return choosePlan({
        manifest,
        estimate: uplink.estimate,
        deviceSlowdown: devicePace.slowdown,
        cloudSlowdown: cloudPace.slowdown,
        codecs: uplink.accept.codecs,
        maxDeviceBytes: options.maxDeviceBytes,
        maxPacketBytes: uplink.accept.limits.packetBytes,
        mayRunLocally: local,
        ...(deadlines.length > 0 ? { deadlineMs: Math.min(...deadlines) } : {}),
      });
    },
    announce(plan) {
      if (last !== undefined && isSame(plan, last)) return;
      last = plan;
      onChange(plan);
    },
  };
}

function isSame(a: ChosenPlan, b: ChosenPlan): boolean {
  if (a.kind === 'local' || b.kind === 'local') return a.kind === b.kind;
  return a.from === b.from && a.codec === b.codec && a.level === b.level && a.to === b.to;
}
