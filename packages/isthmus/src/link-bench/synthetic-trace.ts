import { exponential, normal } from './random.js';
import { createLinkTrace, type LinkTrace, type TraceSegment } from './trace.js';

/** One condition of a synthetic link. */
interface State {
  /** Share of the time spent in it. */
  share: number;
  /** Mean time until it changes. */
  dwellMs: number;
  /** Median of the rate in Mbit/s, drawn anew whenever the state is entered; 0 is an outage. */
  rateMbps: number;
  /** Standard deviation of the logarithm of that rate. */
  spread: number;
}

interface SyntheticLink {
  delayMs: number;
  states: readonly State[];
  /** Standard deviation of the logarithm of the rate from one tenth of a second to the next, around the state's. */
  jitter: number;
  /** Nothing is carried so long every so often: a handover by schedule. */
  handover?: { everyMs: number; durationMs: number };
  /** 5 %, 50 % and 95 % of the rate in bins of a second that the states were chosen for, Mbit/s. */
  intended: readonly [number, number, number];
}

/** Kinds of synthetic uplinks, by name; `step` comes on top. */
export type SyntheticKind = '3g' | 'lte' | 'lte-poor' | '5g' | 'wifi' | 'satellite';

/**
 * Markov-modulated uplinks: states of exponential dwell times with log-normal rates. The cellular ones before 5G are
 * fitted to percentiles, over bins of a second, of the uplinks that Winstein et al. recorded while driving (Sprout,
 * NSDI 2013; distributed with Mahimahi): `lte` Verizon's, `lte-poor` AT&T's, `3g` T-Mobile's UMTS. The others are chosen,
 * not fitted:
 *
 * - `5g`: a mid-band cell seen from a moving car: tens of Mbit/s, with stretches on LTE or without coverage, as
 *   Ghoshal et al. found along American roads ("Performance of Cellular Networks on the Wheels", IMC 2023).
 * - `wifi`: a home or an office on 802.11ac some rooms away, shared: fast, at times in contention, rarely gone.
 * - `satellite`: low orbit; the round trip of 40–60 ms is from Michel et al. ("A First Look at Starlink Performance",
 *   IMC 2022), the rhythm of 15 s from Mohan et al. ("A Multifaceted Look at Starlink Performance", WWW 2024).
 */
export const syntheticLinks: Readonly<Record<SyntheticKind, SyntheticLink>> = {
  '3g': {
    delayMs: 50,
    states: [
      { share: 0.03, dwellMs: 4_000, rateMbps: 0, spread: 0 },
      { share: 0.04, dwellMs: 4_000, rateMbps: 0.09, spread: 0.5 },
      { share: 0.12, dwellMs: 4_000, rateMbps: 0.6, spread: 0.5 },
      { share: 0.81, dwellMs: 12_000, rateMbps: 1.13, spread: 0.15 },
    ],
    jitter: 0.15,
    intended: [0.06, 1.08, 1.44],
  },
  lte: {
    delayMs: 25,
    states: [
      { share: 0.005, dwellMs: 700, rateMbps: 0, spread: 0 },
      { share: 0.17, dwellMs: 3_000, rateMbps: 1.5, spread: 0.55 },
      { share: 0.5, dwellMs: 5_000, rateMbps: 5.4, spread: 0.3 },
      { share: 0.325, dwellMs: 4_000, rateMbps: 8.8, spread: 0.2 },
    ],
    jitter: 0.25,
    intended: [1.15, 5.65, 11.4],
  },
  'lte-poor': {
    delayMs: 35,
    states: [
      { share: 0.1, dwellMs: 4_000, rateMbps: 0, spread: 0 },
      { share: 0.15, dwellMs: 4_000, rateMbps: 0.5, spread: 0.5 },
      { share: 0.75, dwellMs: 20_000, rateMbps: 1.07, spread: 0.06 },
    ],
    jitter: 0.1,
    intended: [0, 1.04, 1.19],
  },
  '5g': {
    delayMs: 12,
    states: [
      { share: 0.01, dwellMs: 600, rateMbps: 0, spread: 0 },
      { share: 0.24, dwellMs: 5_000, rateMbps: 6, spread: 0.5 },
      { share: 0.5, dwellMs: 6_000, rateMbps: 25, spread: 0.4 },
      { share: 0.25, dwellMs: 4_000, rateMbps: 55, spread: 0.3 },
    ],
    jitter: 0.25,
    intended: [4, 23, 70],
  },
  wifi: {
    delayMs: 3,
    states: [
      { share: 0.005, dwellMs: 400, rateMbps: 0, spread: 0 },
      { share: 0.145, dwellMs: 1_500, rateMbps: 8, spread: 0.6 },
      { share: 0.85, dwellMs: 8_000, rateMbps: 45, spread: 0.35 },
    ],
    jitter: 0.2,
    intended: [7, 40, 78],
  },
  satellite: {
    delayMs: 25,
    states: [
      { share: 0.015, dwellMs: 900, rateMbps: 0, spread: 0 },
      { share: 0.185, dwellMs: 5_000, rateMbps: 6, spread: 0.4 },
      { share: 0.8, dwellMs: 15_000, rateMbps: 14, spread: 0.3 },
    ],
    jitter: 0.2,
    handover: { everyMs: 15_000, durationMs: 60 },
    intended: [4.5, 12.5, 21.5],
  },
};

