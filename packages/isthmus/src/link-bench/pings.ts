import type { EventQueue } from './events.js';
import type { Pipe } from './pipe.js';
import type { Policy } from './policy.js';

export interface PingOptions {
  events: EventQueue;
  pipe: Pipe;
  delayMs: number;
  policy: Pick<Policy, 'isOverdue' | 'roundTrip'>;
}

/** The device's heartbeat, in simulated time. */
export interface Pings {
  /** Something was sent that will be answered. */
  watch(): void;
  /** Something has come in. */
  heard(): void;
}

const firstPings = 3;
const watchMs = 250;
const watchForMs = 2_000;
const intervalMs = 5_000;
const pingBytes = 20;

/**
 * Pings as the device does, one at a time: every 5 s; every quarter of a second while the policy wants it, which it is
 * asked for as long as something was sent lately. The first few pings are over when the camera begins.
 */
export function startPings({ events, pipe, delayMs, policy }: PingOptions): Pings {
  let heardMs = 0;
  let pingedMs = 0;
  let watchUntilMs = 0;
  let nextMs = 0;
  let isOut = false;
  let stopTimer: () => void = () => {};

  const isOverdue = (): boolean => policy.isOverdue?.() ?? events.now() - heardMs >= watchMs;
  const schedule = (waitMs: number): void => {
    stopTimer();
    nextMs = events.now() + waitMs;
    stopTimer = events.at(nextMs, beat);
  };
  const beat = (): void => {
    const nowMs = events.now();
    const isUrgent = isOverdue();
    const dueMs = pingedMs + intervalMs;
    if (!isOut && (isUrgent || nowMs >= dueMs)) ping(nowMs);
    // A policy without an idea of what is overdue looks for silence all the time.
    if (isUrgent || nowMs < watchUntilMs || policy.isOverdue === undefined) schedule(watchMs);
    else schedule(nowMs < dueMs ? dueMs - nowMs : intervalMs);
  };
  const ping = (sentMs: number): void => {
    pingedMs = sentMs;
    isOut = true;
    pipe.sendUrgent(pingBytes, ({ lastMs }) =>
      events.at(lastMs + 2 * delayMs, () => {
        isOut = false;
        heardMs = events.now();
        policy.roundTrip?.(heardMs - sentMs);
      }),
    );
  };
  for (let index = 0; index < firstPings; index++) policy.roundTrip?.(2 * delayMs);
  schedule(policy.isOverdue === undefined ? watchMs : intervalMs);

  return {
    watch() {
      watchUntilMs = events.now() + watchForMs;
      if (nextMs > events.now() + watchMs) schedule(watchMs);
    },
    heard() {
      heardMs = events.now();
    },
  };
}
