import { type Clock, IsthmusError, type Manifest } from '@isthmus/core';
import { bestAmong, type Weighed, weighAll } from './best.js';
import { createByteBudget } from './byte-budget.js';
import { listCandidates } from './candidates.js';
import { type EnergyModel, energyPresets } from './energy.js';
import { createExploration } from './exploration.js';
import { createInterval } from './interval.js';
import { createLinkEstimator, type LinkEstimate, type LinkTuning, type PacketArrival } from './link.js';
import { type Constraints, isFeasible, type Objective } from './objective.js';
import type { Plan, SplitPlan } from './plan.js';
import { type PricedPlan, pricePlan, type Situation, unknownBytesPerSecond } from './price.js';
import { createProfile, type Encoded } from './profile.js';
import { createSpanChoice, type SpanTuning } from './span-choice.js';

/** The frame is not answered: no answer would be in time, or worth what it takes. */
export interface SkipPlan {
  kind: 'skip';
}

/** What is done with a frame, and why. */
export interface Decision {
  plan: Plan | SkipPlan;
  /** For people. */
  reason: string;
  /** False when no plan keeps all constraints: then `plan` is the least bad. */
  isFeasible: boolean;
  /** What the plan is expected to take; null for `skip`. */
  predicted: PricedPlan | null;
  /** All that could be done with the frame, best first; priced by what is known when it is called. */
  candidates(): PricedPlan[];
  /** A cut whose span is worth having: load it beside what runs, then call `spanReady`. */
  prepare: number | null;
  /** Cuts whose spans must go first, for the memory's sake: call `spanDropped`. */
  evict: readonly number[];
}

/** Named so that they can be changed. */
export interface ControllerTuning {
  /** Share of utility that another plan must add to be taken instead of the last one at another cut. */
  minGain: number;
  /** Time that a cut is kept, as long as it is this likely to be in time. */
  dwellMs: number;
  dwellAbove: number;
  /** Below this probability to be in time, nothing is sent: it would only be in the way of the next frame. */
  skipBelow: number;
  /** After so long without use, a frame is sent over the link to see what it carries; twice as seldom each time. */
  exploreMs: number;
  maxExploreMs: number;
  /** What the link is then taken to carry, times the estimate. */
  exploreFactor: number;
  link: Partial<LinkTuning>;
  spans: Partial<SpanTuning>;
}

export const defaultControllerTuning: ControllerTuning = {
  minGain: 0.02,
  dwellMs: 500,
  dwellAbove: 0.7,
  skipBelow: 0.05,
  exploreMs: 500,
  maxExploreMs: 4_000,
  exploreFactor: 4,
  link: {},
  spans: {},
};

// Of `exploreFactor` each.
const maxExploreSteps = 6;

export interface ControllerOptions {
  manifest: Manifest;
  clock: Clock;
  /** @default { kind: 'quality' } */
  objective?: Objective;
  constraints?: Constraints;
  /** @default energyPresets.phoneLte */
  energy?: EnergyModel;
  tuning?: Partial<ControllerTuning>;
  /** Milliseconds here for one of the manifest's profile, until something is measured. @default 1 */
  deviceSlowdown?: number;
  /** The same at the receiver. @default 1 */
  cloudSlowdown?: number;
}

/** A frame that waits for a decision; times on the controller's clock. */
export interface FrameToPlan {
  /** @default now */
  capturedMs?: number;
  /** Of this frame; the shorter of this one and the constraint's holds. */
  deadlineMs?: number;
  /** When the device can begin with it. @default now */
  deviceFreeMs?: number;
}

/** Chooses a plan for every frame, and learns from what came of it. */
export interface Controller {
  decide(frame?: FrameToPlan): Decision;
  /** Ids of the codecs that plans from that cut may use: those whose encoders are worth having ready. */
  codecs(from: number): readonly string[];
  /** A frame was given up undecided, for a later one: it counts for the pace at which frames come. */
  dropped(frame: { capturedMs: number }): void;
  /** The span from cut 0 to that cut is loaded. The empty one, to cut 0, always is. */
  spanReady(cut: number): void;
  spanDropped(cut: number): void;
  /** A span has run on the device. */
  ran(observed: { to: number; durationMs: number }): void;
  encoded(observed: Encoded): void;
  /** A packet was handed to the link. */
  sent(packet: { id: number; numBytes: number }): void;
  arrived(arrival: PacketArrival): void;
  answered(observed: { plan: SplitPlan; queueMs: number; decodeMs: number; runMs: number }): void;
  abandoned(packet: { id: number; unsentBytes: number }): void;
  roundTrip(durationMs: number): void;
  buffered(numBytes: number): void;
  /** The socket is gone, or there is one again. */
  linkState(isUp: boolean): void;
  readonly estimate: LinkEstimate;
}

