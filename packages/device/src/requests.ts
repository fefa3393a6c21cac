import {
  type AssembledPacket,
  type Clock,
  chunkHeaderBytes,
  type ErrorCode,
  IsthmusError,
  maxChunkBytes,
  type ReceiptMessage,
} from '@isthmus/core';

/** Bytes of WebSocket messages that carry a packet of that size. */
export function bytesOnWire(packetBytes: number): number {
  return packetBytes + chunkHeaderBytes * Math.ceil(packetBytes / (maxChunkBytes - chunkHeaderBytes));
}

/** What a request ends with when all goes well. */
export interface Answer {
  /** The result packet. */
  packet: Uint8Array;
  receipt: ReceiptMessage | undefined;
  /** When the result was whole. */
  receivedMs: number;
}

/** What the table needs of a link. */
export interface RequestLink {
  send(id: number, packet: Uint8Array): void;
  /** Stops sending a request; the bytes of it that will not be sent. */
  stop(id: number): number;
  /** The same, and tells the receiver to forget it. */
  cancel(id: number): number;
}

/** Told what the link is given, and what is taken back. */
export interface TrafficObserver {
  sent(packet: { id: number; numBytes: number }): void;
  abandoned(packet: { id: number; unsentBytes: number }): void;
}

/**
 * The requests that have not ended. Each ends exactly once: with its result, with an error, or when its signal
 * aborts; links may come and go meanwhile.
 */
export interface RequestTable {
  /** @throws IsthmusError what the receiver answered, or the signal's reason */
  submit(packet: Uint8Array, signal: AbortSignal): Promise<Answer>;
  /** Sends what has not ended over a new link, with the old ids. */
  attach(link: RequestLink): void;
  /** There is no link that takes requests; those under way wait for the next. */
  detach(): void;
  isAwaited(id: number): boolean;
  onReceipt(message: ReceiptMessage): void;
  onResult(packet: AssembledPacket): void;
  onError(id: number, error: IsthmusError): void;
  /** Ends every request. */
  failAll(error: IsthmusError): void;
}

interface Pending {
  packet: Uint8Array;
  receipt: ReceiptMessage | undefined;
  /** How often it was sent. A request that takes the link down with it must not do so for ever. */
  sends: number;
  refusals: number;
  stopTimer: () => void;
  resolve: (answer: Answer) => void;
  reject: (error: unknown) => void;
}

// Refusals that pass by themselves.
const passing: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'receiver/busy',
  'limit/in-flight',
  'limit/rate',
  'wire/crc-mismatch',
]);
const maxSends = 4;
const maxRefusals = 4;
const firstRetryMs = 50;

export function createRequestTable(options: {
  clock: Clock;
  random: () => number;
  observer: TrafficObserver;
}): RequestTable {
  const { clock, random, observer } = options;
  const pending = new Map<number, Pending>();
  let link: RequestLink | undefined;
  let lastId = 0;

  const nextId = (): number => {
    do lastId = lastId >= 0xffffffff ? 1 : lastId + 1;
    while (pending.has(lastId));
    return lastId;
  };
  const finish = (id: number): Pending | undefined => {
    const request = pending.get(id);
    pending.delete(id);
    request?.stopTimer();
    return request;
  };
  const send = (id: number, request: Pending): void => {
    if (link === undefined) return;
    if (request.sends++ < maxSends) {
      observer.sent({ id, numBytes: bytesOnWire(request.packet.byteLength) });
      link.send(id, request.packet);
    } else {
      const message = `The link broke ${maxSends} times before this request was answered.`;
      finish(id)?.reject(new IsthmusError('link/lost', message, { retryable: true }));
    }
  };
  const cancel = (id: number): void => {
    if (link === undefined) return;
    const unsentBytes = link.cancel(id);
    observer.abandoned({ id, unsentBytes: unsentBytes > 0 ? bytesOnWire(unsentBytes) : 0 });
  };
  // The old id has ended at the receiver, which would only repeat itself; so a new one.
  const retryLater = (id: number, request: Pending, error: IsthmusError): void => {
    pending.delete(id);
    const newId = nextId();
    pending.set(newId, request);
    // Counts only towards refusals: the link was fine.
    request.sends = 0;
    if (error.code === 'receiver/draining') return;
    const { retryAfterMs } = error.details;
    const backoffMs = firstRetryMs * 2 ** request.refusals++ * (0.5 + 0.5 * random());
    const delayMs = typeof retryAfterMs === 'number' ? retryAfterMs : backoffMs;
    request.stopTimer = clock.after(delayMs, () => send(newId, request));
  };

  return {
    submit(packet, signal) {
      if (signal.aborted) return Promise.reject(signal.reason);
      return new Promise<Answer>((resolve, reject) => {
        const id = nextId();
        const request: Pending = {
          packet,
          receipt: undefined,
          sends: 0,
          refusals: 0,
          stopTimer: () => {},
          resolve: (answer) => {
            signal.removeEventListener('abort', onAbort);
            resolve(answer);
          },
          reject: (error) => {
            signal.removeEventListener('abort', onAbort);
            reject(error);
          },
        };
        const onAbort = (): void => {
          // Its id may have changed.
          for (const [currentId, current] of pending) {
            if (current !== request) continue;
            finish(currentId);
            cancel(currentId);
          }
          reject(signal.reason);
        };
        signal.addEventListener('abort', onAbort, { once: true });
        pending.set(id, request);
        send(id, request);
      });
    },
    attach(newLink) {
      link = newLink;
      for (const [id, request] of [...pending]) {
        request.stopTimer();
        request.receipt = undefined;
        send(id, request);
      }
    },
    detach() {
      link = undefined;
    },
    isAwaited: (id) => pending.has(id),
    onReceipt(message) {
      const request = pending.get(message.id);
      if (request !== undefined) request.receipt = message;
    },
    onResult({ id, packet, lastMs }) {
      const request = finish(id);
      request?.resolve({ packet, receipt: request.receipt, receivedMs: lastMs });
    },
    onError(id, error) {
      const request = pending.get(id);
      if (request === undefined) return;
      const isRemote = error.details.remote === true;
      if (isRemote) {
        link?.stop(id);
        // Whatever of it has left has come through: it will not be said to have arrived.
        observer.abandoned({ id, unsentBytes: bytesOnWire(request.packet.byteLength) });
      }
      const mayPass = passing.has(error.code) && request.refusals < maxRefusals;
      if (mayPass || error.code === 'receiver/draining') retryLater(id, request, error);
      else {
        finish(id);
        if (!isRemote) cancel(id);
        request.reject(error);
      }
    },
    failAll(error) {
      for (const id of [...pending.keys()]) {
        finish(id)?.reject(error);
        cancel(id);
      }
    },
  };
}
