import { type Clock, maxChunkBytes } from '@isthmus/core';

/**
 * `start-up`: nothing was measured yet. `steady`: what arrives is as expected. `degrade`: something is overdue.
 * `probe`: back from `dead` or long idle, and not yet measured anew. `dead`: nothing gets through.
 */
export type LinkPhase = 'start-up' | 'steady' | 'degrade' | 'probe' | 'dead';

/** What is known about the way to the receiver; null where nothing was observed yet. */
export interface LinkEstimate {
  phase: LinkPhase;
  /** Goodput of the uplink, bytes per second; careful: of a quick and a slow average the lower. */
  bytesPerSecond: number | null;
  /** The same without regard to what is overdue now: what the link did before, and may do again. */
  usualBytesPerSecond: number | null;
  /** Whether there is no socket. */
  isDown: boolean;
  /** For how long something has been overdue; 0 when nothing is. */
  stalledMs: number;
  /** Standard deviation of the natural logarithm of what the rate will be over what is expected. */
  spread: number;
  /** Round trip of a small message, the least of the recent ones, in milliseconds. */
  roundTripMs: number | null;
  /** Bytes handed to the link that have probably not left it yet. */
  queuedBytes: number;
  /** Smaller packets take as long as one of this size, as far as is known. */
  leastBytes: number;
  /** Whether the last packet only showed what the link can do at least: it may carry much more. */
  isLimited: boolean;
}

/** The part of an `arrived` message that tells of the link; times on the receiver's clock. */
export interface PacketArrival {
  id: number;
  numBytes: number;
  /** When the first chunk had come. */
  firstMs: number;
  /** When the last had. */
  lastMs: number;
}

export interface LinkEstimator {
  /** A packet was handed to the link. */
  sent(packet: { id: number; numBytes: number }): void;
  /** The receiver says that a packet came in whole. */
  arrived(arrival: PacketArrival): void;
  /** No more of a packet will be sent; `unsentBytes` never left. */
  abandoned(packet: { id: number; unsentBytes: number }): void;
  /** A small message was answered after `durationMs`. */
  roundTrip(durationMs: number): void;
  /** Bytes the socket holds now: more than expected is a sign of congestion. */
  buffered(numBytes: number): void;
  /** The socket is gone, or there is one again. */
  setUp(isUp: boolean): void;
  estimate(): LinkEstimate;
}

/** Named so that they can be changed; times in milliseconds. */
export interface LinkTuning {
  fastHalfLifeMs: number;
  slowHalfLifeMs: number;
  /** What the measurement of one packet may be off by, from timers and other traffic. */
  noiseMs: number;
  /** What a packet that was no trouble at all raises the estimate by; up to so many times what it has shown. */
  growth: number;
  maxGrowth: number;
  /** A packet that took so many times what was expected, and this long on top, may have met a pause. */
  stallFactor: number;
  minStallMs: number;
  /** Overdue by so many times what was expected, and nothing is believed to get through. */
  deadFactor: number;
  /** The factor's product is held between these. */
  minDeadMs: number;
  maxDeadMs: number;
  /** Variance of the logarithm of the rate that a second without measurement adds. */
  idleVariancePerSecond: number;
  minSpread: number;
  maxSpread: number;
}

export const defaultLinkTuning: LinkTuning = {
  fastHalfLifeMs: 250,
  slowHalfLifeMs: 1_500,
  noiseMs: 2,
  growth: 2,
  maxGrowth: 4,
  stallFactor: 3,
  minStallMs: 50,
  deadFactor: 4,
  minDeadMs: 250,
  maxDeadMs: 1_000,
  idleVariancePerSecond: 0.02,
  minSpread: 0.08,
  maxSpread: 1.5,
};

const numRoundTrips = 16;
// So many packets in a row much faster than expected are no accident.
const surprises = 3;
const surpriseAbove = 0.3;
const startSpread = 0.5;
const spreadWeight = 0.1;
// Links carry frames of about this size, and let one through at a time, which may take so long to be its turn: what is
// smaller is not there sooner. What takes longer is a matter of bytes.
const linkFrameBytes = 1_500;
const linkFrameMs = 60;
const sizeWeight = 0.2;
const bytesPerSecondRange = [1, 1e10] as const;

interface Pending {
  id: number;
  numBytes: number;
  sentMs: number;
  /** What was expected when it was sent; null when nothing was known. */
  expected: number | null;
  /** Only a part of it is on its way: it will never be said to have arrived. */
  isPartial: boolean;
}

