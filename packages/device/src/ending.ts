import type { IsthmusError } from '@isthmus/core';

/** The end of something that much else belongs to. Where an AbortSignal with many listeners would look like a leak. */
export interface Ending {
  /** Why it has ended; undefined until then. */
  readonly reason: IsthmusError | undefined;
  /** Calls `listener` when it ends, at once if it has; the returned function removes it. */
  onEnd(listener: (reason: IsthmusError) => void): () => void;
  /** Ends it; the first reason stays. */
  end(reason: IsthmusError): void;
}

export function createEnding(): Ending {
  const listeners = new Set<(reason: IsthmusError) => void>();
  let reason: IsthmusError | undefined;
  return {
    get reason() {
      return reason;
    },
    onEnd(listener) {
      if (reason !== undefined) listener(reason);
      else listeners.add(listener);
      return () => listeners.delete(listener);
    },
    end(why) {
      if (reason !== undefined) return;
      reason = why;
      for (const listener of [...listeners]) listener(why);
      listeners.clear();
    },
  };
}
