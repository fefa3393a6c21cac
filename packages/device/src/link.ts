import {
  type AcceptMessage,
  type ArrivedMessage,
  type AssembledPacket,
  type Clock,
  type ControlMessage,
  closeCodeFor,
  decodeChunk,
  decodeControl,
  decodeResultHeader,
  encodeControl,
  type HelloMessage,
  IsthmusError,
  messageKind,
  PacketAssembler,
  protocolVersions,
  type ReceiptMessage,
  resultHeaderBytes,
  toIsthmusError,
} from '@isthmus/core';
import type { Ending } from './ending.js';
import { startHeartbeat } from './heartbeat.js';
import { createChunkPump } from './pump.js';
import { isRemoteCode, remoteError } from './remote-error.js';
import type { OpenWebSocket, WebSocketLike } from './socket.js';

/** What a link tells whoever uses it. */
export interface LinkHandlers {
  /** Whether a result for that request is awaited; others are dropped unread. */
  isAwaited(id: number): boolean;
  onArrived(message: ArrivedMessage): void;
  onReceipt(message: ReceiptMessage): void;
  onResult(packet: AssembledPacket): void;
  /** A request has failed: the receiver says so, or its result cannot be taken. */
  onRequestError(id: number, error: IsthmusError): void;
  onRoundTrip(durationMs: number): void;
  /** Whether more was sent than has come through in its time: then life is looked for more often. */
  isOverdue(): boolean;
  /** The receiver takes no further requests. */
  onGoodbye(): void;
  /** Once, after the link was accepted; with why it ended. */
  onClose(error: IsthmusError): void;
}

export interface LinkOptions {
  url: string;
  openWebSocket: OpenWebSocket;
  hello: HelloMessage;
  clock: Clock;
  /** For connecting and being accepted. */
  connectTimeoutMs: number;
  pingIntervalMs: number;
  pingTimeoutMs: number;
  maxResultBytes: number;
  handlers: LinkHandlers;
  /** Ends the link. */
  ending: Ending;
}

/** One WebSocket, accepted. */
export interface Link {
  readonly accept: AcceptMessage;
  send(id: number, packet: Uint8Array): void;
  /** Stops sending a request; the bytes of it that the socket was not given. */
  stop(id: number): number;
  /** The same, and tells the receiver to forget it. */
  cancel(id: number): number;
  /** Looks soon whether anything gets through. */
  look(): void;
  /** Ends the link; `onClose` is called with `error`. */
  close(error: IsthmusError): void;
}

// As many results as any receiver could be sending; each is bounded by maxResultBytes, and only awaited ones count.
const maxOpenResults = 1024;

/**
 * Connects, says hello and waits to be accepted.
 *
 * @throws IsthmusError `link/connect-failed`, or what the receiver refused with: `auth/denied`,
 * `wire/version-mismatch`, `bundle/no-such-model`, `limit/connections` …
 */
export async function openLink(options: LinkOptions): Promise<Link> {
  let socket: WebSocketLike;
  try {
    socket = await options.openWebSocket(options.url);
    socket.binaryType = 'arraybuffer';
  } catch (error) {
    throw toIsthmusError(error, 'link/connect-failed', `${options.url} cannot be opened`);
  }
  return new Promise((resolve, reject) => runLink(socket, options, resolve, reject));
}