/**
 * A controller for one bundle: estimates link, device and receiver, prices every plan that the constraints allow for
 * the frame at hand, and takes the best by the objective. Codec and level follow the link from frame to frame, as in
 * Salsify (Fouladi et al., NSDI 2018); another cut is an investment, made when it pays.
 *
 * @throws IsthmusError `request/invalid-plan` when the constraints leave no plan at all.
 *
 * @example
 * ```ts
 * const controller = createController({ manifest, clock, constraints: { deadlineMs: 100 } });
 * const { plan, reason } = controller.decide();
 * ```
 */
export function createController(options: ControllerOptions): Controller {
  const { manifest, clock, objective = { kind: 'quality' }, constraints = {} } = options;
  const { energy = energyPresets.phoneLte } = options;
  const tuning = { ...defaultControllerTuning, ...options.tuning };
  const candidates = listCandidates(manifest, constraints);
  if (candidates.length === 0) {
    throw new IsthmusError(
      'request/invalid-plan',
      'No plan fits: the device may hold too little, or nothing may be sent. Allow more memory, codecs or cuts.',
    );
  }
  const link = createLinkEstimator({ clock, tuning: tuning.link });
  const profile = createProfile(options);
  const budget = createByteBudget(clock, constraints.maxBytesPerHour);
  const spans = createSpanChoice({ manifest, clock, constraints, candidates, tuning: tuning.spans });
  const interval = createInterval();
  const exploration = createExploration(clock, tuning);
  let last: { cut: number; sinceMs: number } | undefined;

  const weigh = (situation: Situation, maxBytes = Infinity): Weighed =>
    weighAll(candidates, situation, objective, constraints, Math.min(budget.bytes, maxBytes));
  const bestReady = (weighed: Weighed): PricedPlan | undefined =>
    bestAmong(weighed, constraints, spans.isReady);

  return {
    decide(frame = {}) {
      const nowMs = clock.now();
      const capturedMs = frame.capturedMs ?? nowMs;
      interval.add(capturedMs);
      const estimate = link.estimate();
      const deadlineMs = Math.min(frame.deadlineMs ?? Infinity, constraints.deadlineMs ?? Infinity);
      const waitMs = nowMs - capturedMs + Math.max(0, (frame.deviceFreeMs ?? nowMs) - nowMs);
      const situation = { profile, energy, waitMs, deadlineMs, intervalMs: interval.meanMs };
      const weighed = weigh({ ...situation, link: estimate });
      let best = bestReady(weighed);
      if (best !== undefined && last !== undefined && cutOf(manifest, best) !== last.cut) {
        const stay = spans.isReady(last.cut) ? weighed.byCut[last.cut] : undefined;
        const isKept = stay !== undefined && isFeasible(constraints, stay);
        const dwells = nowMs - last.sinceMs < tuning.dwellMs && (stay?.inTime ?? 0) >= tuning.dwellAbove;
        if (isKept && (dwells || !isWorthMore(best, stay, tuning.minGain))) best = stay;
      }
      const isUnused = best === undefined || best.plan.kind === 'local' || isUseless(best, deadlineMs);
      const probe = isUnused ? findProbe(situation, estimate, best) : undefined;
      if (probe !== undefined) {
        exploration.begin();
        best = probe;
      } else if (!isUnused) exploration.used();
      const wanted = spans.weigh({
        best: (cut) => weighed.byCut[cut]?.utility,
        taken: best,
        inUse: best === undefined ? 0 : cutOf(manifest, best),
        intervalMs: interval.meanMs,
        bytesPerSecond: estimate.bytesPerSecond,
      });
      const candidatesBestFirst = (): PricedPlan[] => weighed.all().sort((a, b) => b.utility - a.utility);
      const common = { candidates: candidatesBestFirst, ...wanted };
      if (best === undefined || (probe === undefined && isUseless(best, deadlineMs))) {
        const reason = whyNothing(best, estimate, deadlineMs);
        return { plan: { kind: 'skip' }, reason, isFeasible: false, predicted: null, ...common };
      }
      const cut = cutOf(manifest, best);
      if (last?.cut !== cut && probe === undefined) last = { cut, sinceMs: nowMs };
      return {
        plan: best.plan,
        reason: `${probe === undefined ? '' : 'to see what the link carries: '}${describe(best, estimate, deadlineMs)}`,
        isFeasible: isFeasible(constraints, best),
        predicted: best,
        ...common,
      };
    },
    codecs: (from) => [
      ...new Set(
        candidates.flatMap(({ plan }) => (plan.kind === 'split' && plan.from === from ? [plan.codec] : [])),
      ),
    ],
    dropped: ({ capturedMs }) => interval.add(capturedMs),
    spanReady: spans.ready,
    spanDropped: spans.dropped,
    ran: profile.ran,
    encoded: profile.encoded,
    sent(packet) {
      budget.take(packet.numBytes);
      link.sent(packet);
    },
    arrived: link.arrived,
    answered: profile.answered,
    abandoned: link.abandoned,
    roundTrip: link.roundTrip,
    buffered: link.buffered,
    linkState: link.setUp,
    get estimate() {
      return link.estimate();
    },
  };

  /** Too late in all likelihood, and in the way of the next frame. */
  function isUseless({ inTime }: PricedPlan, deadlineMs: number): boolean {
    return deadlineMs !== Infinity && inTime < tuning.skipBelow;
  }

  /** What to send over a link that seems of no use: the best for one that is better than it seems. */
  function findProbe(
    situation: Omit<Situation, 'link'>,
    link: LinkEstimate,
    best: PricedPlan | undefined,
  ): PricedPlan | undefined {
    if (link.phase === 'dead' || link.queuedBytes > 0) return undefined;
    // It costs a frame that the device could answer; one that would be skipped costs nothing.
    const isCostly = best?.plan.kind === 'local' && !isUseless(best, situation.deadlineMs);
    if (isCostly && !exploration.isDue()) return undefined;
    // Were it better, by how much ever it takes, what would be sent? No more than it usually carries in that time.
    let bytesPerSecond = link.usualBytesPerSecond ?? unknownBytesPerSecond;
    const smallest = candidates.reduce(
      (least, { plan, numBytes }) =>
        plan.kind === 'split' && spans.isReady(plan.from) ? Math.min(least, numBytes) : least,
      Infinity,
    );
    const maxBytes = Math.max(2 * smallest, (bytesPerSecond * situation.deadlineMs) / 1000);
    for (let i = 0; i < maxExploreSteps; i++) {
      bytesPerSecond *= tuning.exploreFactor;
      const found = bestAmong(
        weigh({ ...situation, link: { ...link, bytesPerSecond, stalledMs: 0 } }, maxBytes),
        constraints,
        (cut) => spans.isReady(cut),
        ({ plan }) => plan.kind === 'split',
      );
      if (found === undefined) return undefined;
      if (isCostly && i === 0 && !isWorthMore(found, best, tuning.minGain)) return undefined;
      if (found.inTime < tuning.skipBelow) continue;
      const candidate = candidates.find(({ plan }) => plan === found.plan);
      return candidate && pricePlan(candidate, { ...situation, link }, objective);
    }
    return undefined;
  }
}

