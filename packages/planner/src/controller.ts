import { type Clock, IsthmusError, type Manifest } from '@isthmus/core';
import { createByteBudget } from './byte-budget.js';
import { listCandidates } from './candidates.js';
import { type EnergyModel, energyPresets } from './energy.js';
import { createExploration } from './exploration.js';
import { createLinkEstimator, type LinkEstimate, type LinkTuning, type PacketArrival } from './link.js';
import { type Constraints, isFeasible, type Objective, utilityOf } from './objective.js';
import type { Plan, SplitPlan } from './plan.js';
import { type PricedPlan, pricePlan, type Situation } from './price.js';
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
  /** All that was weighed, best first. */
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
  /** Time that a cut is kept, unless it stops being feasible. */
  dwellMs: number;
  /** Below this probability to be in time, nothing is sent: it would only be in the way of the next frame. */
  skipBelow: number;
  /**
   * Least time between frames that are sent, in the fewest bytes, while all would be skipped: what is known of a link
   * that carries nothing never gets better.
   */
  lookMs: number;
  /** Least time between frames that are sent larger to see what a link carries; doubled when it carries no more. */
  exploreMs: number;
  maxExploreMs: number;
  /** What the link is then taken to carry, times the estimate. */
  exploreFactor: number;
  /** Quality that must be there to be found. */
  exploreGain: number;
  link: Partial<LinkTuning>;
  spans: Partial<SpanTuning>;
}

