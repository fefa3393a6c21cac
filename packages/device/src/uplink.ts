import {
  type AcceptMessage,
  type HelloMessage,
  IsthmusError,
  isIsthmusError,
  protocolVersions,
  type ReceiptMessage,
} from '@isthmus/core';
import type { Controller } from '@isthmus/planner';
import { createConnection, type LinkState, type LinkStateEvent } from './connection.js';
import type { Ending } from './ending.js';
import { type LinkHandlers, openLink } from './link.js';
import type { ResolvedOptions } from './options.js';
import { type Answer, createRequestTable, type TrafficObserver } from './requests.js';
import { createSlots } from './slots.js';

export interface UplinkOptions {
  url: string;
  options: ResolvedOptions;
  /** What the hello says of the bundle the device holds now. */
  held: () => Pick<HelloMessage, 'bundle' | 'tables'>;
  client: string;
  /** Ends everything. */
  ending: Ending;
  /** Prepares for a receiver that has accepted; requests go out when it is done. */
  onAccept: (accept: AcceptMessage) => Promise<void>;
  /** Before any request goes out over a new link. */
  onUp: (accept: AcceptMessage) => void;
  onState: (event: LinkStateEvent) => void;
  onReceipt: (receipt: ReceiptMessage) => void;
  /** Told what comes and goes, once the first link was accepted. */
  controller: () => Controller;
}

/** The way to the receiver: one link after another, the requests on it, and what is known of it. */
export interface Uplink {
  readonly state: LinkState;
  /** What the receiver said last. */
  readonly accept: AcceptMessage;
  /** Why requests end at once, until the link is back. */
  readonly unreachable: IsthmusError | undefined;
  start(): Promise<void>;
  /** Resolves when the link is up, rejects with what makes it unreachable. */
  whenUp(): Promise<void>;
  /** Waits until there may be one more request under way; resolves to what ends it. */
  takeSlot(signal: AbortSignal): Promise<() => void>;
  /** @throws IsthmusError what the receiver answered, `link/lost`, or the signal's reason */
  submit(packet: Uint8Array, signal: AbortSignal): Promise<Answer>;
  /** Looks soon whether anything gets through, and how long it takes. */
  look(): void;
  /** Ends every request under way with `error`. */
  failPending(error: IsthmusError): void;
  /** Ends every request with `error`, those under way and, until the link is back, those to come. */
  setUnreachable(error: IsthmusError): void;
  close(error: IsthmusError): void;
}

export function createUplink({ url, options, ending, ...more }: UplinkOptions): Uplink {
  const { clock, random } = options;
  const observer: TrafficObserver = {
    sent: (packet) => more.controller().sent(packet),
    abandoned: (packet) => more.controller().abandoned(packet),
  };
  const requests = createRequestTable({ clock, random, observer });
  const slots = createSlots(1);
  let accept: AcceptMessage | undefined;
  let unreachable: IsthmusError | undefined;
  let stopWaiting: () => void = () => {};
  let waiters: { resolve: () => void; reject: (error: IsthmusError) => void }[] = [];

  const setUnreachable = (error: IsthmusError): void => {
    unreachable = error;
    for (const waiter of waiters) waiter.reject(error);
    waiters = [];
    requests.failAll(error);
  };

  // Pings go out before the first bundle is there.
  const observe = <Value>(tell: (controller: Controller) => Value): Value | undefined =>
    accept === undefined ? undefined : tell(more.controller());

  const handlers: Omit<LinkHandlers, 'onClose'> = {
    isAwaited: requests.isAwaited,
    onArrived: (message) => more.controller().arrived(message),
    onReceipt(message) {
      requests.onReceipt(message);
      more.onReceipt(message);
    },
    onResult: requests.onResult,
    onRequestError: requests.onError,
    onRoundTrip: (durationMs) => observe((controller) => controller.roundTrip(durationMs)),
    isOverdue: () => observe(({ estimate }) => estimate.phase === 'dead') === true,
    // Results of what is under way still come; the rest waits for the next link.
    onGoodbye: () => requests.detach(),
  };

  const connection = createConnection({
    clock,
    random,
    policy: options.reconnect,
    async open(onClose) {
      const link = await openLink({
        url,
        openWebSocket: options.webSocket,
        hello: {
          type: 'hello',
          protocol: [...protocolVersions],
          model: options.model,
          codecs: options.codecs.map(({ kind }) => kind),
          token: options.token,
          resume: accept?.session ?? null,
          client: more.client,
          ...more.held(),
        },
        clock,
        connectTimeoutMs: options.connectTimeoutMs,
        pingIntervalMs: options.pingIntervalMs,
        pingTimeoutMs: options.pingTimeoutMs,
        maxResultBytes: options.maxResultBytes,
        handlers: { ...handlers, onClose },
        ending,
      });
      try {
        await more.onAccept(link.accept);
      } catch (error) {
        link.close(
          isIsthmusError(error) ? error : new IsthmusError('link/closed', 'The device cannot go on.'),
        );
        throw error;
      }
      accept = link.accept;
      return link;
    },
    onState(event, link) {
      if (event.state === 'up' && link !== undefined) {
        stopWaiting();
        more.onUp(link.accept);
        more.controller().linkState(true);
        unreachable = undefined;
        slots.limit = Math.max(1, link.accept.limits.inFlight);
        requests.attach(link);
        for (const waiter of waiters) waiter.resolve();
        waiters = [];
      } else if (event.state === 'lost') {
        requests.detach();
        more.controller().linkState(false);
        const waitMs = options.linkTimeoutMs;
        stopWaiting = clock.after(waitMs, () =>
          setUnreachable(
            linkLost(`The link was lost and did not come back within ${waitMs} ms.`, event.error),
          ),
        );
      } else if (event.state === 'closed') {
        stopWaiting();
        const { error } = event;
        const isLinkError = error === undefined || error.code === 'link/connect-failed';
        setUnreachable(isLinkError ? linkLost('The link was lost, and given up.', error) : error);
      }
      more.onState(event);
    },
  });

  return {
    get state() {
      return connection.state;
    },
    get accept() {
      if (accept === undefined) throw new IsthmusError('internal', 'The link was never accepted.');
      return accept;
    },
    get unreachable() {
      return unreachable;
    },
    start: connection.start,
    async whenUp() {
      if (unreachable !== undefined) throw unreachable;
      if (connection.state === 'up') return;
      await new Promise<void>((resolve, reject) => waiters.push({ resolve, reject }));
    },
    takeSlot: slots.take,
    submit: (packet, requestSignal) =>
      unreachable === undefined ? requests.submit(packet, requestSignal) : Promise.reject(unreachable),
    look: () => connection.link?.look(),
    failPending: requests.failAll,
    setUnreachable,
    close(error) {
      stopWaiting();
      setUnreachable(error);
      connection.close(error);
    },
  };
}

/** The error of a request whose link is not there. */
export function linkLost(message: string, cause?: unknown): IsthmusError {
  return new IsthmusError('link/lost', message, { cause, retryable: true });
}