function whyNothing(best: PricedPlan | undefined, { phase }: LinkEstimate, deadlineMs: number): string {
  if (best === undefined) return 'nothing can be sent now, and the device holds no span that answers alone';
  if (phase === 'dead') return 'the link is dead';
  return `no answer within ${deadlineMs.toFixed(0)} ms is to be expected`;
}

const cutOf = (manifest: Manifest, { plan }: PricedPlan): number =>
  plan.kind === 'local' ? manifest.cuts.length - 1 : plan.from;

function isWorthMore(a: PricedPlan, b: PricedPlan, share: number): boolean {
  return a.utility - b.utility > share * Math.max(Math.abs(a.utility), Math.abs(b.utility));
}

function describe(priced: PricedPlan, { bytesPerSecond, phase }: LinkEstimate, deadlineMs: number): string {
  const rate = bytesPerSecond === null ? 'unknown' : `${((8 * bytesPerSecond) / 1e6).toFixed(2)} Mbit/s`;
  const chance =
    deadlineMs === Infinity ? '' : `, ${(100 * priced.inTime).toFixed(0)} % in ${deadlineMs.toFixed(0)}`;
  const expected = `quality ${priced.quality.toFixed(3)}, ${priced.totalMs.toFixed(0)} ms${chance}`;
  return priced.plan.kind === 'local'
    ? `${expected}, on the device`
    : `${expected}, link ${phase} at ${rate}`;
}