const stepMs = 100;

/**
 * A random uplink of a kind, the same for the same random numbers.
 *
 * @example
 * ```ts
 * const trace = createSyntheticTrace('lte', { durationMs: 60_000, random: createRandom(1) });
 * ```
 */
export function createSyntheticTrace(
  kind: SyntheticKind,
  { durationMs, random }: { durationMs: number; random: () => number },
): LinkTrace {
  const { states, jitter, delayMs, handover } = syntheticLinks[kind];
  const segments: TraceSegment[] = [];
  let state = pick(states, random);
  let leftMs = 0;
  let rateMbps = 0;
  for (let atMs = 0; atMs < durationMs; atMs += stepMs) {
    if (leftMs <= 0) {
      state = pick(states, random);
      // Whole steps, at least one, so that short dwells keep their share.
      leftMs = Math.max(stepMs, exponential(random, state.dwellMs));
      rateMbps = state.rateMbps * Math.exp(state.spread * normal(random));
    }
    leftMs -= stepMs;
    const wobble = Math.exp(jitter * normal(random) - jitter ** 2 / 2);
    const lostMs = handover !== undefined && atMs % handover.everyMs < stepMs ? handover.durationMs : 0;
    if (lostMs > 0) segments.push({ durationMs: lostMs, rateBps: 0 });
    segments.push({ durationMs: stepMs - lostMs, rateBps: 1e6 * rateMbps * wobble });
  }
  return createLinkTrace({ name: `synthetic:${kind}`, kind: `synthetic:${kind}`, segments, delayMs });
}

// States are entered in proportion to their share over their dwell time, so that the time spent is their share.
function pick(states: readonly State[], random: () => number): State {
  const weights = states.map(({ share, dwellMs }) => share / dwellMs);
  let left = random() * weights.reduce((sum, weight) => sum + weight, 0);
  for (const [index, state] of states.entries()) {
    left -= weights[index] ?? 0;
    if (left < 0) return state;
  }
  return states[states.length - 1]!;
}

/**
 * The worst that can happen to a controller, on schedule: 10 Mbit/s for twenty seconds, a twentieth of it for ten, back
 * for ten, nothing for five, back for fifteen.
 */
export function createStepTrace(): LinkTrace {
  return createLinkTrace({
    name: 'synthetic:step',
    kind: 'synthetic:step',
    segments: [
      { durationMs: 20_000, rateBps: 10e6 },
      { durationMs: 10_000, rateBps: 0.5e6 },
      { durationMs: 10_000, rateBps: 10e6 },
      { durationMs: 5_000, rateBps: 0 },
      { durationMs: 15_000, rateBps: 10e6 },
    ],
    delayMs: 20,
  });
}