/**
 * Estimates rate and round trip apart from each other, so that the latency of a small packet is never taken for a
 * low rate. A packet of many chunks shows its rate between its first and its last chunk; one of few by the time from
 * when the link was free for it until it was acknowledged, less the round trip. If that is no more than noise, the
 * packet only shows what the link can do at least: such samples, limited by what there was to send, may raise the
 * estimate, never lower it.
 *
 * Averages are of the rate's logarithm. Of a quick and a slow one the lower counts: down at once, up when it lasts (as
 * in dash.js and Shaka Player). What has not arrived counts as well: a packet that is overdue bounds the rate from
 * above, the more the longer it takes, so that a collapse is believed before anything has come through.
 *
 * @example
 * ```ts
 * const link = createLinkEstimator({ clock });
 * link.roundTrip(20);
 * link.sent({ id: 1, numBytes: 10_000 });
 * clock.advance(120);
 * link.arrived({ id: 1, numBytes: 10_000, firstMs: 0, lastMs: 0 });
 * link.estimate().bytesPerSecond; // 100_000
 * ```
 */
export function createLinkEstimator(options: { clock: Clock; tuning?: Partial<LinkTuning> }): LinkEstimator {
  const { clock } = options;
  const tuning = { ...defaultLinkTuning, ...options.tuning };
  let pending: Pending[] = [];
  let fast: number | undefined;
  let slow = 0;
  let variance = startSpread ** 2;
  let sampledMs = clock.now();
  // When the link had finished what came before, as the device can tell: a round trip late.
  let freeMs = clock.now();
  let numSurprises = 0;
  let isDown = false;
  let wasDead = false;
  // What the average was before a packet that stood still, until the next one shows whether that still holds.
  let doubted: number | undefined;
  let bufferedBytes = 0;
  let isLimited = false;
  let smallBytes = 0;
  const roundTrips: number[] = [];

  const leastRoundTripMs = (): number | null => (roundTrips.length > 0 ? Math.min(...roundTrips) : null);
  const addRoundTrip = (durationMs: number): void => {
    roundTrips.push(Math.max(0, durationMs));
    if (roundTrips.length > numRoundTrips) roundTrips.shift();
  };
  const average = (): number | undefined => (fast === undefined ? undefined : Math.min(fast, slow));

  /** How long the packet that is on its way has taken beyond the round trip, and its size. */
  const oldest = (): { packet: Pending; elapsedMs: number } | undefined => {
    const [packet] = pending;
    if (packet === undefined) return undefined;
    const startMs = Math.max(packet.sentMs + (leastRoundTripMs() ?? 0), freeMs);
    return { packet, elapsedMs: clock.now() - startMs };
  };

  const isOverdue = (): boolean => {
    const head = oldest();
    if (head === undefined) return false;
    const expectedMs = (1000 * head.packet.numBytes) / (head.packet.expected ?? Infinity);
    const patienceMs = tuning.deadFactor * (expectedMs + (leastRoundTripMs() ?? 0));
    return head.elapsedMs - expectedMs > Math.min(tuning.maxDeadMs, Math.max(tuning.minDeadMs, patienceMs));
  };

  /** The link was not what limited this packet: it may carry more, and larger packets will show it. */
  const grow = (shown: number, known: number): number | undefined => {
    const grown = Math.max(shown, Math.min(known * tuning.growth, shown * tuning.maxGrowth));
    return grown > known ? grown : undefined;
  };

  const add = (bytesPerSecond: number, expected: number | null): void => {
    const [least, most] = bytesPerSecondRange;
    const rate = Math.log(Math.min(most, Math.max(least, bytesPerSecond)));
    const nowMs = clock.now();
    const before = doubted ?? average();
    if (before === undefined || wasDead || doubted !== undefined) {
      // What was held up comes in a burst; only the next packets show whether there is more than before.
      fast = Math.min(rate, before ?? rate);
      slow = fast;
      variance = Math.max(variance, startSpread ** 2);
      doubted = undefined;
    } else {
      const error = rate - (expected === null ? before : Math.log(expected));
      variance += spreadWeight * (Math.min(error ** 2, tuning.maxSpread ** 2) - variance);
      const waitMs = Math.max(1, nowMs - sampledMs);
      fast = (fast ?? rate) + (1 - 0.5 ** (waitMs / tuning.fastHalfLifeMs)) * (rate - (fast ?? rate));
      slow += (1 - 0.5 ** (waitMs / tuning.slowHalfLifeMs)) * (rate - slow);
      numSurprises = rate > slow + Math.min(surpriseAbove, Math.sqrt(variance)) ? numSurprises + 1 : 0;
      if (numSurprises >= surprises) slow = Math.max(slow, fast);
    }
    wasDead = false;
    sampledMs = nowMs;
  };

  return {
    sent({ id, numBytes }) {
      const known = average();
      pending.push({
        id,
        numBytes,
        sentMs: clock.now(),
        expected: known === undefined ? null : Math.exp(known),
        isPartial: false,
      });
    },
    arrived({ id, numBytes, firstMs, lastMs }) {
      const nowMs = clock.now();
      const packet = pending.find((one) => one.id === id);
      const sentMs = packet?.sentMs ?? nowMs;
      // Nothing is acknowledged sooner than a round trip after it was sent.
      if (packet !== undefined && nowMs - sentMs < (leastRoundTripMs() ?? 0)) addRoundTrip(nowMs - sentMs);
      const roundTripMs = leastRoundTripMs();
      // What was sent before it and was cut short has come through as well.
      pending = pending.filter((one) => one !== packet && !(one.isPartial && one.sentMs <= sentMs));
      const expected = packet?.expected ?? null;
      const chunkedMs = lastMs - firstMs;
      const numChunks = Math.ceil(numBytes / maxChunkBytes);
      const tookMs = nowMs - Math.max(sentMs + (roundTripMs ?? 0), freeMs);
      const wasDoubted = doubted !== undefined;
      const usual = doubted ?? average();
      let rate: number | undefined;
      isLimited = false;
      if (numChunks >= 4 && chunkedMs > tuning.noiseMs) {
        rate = (1000 * (numBytes - maxChunkBytes)) / chunkedMs;
      } else if (packet !== undefined && roundTripMs !== null) {
        isLimited = tookMs <= tuning.noiseMs;
        const shown = (1000 * numBytes) / Math.max(tuning.noiseMs, tookMs);
        if (!isLimited || usual === undefined) rate = shown;
        else if (doubted !== undefined) rate = Math.max(shown, Math.exp(usual));
        else rate = grow(shown, Math.exp(usual));
      } else if (numChunks > 1 && chunkedMs > tuning.noiseMs) {
        rate = (1000 * (numBytes - maxChunkBytes)) / chunkedMs;
      }
      freeMs = nowMs;
      smallBytes += sizeWeight * (Math.min(numBytes, linkFrameBytes) - smallBytes);
      const expectedMs = expected === null ? Infinity : (1000 * numBytes) / expected;
      const isStalled = tookMs > tuning.stallFactor * expectedMs + tuning.minStallMs;
      if (isStalled && !wasDoubted) wasDead = true;
      if (rate !== undefined) add(rate, expected);
      else sampledMs = nowMs;
      // It has sat through a pause, or met a link that has become slow: which of the two, the next one tells.
      if (isStalled && !wasDoubted) doubted = usual;
    },
    abandoned({ id, unsentBytes }) {
      pending = pending.flatMap((packet) => {
        if (packet.id !== id) return [packet];
        const numBytes = packet.numBytes - unsentBytes;
        return numBytes > 0 ? [{ ...packet, numBytes, isPartial: unsentBytes > 0 }] : [];
      });
    },
    roundTrip(durationMs) {
      addRoundTrip(durationMs);
      const nowMs = clock.now();
      if (isOverdue()) wasDead = true;
      // An answer came back past everything that was sent before the question.
      const left = pending.filter(({ sentMs }) => sentMs >= nowMs - durationMs);
      if (left.length < pending.length) freeMs = nowMs;
      pending = left;
    },
    buffered(numBytes) {
      bufferedBytes = Math.max(0, numBytes);
    },
    setUp(isUp) {
      if (isUp && isDown) {
        // Nothing that was under way on the old socket will be acknowledged in time to tell anything.
        pending = [];
        freeMs = clock.now();
        wasDead = true;
        bufferedBytes = 0;
      }
      isDown = !isUp;
    },
    estimate() {
      const nowMs = clock.now();
      const roundTripMs = leastRoundTripMs();
      const head = oldest();
      const usual = doubted ?? average();
      let known = average();
      let stalledMs = doubted === undefined ? 0 : tuning.minStallMs;
      let phase: LinkPhase = 'steady';
      if (head !== undefined && head.elapsedMs > tuning.noiseMs) {
        const bound = Math.log((1000 * head.packet.numBytes) / head.elapsedMs);
        if (known !== undefined && bound < known) {
          known = Math.max(0, bound);
          stalledMs += head.elapsedMs - (1000 * head.packet.numBytes) / Math.exp(usual ?? known);
          phase = 'degrade';
        }
      }
      if (wasDead || doubted !== undefined) phase = 'probe';
      if (isDown || isOverdue()) phase = 'dead';
      else if (known === undefined) phase = 'start-up';
      const idleSeconds = pending.length > 0 ? 0 : (nowMs - sampledMs) / 1000;
      const spread = Math.sqrt(variance + tuning.idleVariancePerSecond * idleSeconds);
      const bytesPerSecond = known === undefined ? null : Math.exp(known);
      const sentBytes = pending.reduce((sum, { numBytes }) => sum + numBytes, 0);
      const leftBytes = (Math.max(0, head?.elapsedMs ?? 0) * (bytesPerSecond ?? 0)) / 1000;
      return {
        phase,
        bytesPerSecond,
        usualBytesPerSecond: usual === undefined ? null : Math.exp(usual),
        isDown,
        stalledMs,
        spread: Math.min(tuning.maxSpread, Math.max(tuning.minSpread, spread)),
        roundTripMs,
        // The part of the round trip that has passed cannot be told from the part that has not.
        queuedBytes: Math.max(sentBytes - Math.min(leftBytes, head?.packet.numBytes ?? 0), bufferedBytes),
        leastBytes: Math.min(
          smallBytes,
          (linkFrameMs * (usual === undefined ? Infinity : Math.exp(usual))) / 1000,
        ),
        isLimited,
      };
    },
  };
}
