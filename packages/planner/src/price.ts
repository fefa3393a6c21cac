import type { Candidate } from './candidates.js';
import { type EnergyModel, joulesOf } from './energy.js';
import type { LinkEstimate } from './link.js';
import { type Objective, utilityOf } from './objective.js';
import type { Plan } from './plan.js';
import type { Profile } from './profile.js';

/** A plan with what it is expected to take, for the frame at hand. */
export interface PricedPlan {
  plan: Plan;
  /** Running the span, and encoding. */
  deviceMs: number;
  encodeMs: number;
  /** Waiting for what is on the link already, sending, and the round trip. */
  linkMs: number;
  /** Waiting, decoding and running at the receiver. */
  cloudMs: number;
  /** From capture to answer. */
  totalMs: number;
  /** Probability that `totalMs` is at most the deadline; 1 without one. */
  inTime: number;
  /** Share of the frames that can be answered like this, one stage being slower than frames come. */
  share: number;
  /** Sent over the link. */
  numBytes: number;
  /** What comes back over it. */
  answerBytes: number;
  /** Expected, 0…1. */
  quality: number;
  /** Of the device. */
  joules: number;
  /** Memory of the device: of the span, and of the codec's encoder. */
  deviceBytes: number;
  /** By the objective; see `utilityOf`. */
  utility: number;
}

/** What all plans for a frame have in common. */
export interface Situation {
  link: LinkEstimate;
  profile: Profile;
  energy: EnergyModel;
  /** Since the frame was captured, and until the device can begin with it. */
  waitMs: number;
  /** From capture; Infinity for none. */
  deadlineMs: number;
  /** Between frames; 0 when only one is known. */
  intervalMs: number;
}

// Taken until something has been measured: an ordinary mobile uplink.
export const unknownBytesPerSecond = 250_000;
const unknownRoundTripMs = 40;
// Timers, schedulers and the way through the sockets.
const restMs = 1;
// The logistic distribution that is closest to the normal one; its tails are heavier, as are those of links.
const logisticScale = 1.702;

/**
 * Prices a plan: expected time in each stage, and the probability to meet the deadline. The rate of the link is taken
 * as log-normal around the estimate, with the spread its estimator has seen; so the probability is that of a rate that
 * carries the backlog and the packet in the time which the other stages leave.
 */
export function pricePlan(candidate: Candidate, situation: Situation, objective: Objective): PricedPlan {
  const { link, profile, energy, waitMs, deadlineMs, intervalMs } = situation;
  const { plan, deviceCut, quality, deviceBytes, answerBytes } = candidate;
  const finish = (priced: PricedPlan): PricedPlan => {
    priced.utility = utilityOf(objective, priced);
    return priced;
  };
  const deviceMs = profile.deviceMs(deviceCut);
  if (plan.kind === 'local') {
    const totalMs = waitMs + deviceMs;
    const deviation = profile.spread * deviceMs + restMs;
    return finish({
      plan,
      deviceMs,
      encodeMs: 0,
      linkMs: 0,
      cloudMs: 0,
      totalMs,
      inTime: deadlineMs === Infinity ? 1 : logistic((deadlineMs - totalMs) / deviation),
      share: shareOf(intervalMs, deviceMs),
      numBytes: 0,
      answerBytes,
      quality,
      joules: joulesOf(energy, { computeMs: deviceMs, sendMs: 0, waitMs: 0, numBytes: 0 }),
      deviceBytes,
      utility: 0,
    });
  }
  const numBytes =
    candidate.bytesSpread > 0 ? profile.bytes(candidate.coder, candidate.numBytes) : candidate.numBytes;
  const encodeMs = profile.encodeMs(candidate.coder, candidate.encodeMs);
  const bytesPerMs = (link.bytesPerSecond ?? unknownBytesPerSecond) / 1000;
  const roundTripMs = link.roundTripMs ?? unknownRoundTripMs;
  // The link goes on emptying while the device computes.
  const aheadBytes = Math.max(0, link.queuedBytes - bytesPerMs * (deviceMs + encodeMs));
  const linkBytes = Math.max(numBytes, link.leastBytes);
  const sendMs = linkBytes / bytesPerMs;
  const linkMs = aheadBytes / bytesPerMs + sendMs + roundTripMs;
  const serviceMs = profile.decodeMs(candidate.coder, candidate.decodeMs) + profile.cloudMs(plan.to);
  const cloudMs = profile.queueMs() + serviceMs;
  const totalMs = waitMs + deviceMs + encodeMs + linkMs + cloudMs;
  const leftMs = deadlineMs - waitMs - deviceMs - encodeMs - cloudMs - roundTripMs;
  const deviationMs = Math.sqrt(
    (profile.spread * (deviceMs + encodeMs)) ** 2 + (profile.cloudSpread * cloudMs) ** 2 + restMs ** 2,
  );
  const ownShare = linkBytes / (aheadBytes + linkBytes);
  // Math.hypot takes several times as long, and this is where planning spends its time.
  const spread = Math.sqrt(link.spread ** 2 + (candidate.bytesSpread * ownShare) ** 2);
  return finish({
    plan,
    deviceMs,
    encodeMs,
    linkMs,
    cloudMs,
    totalMs,
    inTime:
      deadlineMs === Infinity ? 1 : chanceInTime(link, aheadBytes + linkBytes, leftMs, deviationMs, spread),
    share: shareOf(intervalMs, Math.max(deviceMs + encodeMs, sendMs, serviceMs)),
    numBytes,
    answerBytes,
    quality,
    joules: joulesOf(energy, {
      computeMs: deviceMs + encodeMs,
      sendMs,
      waitMs: linkMs - sendMs + cloudMs,
      numBytes,
    }),
    deviceBytes,
    utility: 0,
  });
}