export const defaultControllerTuning: ControllerTuning = {
  minGain: 0.02,
  dwellMs: 500,
  skipBelow: 0.05,
  lookMs: 500,
  exploreMs: 1_000,
  maxExploreMs: 30_000,
  exploreFactor: 4,
  exploreGain: 0.005,
  link: {},
  spans: {},
};

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
  const spans = createSpanChoice({ manifest, clock, constraints, tuning: tuning.spans });
  const interval = createInterval();
  const exploration = createExploration(clock, tuning);
  let sentMs = -Infinity;
  let last: { cut: number; sinceMs: number } | undefined;

  const weigh = (situation: Situation): PricedPlan[] =>
    candidates.map((candidate) => {
      const priced = pricePlan(candidate, situation);
      const whole: PricedPlan = { ...priced, utility: 0 };
      whole.utility = utilityOf(objective, whole);
      return whole;
    });

  const isAllowed = (priced: PricedPlan): boolean => priced.numBytes <= budget.bytes;

  /** The best that keeps the constraints, or else the least bad, at the cuts given. */
  const bestOf = (all: readonly PricedPlan[], cuts: (cut: number) => boolean): PricedPlan | undefined => {
    let best: PricedPlan | undefined;
    let bestRank = -1;
    for (const [at, priced] of all.entries()) {
      if (!cuts(candidates[at]?.deviceCut ?? 0) || !isAllowed(priced)) continue;
      const rank = isFeasible(constraints, priced) ? 1 : 0;
      const isBetter =
        best === undefined ||
        rank > bestRank ||
        (rank === bestRank && (rank === 1 ? priced.utility > best.utility : isLessBad(priced, best)));
      if (isBetter) {
        best = priced;
        bestRank = rank;
      }
    }
    return best;
  };

  return {
    decide(frame = {}) {
      const nowMs = clock.now();
      const capturedMs = frame.capturedMs ?? nowMs;
      interval.add(capturedMs);
      const estimate = link.estimate();
      const deadlineMs = Math.min(frame.deadlineMs ?? Infinity, constraints.deadlineMs ?? Infinity);
      const waitMs = nowMs - capturedMs + Math.max(0, (frame.deviceFreeMs ?? nowMs) - nowMs);
      const situation = { profile, energy, waitMs, deadlineMs, intervalMs: interval.meanMs };
      const all = weigh({ ...situation, link: estimate });
      let best = bestOf(all, spans.isReady);
      const lastCut = last?.cut;
      if (best !== undefined && last !== undefined && cutOf(manifest, best) !== lastCut) {
        const stay = bestOf(all, (cut) => cut === lastCut && spans.isReady(cut));
        const isKept = stay !== undefined && isFeasible(constraints, stay);
        const dwells = nowMs - last.sinceMs < tuning.dwellMs;
        if (isKept && (dwells || !isWorthMore(best, stay, tuning.minGain))) best = stay;
      }
      const bold = best === undefined ? undefined : findBolder(best, all, situation, estimate);
      if (bold !== undefined) {
        exploration.begin(estimate);
        best = bold;
      }
      const wanted = spans.weigh({
        best: (cut) => bestOf(all, (one) => one === cut)?.utility,
        taken: best,
        inUse: best === undefined ? 0 : cutOf(manifest, best),
        intervalMs: interval.meanMs,
        bytesPerSecond: estimate.bytesPerSecond,
      });
      const common = { candidates: () => [...all].sort((a, b) => b.utility - a.utility), ...wanted };
      let skipReason = bold === undefined ? whyToSkip(best, estimate, deadlineMs) : undefined;
      const look = skipReason === undefined ? undefined : findSmallest(all, situation, estimate);
      if (look !== undefined) {
        skipReason = undefined;
        best = look;
      }
      if (best === undefined || skipReason !== undefined) {
        const reason =
          skipReason ?? 'nothing can be sent now, and the device holds no span that answers alone';
        return { plan: { kind: 'skip' }, reason, isFeasible: false, predicted: null, ...common };
      }
      const cut = cutOf(manifest, best);
      if (last?.cut !== cut && bold === undefined && look === undefined) last = { cut, sinceMs: nowMs };
      return {
        plan: best.plan,
        reason: `${bold === undefined && look === undefined ? '' : 'to see what the link carries: '}${describe(best, estimate, deadlineMs)}`,
        isFeasible: isFeasible(constraints, best),
        predicted: best,
        ...common,
      };
    },
    dropped: ({ capturedMs }) => interval.add(capturedMs),
    spanReady: spans.ready,
    spanDropped: spans.dropped,
    ran: profile.ran,
    encoded: profile.encoded,
    sent(packet) {
      budget.take(packet.numBytes);
      sentMs = clock.now();
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

  /** What tells most cheaply whether a link that had nothing to carry for a while is still as bad as it was. */
  function findSmallest(
    all: readonly PricedPlan[],
    situation: Omit<Situation, 'link'>,
    link: LinkEstimate,
  ): PricedPlan | undefined {
    if (link.phase === 'dead' || link.queuedBytes > 0) return undefined;
    if (clock.now() - sentMs < tuning.lookMs) return undefined;
    // Where computing alone takes too long, no link helps.
    const perfect = { ...link, bytesPerSecond: perfectBytesPerSecond };
    const atBest = bestOf(weigh({ ...situation, link: perfect }), spans.isReady);
    if (atBest === undefined || atBest.inTime < tuning.skipBelow) return undefined;
    const sendable = all.filter(
      (priced) => priced.plan.kind === 'split' && isAllowed(priced) && spans.isReady(cutOf(manifest, priced)),
    );
    return sendable.reduce<PricedPlan | undefined>(
      (least, priced) => (least === undefined || priced.numBytes < least.numBytes ? priced : least),
      undefined,
    );
  }

  /** The plan that a faster link would be given, if it is a better one; at the price that is to be expected. */
  function findBolder(
    best: PricedPlan,
    all: readonly PricedPlan[],
    situation: Omit<Situation, 'link'>,
    link: LinkEstimate,
  ): PricedPlan | undefined {
    if (!exploration.isDue(link)) return undefined;
    const bytesPerSecond = (link.bytesPerSecond ?? 0) * tuning.exploreFactor;
    const bolder = bestOf(weigh({ ...situation, link: { ...link, bytesPerSecond } }), spans.isReady);
    if (bolder === undefined || bolder.quality <= best.quality + tuning.exploreGain) return undefined;
    return all.find(({ plan }) => plan === bolder.plan);
  }

  function whyToSkip(
    best: PricedPlan | undefined,
    { phase }: LinkEstimate,
    deadlineMs: number,
  ): string | undefined {
    if (best === undefined || deadlineMs === Infinity || best.inTime >= tuning.skipBelow) return undefined;
    if (phase === 'dead') return 'the link is dead';
    return `no answer within ${deadlineMs.toFixed(0)} ms is to be expected`;
  }
}

const perfectBytesPerSecond = 1e9;

const cutOf = (manifest: Manifest, { plan }: PricedPlan): number =>
  plan.kind === 'local' ? manifest.cuts.length - 1 : plan.from;

function isWorthMore(a: PricedPlan, b: PricedPlan, share: number): boolean {
  return a.utility - b.utility > share * Math.max(Math.abs(a.utility), Math.abs(b.utility));
}

// When nothing is feasible: rather in time than good.
function isLessBad(a: PricedPlan, b: PricedPlan): boolean {
  const [x, y] = [a.inTime * a.quality, b.inTime * b.quality];
  return x === y ? a.totalMs < b.totalMs : x > y;
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

interface Interval {
  readonly meanMs: number;
  add(capturedMs: number): void;
}

const intervalWeight = 0.2;
// A longer pause is not the pace of a camera.
const longestIntervalMs = 2_000;

function createInterval(): Interval {
  let lastMs: number | undefined;
  let meanMs = 0;
  return {
    get meanMs() {
      return meanMs;
    },
    add(capturedMs) {
      const sinceMs = lastMs === undefined ? Infinity : capturedMs - lastMs;
      lastMs = capturedMs;
      if (sinceMs <= 0 || sinceMs > longestIntervalMs) return;
      meanMs = meanMs === 0 ? sinceMs : meanMs + intervalWeight * (sinceMs - meanMs);
    },
  };
}
