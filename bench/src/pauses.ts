import type { Clock } from '@isthmus/core';
import type { Pause } from 'isthmus';

const lookMs = 4;
// Less is what timers are late by anyway.
const leastPauseMs = 4;

/** Notes when the event loop is held up: by this process' own work, or by others on the machine. */
export function watchPauses(clock: Clock): { stop(): Pause[] } {
  const beginMs = clock.now();
  const pauses: Pause[] = [];
  let stopTimer: () => void = () => {};
  const look = (): void => {
    const dueMs = clock.now() + lookMs;
    stopTimer = clock.after(lookMs, () => {
      const nowMs = clock.now();
      if (nowMs - dueMs > leastPauseMs) pauses.push({ fromMs: dueMs - beginMs, toMs: nowMs - beginMs });
      look();
    });
  };
  look();
  return {
    stop() {
      stopTimer();
      return pauses;
    },
  };
}
