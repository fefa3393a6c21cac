import type { EventQueue } from './events.js';
import type { Pipe } from './pipe.js';

export interface PingOptions {
  events: EventQueue;
  pipe: Pipe;
  delayMs: number;
  /** When the device last heard from the receiver. */
  heardMs(): number;
  /** At that time something comes in. */
  hear(atMs: number, callback: () => void): void;
  onRoundTrip(durationMs: number): void;
}

const silenceMs = 250;
const intervalMs = 5_000;
const pingBytes = 20;

/** Pings when the receiver was silent for a while, and at times anyway; one at a time. */
export function startPings({ events, pipe, delayMs, heardMs, hear, onRoundTrip }: PingOptions): void {
  let pingedMs = -Infinity;
  let isOut = false;
  const beat = (): void => {
    const nowMs = events.now();
    events.at(nowMs + silenceMs, beat);
    if (isOut || (nowMs - heardMs() < silenceMs && nowMs - pingedMs < intervalMs)) return;
    pingedMs = nowMs;
    isOut = true;
    pipe.sendUrgent(pingBytes, ({ lastMs }) =>
      hear(lastMs + 2 * delayMs, () => {
        isOut = false;
        onRoundTrip(events.now() - nowMs);
      }),
    );
  };
  beat();
}
