import { type Clock, type ErrorCode, type IsthmusError, toIsthmusError } from '@isthmus/core';
import type { ReconnectPolicy } from './reconnect.js';

/**
 * `up`: requests can be sent. `lost`: the link broke, and the first attempt to get it back is under way. `gone`: at
 * least one attempt has failed. `closed`: there will be no further attempt.
 */
export type LinkState = 'up' | 'lost' | 'gone' | 'closed';

export interface LinkStateEvent {
  state: LinkState;
  /** Why it is not up. */
  error?: IsthmusError;
}

/** What a connection needs of a link. */
export interface Closable {
  close(error: IsthmusError): void;
}

export interface ConnectionOptions<Link extends Closable> {
  clock: Clock;
  random: () => number;
  policy: ReconnectPolicy;
  /** Opens a link and prepares for what its receiver holds. `onClose` is to be called when it ends. */
  open: (onClose: (error: IsthmusError) => void) => Promise<Link>;
  onState: (event: LinkStateEvent, link: Link | undefined) => void;
}

/** A link that comes back. */
export interface Connection<Link extends Closable> {
  readonly state: LinkState;
  readonly link: Link | undefined;
  /** Opens the first link. Its failure is final, and the caller's affair. */
  start(): Promise<void>;
  close(error: IsthmusError): void;
}

// What does not get better by trying again.
const finalCodes: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'auth/denied',
  'auth/origin',
  'bundle/no-such-model',
  'wire/version-mismatch',
  'wire/table-mismatch',
  'link/closed',
]);

export function createConnection<Link extends Closable>(options: ConnectionOptions<Link>): Connection<Link> {
  const { clock, random, policy, onState } = options;
  let state: LinkState = 'closed';
  let link: Link | undefined;
  let failures = 0;
  let lostMs = 0;
  let closed: IsthmusError | undefined;
  let stopTimer: () => void = () => {};

  const change = (next: LinkState, error?: IsthmusError): void => {
    state = next;
    onState(error === undefined ? { state } : { state, error }, link);
  };
  const open = async (): Promise<void> => {
    // A link may end before whoever opens it is done preparing.
    let ended: IsthmusError | undefined;
    let opened: Link | undefined;
    opened = await options.open((error) => {
      ended = error;
      if (link !== undefined && link === opened) onLost(error);
    });
    if (ended !== undefined) throw ended;
    if (closed !== undefined) {
      opened.close(closed);
      throw closed;
    }
    link = opened;
    failures = 0;
    change('up');
  };
  const onLost = (error: IsthmusError): void => {
    link = undefined;
    lostMs = clock.now();
    if (state !== 'up') return;
    if (finalCodes.has(error.code)) {
      change('closed', error);
    } else {
      // Tell first: whoever hears of it may close the connection.
      change('lost', error);
      scheduleRetry(error);
    }
  };
  const scheduleRetry = (lastError: IsthmusError): void => {
    if (closed !== undefined) return;
    const delayMs = policy.nextDelayMs({ failures, elapsedMs: clock.now() - lostMs, lastError, random });
    if (delayMs === null) change('closed', lastError);
    else stopTimer = clock.after(delayMs, () => void retry());
  };
  const retry = async (): Promise<void> => {
    try {
      await open();
    } catch (cause) {
      const error = toIsthmusError(cause, 'link/connect-failed', 'The link cannot be opened');
      if (closed !== undefined) return;
      failures++;
      if (finalCodes.has(error.code)) {
        change('closed', error);
      } else {
        change('gone', error);
        scheduleRetry(error);
      }
    }
  };

  return {
    get state() {
      return state;
    },
    get link() {
      return link;
    },
    start: open,
    close(error) {
      closed = error;
      stopTimer();
      const open = link;
      link = undefined;
      state = 'closed';
      open?.close(error);
    },
  };
}
