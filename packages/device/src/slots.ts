/** Lets a limited number of holders in at once; the others wait in the order they came. */
export interface Slots {
  limit: number;
  /** Resolves to a function that gives the slot back. Rejects with the signal's reason if that aborts first. */
  take(signal: AbortSignal): Promise<() => void>;
}

export function createSlots(initialLimit: number): Slots {
  const waiting: (() => void)[] = [];
  let limit = initialLimit;
  let taken = 0;
  const admit = (): void => {
    while (taken < limit && waiting.length > 0) {
      taken++;
      waiting.shift()?.();
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
          waiting.splice(waiting.indexOf(enter), 1);
          reject(signal.reason);
        };
        const enter = (): void => {
          signal.removeEventListener('abort', onAbort);
          let held = true;
          resolve(() => {
            if (held) taken--;
            held = false;
            admit();
          });
        };
        if (signal.aborted) return reject(signal.reason);
        signal.addEventListener('abort', onAbort, { once: true });
        waiting.push(enter);
        admit();
      }),
  };
}
