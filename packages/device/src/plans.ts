import { type AcceptMessage, IsthmusError, type Manifest } from '@isthmus/core';
import {
  type ChosenPlan,
  type Constraints,
  type Controller,
  checkPlan,
  createController,
  type Decision,
  deviceBytes,
  type Plan,
} from '@isthmus/planner';
import type { Bundle } from './bundle.js';
import type { ResolvedOptions } from './options.js';
import type { DecisionEvent } from './session.js';

export interface PlansOptions {
  options: ResolvedOptions;
  /** Told when frames are answered by another plan than before. */
  onChange: (plan: ChosenPlan) => void;
  onDecision: (event: DecisionEvent) => void;
}

/** A frame whose plan is to be chosen. */
export interface FrameToChoose {
  /** Frames of the session before it. */
  ordinal: number;
  /** When `run()` was called. */
  capturedMs: number;
  deadlineMs: number | undefined;
}

/** Which plans a session uses: one controller for each bundle, and for each receiver's limits. */
export interface Plans {
  /** Told all that is observed. */
  readonly controller: Controller;
  mayRunLocally(manifest: Manifest): boolean;
  /** The receiver has accepted: plans are for this bundle, within what it takes. */
  use(bundle: Bundle, accept: AcceptMessage): void;
  /**
   * A plan that was asked for, checked.
   *
   * @throws IsthmusError `request/invalid-plan`, and as `checkPlan`
   */
  check(manifest: Manifest, wanted: Plan): ChosenPlan;
  /**
   * Decides for one frame, as late as possible. Spans that are worth having are loaded beside it.
   *
   * @throws IsthmusError `request/skipped`; `request/invalid-plan` when the target leaves no plan at all
   */
  choose(frame: FrameToChoose): ChosenPlan;
  /** A span of a bundle has become ready to run, or is no longer. */
  spanChanged(bundle: Bundle, to: number, isReady: boolean): void;
  /** A frame is answered by that plan. */
  announce(plan: ChosenPlan): void;
}

interface Use {
  bundle: Bundle;
  limits: string;
  controller: Controller;
  /** Why there is nothing to choose from. */
  failure: unknown;
}

export function createPlans({ options, onChange, onDecision }: PlansOptions): Plans {
  const { clock, target } = options;
  const ready = new WeakMap<Bundle, Set<number>>();
  let used: Use | undefined;
  let last: ChosenPlan | undefined;

  const mayRunLocally = (manifest: Manifest): boolean =>
    options.mayRunLocally ?? deviceBytes(manifest, manifest.cuts.length - 1) <= options.maxDeviceBytes;

  const isKnown = ({ codecs }: Manifest, id: string): boolean => {
    const entry = codecs.find((codec) => codec.id === id);
    return options.codecs.some(({ kind, version }) => kind === entry?.kind && version === entry.version);
  };

  const current = (): Use => {
    if (used === undefined) throw new IsthmusError('internal', 'No receiver has accepted yet.');
    return used;
  };
  const control = ({ manifest }: Bundle, constraints: Constraints): Controller =>
    createController({ manifest, clock, constraints, objective: target.objective, energy: target.energy });

  // Encoders come with the span: the first frame would wait for them.
  const warm = async (bundle: Bundle, from: number): Promise<void> => {
    if (options.plan !== 'auto' || used?.bundle !== bundle) return;
    // One after another, so that each sees what room the others have left.
    for (const codec of used.controller.codecs(from)) {
      await bundle.encoders.warm({ codec, from }).catch(() => {});
    }
  };

  return {
    get controller() {
      return current().controller;
    },
    mayRunLocally,
    use(bundle, { codecs: accepted, limits: { packetBytes } }) {
      // The receiver is told of kinds, not of their versions.
      const codecs = accepted.filter((id) => isKnown(bundle.manifest, id));
      const limits = JSON.stringify([codecs, packetBytes]);
      if (used?.bundle === bundle && used.limits === limits) return;
      const constraints: Constraints = {
        ...target.constraints,
        codecs,
        maxPacketBytes: packetBytes,
        maxDeviceBytes: options.maxDeviceBytes,
        mayRunLocally: mayRunLocally(bundle.manifest),
      };
      const { roundTripMs = null } = used?.controller.estimate ?? {};
      try {
        used = { bundle, limits, controller: control(bundle, constraints), failure: undefined };
      } catch (failure) {
        // Plans that are asked for may still do; then what is observed is of use to nobody but the user.
        used = { bundle, limits, controller: control(bundle, { mayRunLocally: true }), failure };
      }
      if (roundTripMs !== null) used.controller.roundTrip(roundTripMs);
      for (const cut of ready.get(bundle) ?? []) used.controller.spanReady(cut);
      void warm(bundle, 0);
    },
    check(manifest, wanted) {
      checkPlan(manifest, wanted);
      if (wanted.kind === 'split' || mayRunLocally(manifest)) return { ...wanted, reason: 'as asked' };
      throw new IsthmusError(
        'request/invalid-plan',
        'The device may not run the whole model: mayRunLocally is false, or maxDeviceBytes too small.',
      );
    },
    choose({ ordinal, capturedMs, deadlineMs }) {
      const { bundle, controller, failure } = current();
      if (failure !== undefined) throw failure;
      const decision = controller.decide({ capturedMs, ...(deadlineMs !== undefined && { deadlineMs }) });
      onDecision({ frame: ordinal, decision });
      // What does not load is asked for again later; nobody waits for it.
      for (const cut of decision.evict) void bundle.spans.drop(cut).catch(() => {});
      if (decision.prepare !== null) void bundle.spans.load(decision.prepare).catch(() => {});
      return planOf(decision);
    },
    spanChanged(bundle, to, isReady) {
      const cuts = ready.get(bundle) ?? new Set<number>();
      ready.set(bundle, cuts);
      if (isReady) cuts.add(to);
      else cuts.delete(to);
      if (!isReady) {
        if (used?.bundle === bundle) used.controller.spanDropped(to);
        void bundle.encoders.keep((from) => from === 0 || cuts.has(from)).catch(() => {});
        return;
      }
      void warm(bundle, to).then(() => {
        if (used?.bundle === bundle && cuts.has(to)) used.controller.spanReady(to);
      });
    },
    announce(plan) {
      if (last !== undefined && isSame(plan, last)) return;
      last = plan;
      onChange(plan);
    },
  };
}

function planOf({ plan, reason }: Decision): ChosenPlan {
  if (plan.kind !== 'skip') return { ...plan, reason };
  throw new IsthmusError('request/skipped', `The frame was skipped: ${reason}.`, {
    details: { reason },
    retryable: true,
  });
}

function isSame(a: ChosenPlan, b: ChosenPlan): boolean {
  if (a.kind === 'local' || b.kind === 'local') return a.kind === b.kind;
  return a.from === b.from && a.codec === b.codec && a.level === b.level && a.to === b.to;
}