// Points and weights of the Gauss–Hermite quadrature of third order.
const threePoints = [
  [-Math.sqrt(3), 1 / 6],
  [0, 2 / 3],
  [Math.sqrt(3), 1 / 6],
] as const;

/** The probability that the link carries so many bytes in what the other stages leave, which is not quite certain. */
function chanceInTime(
  link: LinkEstimate,
  numBytes: number,
  leftMs: number,
  deviationMs: number,
  spread: number,
): number {
  if (link.isDown) return 0;
  let chance = 0;
  for (const [point, weight] of threePoints) {
    const ms = leftMs + point * deviationMs;
    if (ms > 0) chance += weight * chanceToCarry(link, numBytes, ms, spread);
  }
  return chance;
}

// Thirds of a distribution, each by its middle.
const middles = [1 / 6, 1 / 2, 5 / 6];

/**
 * The probability that the link carries so many bytes in the time left. While something is overdue, either the link has
 * become slow, as slow as that shows, or it stands still and will go on as before: a pause of unknown length that has
 * lasted so long ends within `t` with a chance of `t / (t + lasted)`.
 */
function chanceToCarry(link: LinkEstimate, numBytes: number, leftMs: number, spread: number): number {
  const now = carries(link.bytesPerSecond ?? unknownBytesPerSecond, numBytes, leftMs, spread);
  if (link.stalledMs <= 0 || link.usualBytesPerSecond === null) return now;
  let chance = 0;
  for (const middle of middles) {
    const pauseMs = (link.stalledMs * middle) / (1 - middle);
    const resumed = carries(link.usualBytesPerSecond, numBytes, leftMs - pauseMs, spread);
    chance += Math.max(now, resumed) / middles.length;
  }
  return chance;
}

// The logistic function of the logarithm of how many times over there is time enough.
function carries(bytesPerSecond: number, numBytes: number, leftMs: number, spread: number): number {
  if (leftMs <= 0) return 0;
  return 1 / (1 + ((1000 * numBytes) / (bytesPerSecond * leftMs)) ** (logisticScale / spread));
}

const shareOf = (intervalMs: number, stageMs: number): number =>
  stageMs > intervalMs && intervalMs > 0 ? intervalMs / stageMs : 1;

const logistic = (z: number): number => 1 / (1 + Math.exp(-logisticScale * z));
