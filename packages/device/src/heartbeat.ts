import { type Clock, IsthmusError } from '@isthmus/core';

export interface HeartbeatOptions {
  clock: Clock;
  intervalMs: number;
  /** Silence after which the link is taken for dead. */
  timeoutMs: number;
  sendPing: (id: number) => void;
  /** Bytes the socket has taken but not yet sent. */
  bufferedBytes: () => number;
  onRoundTrip: (durationMs: number) => void;
  /** Whether nothing seems to get through; then pings are sent every quarter of a second. */
  isOverdue: () => boolean;
  onDead: (error: IsthmusError) => void;
}

export interface Heartbeat {
  /** Something was sent that will be answered: looks soon whether anything gets through. */
  watch(): void;
  /** A frame was not sent because of the link: pings at once, unless a ping was sent a quarter of a second ago. */
  look(): void;
  /** Something has come in. */
  heard(): void;
  pong(id: number): void;
  stop(): void;
}

const firstPings = 3;
const firstGapMs = 50;
// While something is under way, and between pings when nothing gets through.
const watchMs = 250;
// Longer than it takes to tell that something is overdue.
const watchForMs = 2_000;

/**
 * Pings, and tells a dead link from a slow one: whatever comes in is a sign of life, and so is a send buffer that
 * gets shorter, since on a slow uplink the ping itself waits behind a long packet. Begins with a few pings in quick
 * succession, so that a round trip is known soon.
 */
export function startHeartbeat(options: HeartbeatOptions): Heartbeat {
  const { clock, intervalMs, timeoutMs } = options;
  let aliveMs = clock.now();
  let lastBufferedBytes = 0;
  let id = 0;
  let pinged: { id: number; atMs: number } | undefined;
  let stopTimer: () => void = () => {};
  let nextMs = Infinity;
  let watchUntilMs = -Infinity;
  let pingMs = -Infinity;

  const schedule = (delayMs: number): void => {
    stopTimer();
    nextMs = clock.now() + delayMs;
    stopTimer = clock.after(delayMs, beat);
  };
  const ping = (): void => {
    pingMs = clock.now();
    pinged = { id: ++id, atMs: pingMs };
    options.sendPing(id);
  };
  const beat = (): void => {
    const buffered = options.bufferedBytes();
    if (buffered < lastBufferedBytes) aliveMs = clock.now();
    lastBufferedBytes = buffered;
    const silentMs = clock.now() - aliveMs;
    if (silentMs >= timeoutMs) {
      options.onDead(
        new IsthmusError('link/lost', `The receiver has been silent for ${Math.round(silentMs)} ms.`, {
          retryable: true,
        }),
      );
      return;
    }
    const isUrgent = id < firstPings || options.isOverdue();
    const dueMs = pingMs + intervalMs;
    if (pinged === undefined && (isUrgent || clock.now() >= dueMs)) ping();
    if (id < firstPings) schedule(Math.min(firstGapMs, intervalMs));
    else if (isUrgent || clock.now() < watchUntilMs) schedule(Math.min(watchMs, intervalMs));
    else schedule(clock.now() < dueMs ? dueMs - clock.now() : intervalMs);
  };
  beat();

  return {
    watch() {
      watchUntilMs = clock.now() + watchForMs;
      if (nextMs > clock.now() + watchMs) schedule(watchMs);
    },
    look() {
      if (pinged === undefined && clock.now() - pingMs >= Math.min(watchMs, intervalMs)) ping();
    },
    heard() {
      aliveMs = clock.now();
    },
    pong(pongId) {
      if (pinged?.id !== pongId) return;
      options.onRoundTrip(clock.now() - pinged.atMs);
      pinged = undefined;
    },
    stop: () => stopTimer(),
  };
}
