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
  onDead: (error: IsthmusError) => void;
}

export interface Heartbeat {
  /** Something has come in. */
  heard(): void;
  pong(id: number): void;
  stop(): void;
}

/**
 * Pings, and tells a dead link from a slow one: whatever comes in is a sign of life, and so is a send buffer that
 * gets shorter, since on a slow uplink the ping itself waits behind a long packet.
 */
export function startHeartbeat(options: HeartbeatOptions): Heartbeat {
  const { clock, intervalMs, timeoutMs } = options;
  let aliveMs = clock.now();
  let lastBufferedBytes = 0;
  let id = 0;
  let pinged: { id: number; atMs: number } | undefined;
  let stopTimer: () => void = () => {};

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
    pinged ??= { id: ++id, atMs: clock.now() };
    if (pinged.atMs === clock.now()) options.sendPing(pinged.id);
    stopTimer = clock.after(intervalMs, beat);
  };
  beat();

  return {
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
