import { type Clock, IsthmusError } from '@isthmus/core';
import type { Ending } from './ending.js';

/** How long something is wanted: until a signal, a deadline, or the end of what it belongs to. */
export interface Lifetime {
  /** Aborts with an {@link IsthmusError} as its reason. */
  readonly signal: AbortSignal;
  /** What `work` gives, unless the lifetime ends first. */
  race<Value>(work: Promise<Value>): Promise<Value>;
  /** Lets go of clock and signals. */
  dispose(): void;
}

export interface LifetimeOptions {
  clock: Clock;
  /** The user's own; its end is `request/cancelled`. */
  signal?: AbortSignal | undefined;
  /** Of what this belongs to; its reason is passed on. */
  parent?: Ending | undefined;
  /** From now; its end is `request/deadline`. */
  deadlineMs?: number | undefined;
}

/** @throws IsthmusError `request/cancelled` or the parent's reason if it is over before it began */
export function createLifetime({ clock, signal, parent, deadlineMs }: LifetimeOptions): Lifetime {
  const controller = new AbortController();
  const onAbort = (): void =>
    controller.abort(
      new IsthmusError('request/cancelled', 'The request was cancelled by its signal.', {
        cause: signal?.reason,
      }),
    );
  signal?.addEventListener('abort', onAbort, { once: true });
  const leaveParent = parent?.onEnd((reason) => controller.abort(reason));
  const stopTimer =
    deadlineMs === undefined
      ? undefined
      : clock.after(deadlineMs, () =>
          controller.abort(
            new IsthmusError('request/deadline', `There was no answer within ${deadlineMs} ms.`, {
              details: { deadlineMs },
            }),
          ),
        );
  const dispose = (): void => {
    signal?.removeEventListener('abort', onAbort);
    leaveParent?.();
    stopTimer?.();
  };
  if (signal?.aborted && !controller.signal.aborted) onAbort();
  if (controller.signal.aborted) {
    dispose();
    throw controller.signal.reason;
  }
  const over = whenAborted(controller.signal);
  return { signal: controller.signal, race: (work) => Promise.race([work, over]), dispose };
}

/** Rejects with the signal's reason when it aborts; never counts as unhandled. */
function whenAborted(signal: AbortSignal): Promise<never> {
  const aborted = new Promise<never>((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
  aborted.catch(() => {});
  return aborted;
}
