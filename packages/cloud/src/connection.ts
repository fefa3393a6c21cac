import {
  type ControlMessage,
  closeCodeFor,
  decodeChunk,
  decodeControl,
  type ErrorCode,
  type HelloMessage,
  IsthmusError,
  messageKind,
  toIsthmusError,
} from '@isthmus/core';
import type { WebSocket } from 'ws';
import { admitHello, drainingError, type Peer } from './admission.js';
import { tokenHash } from './auth.js';
import { Throttle } from './backpressure.js';
import { publicMessage, type ReceiverContext } from './context.js';
import { Outbox } from './outbox.js';
import { Requests } from './requests.js';

// A peer that does not answer the closing handshake is cut off after this.
const closeTimeoutMs = 5000;
// Answers to a flood of WebSocket pings are left out when so much waits to be sent.
const pongRoomBytes = 65536;

type State = 'hello' | 'admitting' | 'open' | 'closed';

/** One WebSocket, from its hello to its close. docs/protocol.md gives the rules. */
export class Connection {
  readonly #socket: WebSocket;
  readonly #peer: Peer;
  readonly #context: ReceiverContext;
  readonly #outbox: Outbox;
  readonly #throttle: Throttle;
  #requests: Requests | undefined;
  #state: State = 'hello';
  /** What to close with when nothing is under way any more. */
  #farewell: ErrorCode | undefined;
  #heardMs: number;
  #cancelTimer: () => void;