function runLink(
  socket: WebSocketLike,
  options: LinkOptions,
  resolve: (link: Link) => void,
  reject: (error: IsthmusError) => void,
): void {
  const { clock, handlers, url } = options;
  let phase: 'opening' | 'greeted' | 'accepted' | 'ended' = 'opening';
  let failure: unknown;
  let leaveEnding: () => void = () => {};
  const hasEnded = (): boolean => phase === 'ended';

  const end = (error: IsthmusError): void => {
    if (phase === 'ended') return;
    const wasAccepted = phase === 'accepted';
    phase = 'ended';
    stopTimeout();
    heartbeat?.stop();
    pump.stop();
    leaveEnding();
    try {
      socket.close(closeCodeFor(error.code), error.code);
    } catch {
      // Closed already, or never opened.
    }
    if (wasAccepted) handlers.onClose(error);
    else reject(error);
  };
  const send = (message: Uint8Array): void => {
    try {
      socket.send(message as Uint8Array<ArrayBuffer>);
    } catch (cause) {
      end(new IsthmusError('link/lost', 'The socket takes no more.', { cause, retryable: true }));
    }
  };
  const bufferedBytes = (): number => socket.bufferedAmount;
  const pump = createChunkPump({ clock, bufferedBytes, send });
  let heartbeat: ReturnType<typeof startHeartbeat> | undefined;
  const stopTimeout = clock.after(options.connectTimeoutMs, () =>
    end(connectFailed(`${url} did not answer within ${options.connectTimeoutMs} ms.`)),
  );

  const assembler = new PacketAssembler({
    clock,
    maxOpen: maxOpenResults,
    admit: (id, firstChunk) => {
      if (!handlers.isAwaited(id)) throw new IsthmusError('request/cancelled', 'Nobody awaits this result.');
      const numBytes = resultHeaderBytes + decodeResultHeader(firstChunk).payloadBytes;
      if (numBytes <= options.maxResultBytes) return numBytes;
      throw new IsthmusError(
        'wire/too-large',
        `A result of ${numBytes} bytes is more than maxResultBytes, ${options.maxResultBytes}.`,
      );
    },
  });

  const accepted = (accept: AcceptMessage): void => {
    if (phase !== 'greeted') throw unexpected(accept.type);
    if (!protocolVersions.includes(accept.protocol)) {
      throw new IsthmusError(
        'wire/version-mismatch',
        `The receiver chose protocol version ${accept.protocol}; this device speaks ${protocolVersions.join(', ')}.`,
      );
    }
    phase = 'accepted';
    stopTimeout();
    resolve({
      accept,
      send: (id, packet) => {
        if (phase !== 'accepted') return;
        pump.add(id, packet);
        heartbeat?.watch();
      },
      stop: pump.cancel,
      cancel: (id) => {
        const unsentBytes = pump.cancel(id);
        assembler.cancel(id);
        if (phase === 'accepted') send(encodeControl({ type: 'cancel', id }));
        return unsentBytes;
      },
      look: () => phase === 'accepted' && heartbeat?.look(),
      close: (error) => {
        if (phase !== 'accepted') return;
        send(encodeControl({ type: 'goodbye', code: error.code, message: error.message }));
        end(error);
      },
    });
    heartbeat = startHeartbeat({
      clock,
      intervalMs: options.pingIntervalMs,
      timeoutMs: options.pingTimeoutMs,
      sendPing: (id) => send(encodeControl({ type: 'ping', id })),
      bufferedBytes,
      onRoundTrip: handlers.onRoundTrip,
      isOverdue: handlers.isOverdue,
      onDead: end,
    });
    // The first ping may already have found the socket closed.
    if (hasEnded()) heartbeat.stop();
  };

  const onControl = (message: ControlMessage): void => {
    if (message.type === 'accept') accepted(message);
    else if (message.type === 'error' && message.id === null) end(remoteError(message));
    else if (phase !== 'accepted') throw unexpected(message.type);
    else if (message.type === 'arrived') handlers.onArrived(message);
    else if (message.type === 'receipt') handlers.onReceipt(message);
    else if (message.type === 'ping')
      send(encodeControl({ type: 'pong', id: message.id, atMs: clock.now() }));
    else if (message.type === 'pong') heartbeat?.pong(message.id);
    else if (message.type === 'goodbye') handlers.onGoodbye();
    else if (message.type === 'error' && message.id !== null) {
      handlers.onRequestError(message.id, remoteError(message));
    } else throw unexpected(message.type);
  };

  const onMessage = (data: unknown): void => {
    if (!(data instanceof ArrayBuffer)) {
      throw new IsthmusError(
        'wire/malformed',
        'The receiver sent a text message; is it an Isthmus receiver?',
      );
    }
    const message = new Uint8Array(data);
    heartbeat?.heard();
    if (message[0] !== messageKind.resultChunk) {
      onControl(decodeControl(message));
      return;
    }
    if (phase !== 'accepted') throw unexpected('result');
    const event = assembler.take(decodeChunk(message));
    if (event?.type === 'packet') handlers.onResult(event.packet);
    else if (event?.type === 'refused') handlers.onRequestError(event.id, event.error);
  };

  socket.addEventListener('open', () => {
    if (phase !== 'opening') return;
    phase = 'greeted';
    send(encodeControl(options.hello));
  });
  socket.addEventListener('message', ({ data }) => {
    if (phase === 'ended') return;
    try {
      onMessage(data);
    } catch (error) {
      end(toIsthmusError(error, 'wire/malformed', 'The receiver sent something that cannot be'));
    }
  });
  socket.addEventListener('error', (event) => {
    failure ??= (event as { error?: unknown; message?: unknown }).error ?? failure;
  });
  socket.addEventListener('close', ({ code, reason }) => {
    if (isRemoteCode(reason)) {
      end(remoteError({ code: reason, message: `The receiver closed the link: ${reason}.` }));
    } else if (phase === 'accepted') {
      end(
        new IsthmusError('link/lost', `The link to ${url} was lost (close code ${code}).`, {
          cause: failure,
          retryable: true,
        }),
      );
    } else {
      const why = failure instanceof Error ? failure.message : `close code ${code}`;
      end(connectFailed(`${url} cannot be reached (${why}); is the receiver running?`, failure));
    }
  });
  leaveEnding = options.ending.onEnd(end);
}

function connectFailed(message: string, cause?: unknown): IsthmusError {
  return new IsthmusError('link/connect-failed', message, { cause, retryable: true });
}

function unexpected(type: string): IsthmusError {
  return new IsthmusError('wire/unexpected', `The receiver sent ${type} at a time when it must not.`);
}
