import { type Constraints, type ControllerTuning, createController } from '@isthmus/planner';
import type { PolicyFactory } from './policy.js';

export interface ControllerPolicyOptions {
  constraints?: Constraints | undefined;
  tuning?: Partial<ControllerTuning> | undefined;
  /** All spans are there from the start, as they are for the other policies. @default false */
  isLoaded?: boolean | undefined;
}

// As the device: after a frame was skipped, it looks sooner for what the link carries.
const skippingMs = 1_000;

/**
 * The controller of `@isthmus/planner`, as the device runs it: it is told what the device learns, starts with nothing
 * but the bundle's profile, and has to fetch the spans it wants.
 */
export function controllerPolicy(options: ControllerPolicyOptions = {}): PolicyFactory {
  return ({ workload, deadlineMs, clock }) => {
    const { manifest } = workload;
    const controller = createController({
      manifest,
      // The controller reads time, it never waits.
      clock: { now: () => clock.now(), after: () => () => {} },
      constraints: {
        deadlineMs,
        mayRunLocally: workload.options.some(({ plan }) => plan.kind === 'local'),
        maxDeviceCut: Math.max(...workload.options.map(({ deviceCut }) => deviceCut)),
        ...options.constraints,
      },
      ...(options.tuning !== undefined && { tuning: options.tuning }),
    });
    if (options.isLoaded === true) for (const { index } of manifest.cuts) controller.spanReady(index);
    let skippedMs = -Infinity;
    const { dropped, ran, encoded, sent, arrived, answered, abandoned, roundTrip } = controller;
    return {
      ...{ dropped, ran, encoded, sent, arrived, answered, abandoned, roundTrip },
      name: 'controller',
      ...(options.isLoaded !== true && { spans: controller }),
      isOverdue: () => clock.now() - skippedMs < skippingMs || controller.estimate.phase === 'dead',
      decide({ capturedMs }) {
        const decision = controller.decide({ capturedMs });
        skippedMs = decision.plan.kind === 'skip' ? clock.now() : -Infinity;
        return decision;
      },
    };
  };
}