  constructor(socket: WebSocket, peer: Peer, context: ReceiverContext) {
    const { clock, limits, metrics, budget } = context;
    this.#socket = socket;
    this.#peer = peer;
    this.#context = context;
    this.#heardMs = clock.now();
    this.#outbox = new Outbox(socket, {
      budget,
      onDone: () => this.#closeIfDone(),
      onOverflow: () => this.fail(new IsthmusError('limit/rate', 'Answers pile up unread.')),
      onBytes: metrics.sent,
    });
    this.#throttle = new Throttle({
      clock,
      bytesPerSecond: limits.bytesPerSecond,
      pause: () => socket.pause(),
      resume: () => {
        this.#heardMs = clock.now();
        this.#requests?.excuseSilence();
        socket.resume();
      },
    });
    this.#cancelTimer = clock.after(limits.helloTimeoutMs, () =>
      this.fail(new IsthmusError('request/deadline', `No hello came within ${limits.helloTimeoutMs} ms.`)),
    );
    socket.on('message', (data, isBinary) => this.#onMessage(data as Buffer, isBinary));
    socket.on('ping', (data) => this.#onPing(data));
    socket.on('pong', () => {
      this.#heardMs = clock.now();
    });
    // The socket closes itself after an error; `close` does the rest.
    socket.on('error', (error) => context.log.debug({ err: error, address: peer.address }, 'socket error'));
    socket.on('close', () => this.#end());
  }

  /** Tells the client why, and closes. */
  fail(error: IsthmusError): void {
    if (this.#state === 'closed') return;
    const { code, retryable } = error;
    const { log, metrics } = this.#context;
    log[code === 'internal' ? 'error' : 'info']({ err: error, code, ...this.#peer }, 'connection refused');
    metrics.connectionRefused(code);
    this.#outbox.control({
      type: 'error',
      id: null,
      code,
      message: publicMessage(error),
      retryable,
      retryAfterMs: null,
    });
    this.#close(code);
  }

  /** Says goodbye, finishes what is under way and closes. */
  drain(): void {
    if (this.#state === 'open') {
      const { code, message } = drainingError();
      this.#outbox.control({ type: 'goodbye', code, message });
      this.#leave(code);
    } else {
      this.fail(drainingError());
    }
  }

  /** Cuts the connection without waiting for the other end. */
  terminate(): void {
    this.#end();
    this.#socket.terminate();
  }

  #onMessage(bytes: Buffer, isBinary: boolean): void {
    if (this.#state === 'closed') return;
    this.#heardMs = this.#context.clock.now();
    this.#context.metrics.received(bytes.byteLength);
    this.#throttle.take(bytes.byteLength);
    try {
      if (!isBinary) throw new IsthmusError('wire/malformed', 'Text messages are not part of the protocol.');
      if (this.#state === 'open') this.#dispatch(bytes);
      else this.#greet(bytes);
    } catch (error) {
      this.fail(toIsthmusError(error, 'internal', 'The receiver failed'));
    }
  }

  #onPing(data: Buffer): void {
    if (this.#state === 'closed') return;
    this.#heardMs = this.#context.clock.now();
    this.#throttle.take(data.byteLength);
    if (this.#socket.bufferedAmount < pongRoomBytes) this.#socket.pong(data);
  }

  #greet(bytes: Buffer): void {
    const isChunk = bytes[0] === messageKind.requestChunk || bytes[0] === messageKind.resultChunk;
    const message = isChunk ? undefined : decodeControl(bytes);
    if (this.#state !== 'hello' || message?.type !== 'hello') {
      throw new IsthmusError('wire/unexpected', 'Only a hello can come before the receiver accepts.');
    }
    this.#state = 'admitting';
    this.#admit(message).catch((error: unknown) =>
      this.fail(toIsthmusError(error, 'internal', 'The receiver failed')),
    );
  }

  async #admit(hello: HelloMessage): Promise<void> {
    const { clock, limits, sessions, log } = this.#context;
    const { protocol, model, codecs, tables } = await admitHello(hello, this.#peer, this.#context);
    if (this.#state !== 'admitting') return;
    const owner = tokenHash(hello.token);
    const resumed = hello.resume === null ? undefined : sessions.resume(hello.resume, model, owner);
    const session = resumed ?? sessions.create(model, owner);
    this.#state = 'open';
    this.#cancelTimer();
    this.#cancelTimer = clock.after(limits.idleTimeoutMs / 2, () => this.#beat());
    log.info(
      { ...this.#peer, model: model.id, client: hello.client, resumed: resumed !== undefined },
      'connection accepted',
    );
    this.#outbox.control({
      type: 'accept',
      protocol,
      session: session.id,
      resumed: resumed !== undefined,
      model: model.id,
      bundle: model.bundle.sha256,
      tables,
      codecs,
      limits: {
        packetBytes: limits.packetBytes,
        inFlight: limits.inFlightPerConnection,
        bytesPerSecond: limits.bytesPerSecond,
      },
    });
    this.#requests = new Requests(this.#context, session, this.#outbox, {
      onEnded: () => this.#closeIfDone(),
      onReplaced: () =>
        this.fail(new IsthmusError('link/closed', 'The session goes on over another connection.')),
    });
  }

  #dispatch(bytes: Buffer): void {
    if (bytes[0] === messageKind.requestChunk) this.#requests?.take(decodeChunk(bytes));
    else if (bytes[0] === messageKind.resultChunk) throw unexpected('A result');
    else this.#control(decodeControl(bytes));
  }

  #control(message: ControlMessage): void {
    switch (message.type) {
      case 'cancel':
        this.#requests?.cancel(message.id);
        return;
      case 'ping':
        this.#outbox.control({ type: 'pong', id: message.id, atMs: this.#context.clock.now() });
        return;
      case 'pong':
        return;
      case 'error':
        if (message.id === null) this.#close('link/closed');
        else this.#requests?.cancel(message.id);
        return;
      case 'goodbye':
        this.#leave('link/closed');
        return;
      default:
        throw unexpected(`A second or misdirected ${message.type}`);
    }
  }

  /** Looks twice per idle timeout whether the other end still lives. */
  #beat(): void {
    const { clock, limits } = this.#context;
    this.#cancelTimer = clock.after(limits.idleTimeoutMs / 2, () => this.#beat());
    if (this.#throttle.paused) return;
    if (clock.now() - this.#heardMs >= limits.idleTimeoutMs) {
      this.#context.log.info({ ...this.#peer }, 'connection lost: nothing was heard');
      this.terminate();
      return;
    }
    this.#requests?.dropStalled();
    this.#socket.ping();
  }

  #leave(code: ErrorCode): void {
    this.#farewell ??= code;
    this.#requests?.refuseNew();
    this.#closeIfDone();
  }

  #closeIfDone(): void {
    if (this.#farewell !== undefined && this.#state === 'open' && this.#requests?.inFlight === 0) {
      this.#close(this.#farewell);
    }
  }

  #close(code: ErrorCode): void {
    if (this.#state === 'closed') return;
    this.#end();
    this.#socket.close(closeCodeFor(code), code);
    this.#cancelTimer = this.#context.clock.after(closeTimeoutMs, () => this.#socket.terminate());
  }

  /** Frees what the connection holds; idempotent. */
  #end(): void {
    this.#cancelTimer();
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#requests?.close();
    this.#outbox.stop();
    this.#throttle.stop();
  }
}

function unexpected(what: string): IsthmusError {
  return new IsthmusError('wire/unexpected', `${what} is not for the receiver.`);
}
