import { IsthmusError } from '@isthmus/core';

/** Lets a limited number of holders in at once; the others wait in the order they came. */
export interface Slots {
  limit: number;
  /**
   * Resolves to a function that gives the slot back. Rejects with the signal's reason if that aborts first, and with
   * `request/dropped` when too many have come later.
   */
  take(signal: AbortSignal): Promise<() => void>;
}

/** @param maxWaiting When more wait, the one that has waited longest is dropped: newest wins. */
export function createSlots(initialLimit: number, maxWaiting: number = Infinity): Slots {
  const waiting: { enter: () => void; drop: () => void }[] = [];
  let limit = initialLimit;
  let taken = 0;
  const admit = (): void => {
    while (taken < limit && waiting.length > 0) {
      taken++;
      waiting.shift()?.enter();
    }
  };
  return {
    get limit() {
      return limit;
    },
    set limit(value) {
      limit = value;
      admit();
    },
    take: (signal) =>
      new Promise((resolve, reject) => {
        const onAbort = (): void => {
          waiting.splice(waiting.indexOf(self), 1);
          reject(signal.reason);
        };
        const self = {
          enter() {
            signal.removeEventListener('abort', onAbort);
            let held = true;
            resolve(() => {
              if (held) taken--;
              held = false;
              admit();
            });
          },
          drop() {
            signal.removeEventListener('abort', onAbort);
            reject(dropped());
          },
        };
        if (signal.aborted) return reject(signal.reason);
        signal.addEventListener('abort', onAbort, { once: true });
        waiting.push(self);
        admit();
        while (waiting.length > maxWaiting) waiting.shift()?.drop();
      }),
  };
}

function dropped(): IsthmusError {
  return new IsthmusError(
    'request/dropped',
    'A later frame came before this one had its turn. Send fewer frames a second, or allow more maxQueuedFrames.',
    { retryable: true },
  );
}
