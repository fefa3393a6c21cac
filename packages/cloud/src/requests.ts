import {
  type Chunk,
  decodeRequestHeader,
  type ErrorCode,
  IsthmusError,
  PacketAssembler,
  type RequestHeader,
} from '@isthmus/core';
import { drainingError } from './admission.js';
import { publicMessage, type ReceiverContext } from './context.js';
import { checkRequest, oversizedCodec } from './model.js';
import type { Outbox } from './outbox.js';
import type { Job, Outcome, Timing } from './scheduler.js';
import type { AnswerSink, RequestRecord, Session } from './sessions.js';

interface Incoming {
  header: RequestHeader;
  numBytes: number;
  heardMs: number;
}

export interface RequestEvents {
  /** A request has ended, though its result may still be on its way out. */
  onEnded: () => void;
  /** Another connection took the session over. */
  onReplaced: () => void;
}

// Thrown by the assembler's `admit` for a request that is known already: not refused, but not taken twice.
class KnownRequest extends IsthmusError {
  constructor() {
    super('wire/unexpected', 'This request is known already.');
  }
}

/** The requests of one connection: from chunks to jobs, and from outcomes to answers. */
export class Requests implements AnswerSink {
  readonly #context: ReceiverContext;
  readonly #session: Session;
  readonly #outbox: Outbox;
  readonly #events: RequestEvents;
  readonly #assembler: PacketAssembler;
  readonly #incoming = new Map<number, Incoming>();
  #refusesNew = false;

  constructor(context: ReceiverContext, session: Session, outbox: Outbox, events: RequestEvents) {
    this.#context = context;
    this.#session = session;
    this.#outbox = outbox;
    this.#events = events;
    this.#assembler = new PacketAssembler({
      clock: context.clock,
      maxOpen: context.limits.inFlightPerConnection,
      admit: (id, firstChunk) => this.#admit(id, firstChunk),
    });
    session.sink = this;
  }

  /** Requests being received, waiting, running or being answered. */
  get inFlight(): number {
    const underWay = this.#context.sessions.numUnderWay(this.#session);
    return this.#incoming.size + underWay + this.#outbox.numSending;
  }

  /** From now on only what has begun is finished. */
  refuseNew(): void {
    this.#refusesNew = true;
  }

  /** @throws IsthmusError `wire/malformed` when the connection cannot go on. */
  take(chunk: Chunk): void {
    const incoming = this.#incoming.get(chunk.id);
    const event = this.#assembler.take(chunk);
    if (incoming !== undefined) incoming.heardMs = this.#context.clock.now();
    if (event === undefined) return;
    if (event.type === 'refused') {
      this.#forgetIncoming(event.id);
      if (event.error instanceof KnownRequest) this.#answerAgain(event.id);
      else this.#refuse(event.id, event.error);
      return;
    }
    const { id, packet, firstMs, lastMs } = event.packet;
    const { header } = this.#incoming.get(id)!;
    this.#incoming.delete(id);
    this.#start(
      { id, numBytes: packet.byteLength, firstMs, lastMs, job: null, outcome: null },
      header,
      packet,
    );
  }

  cancel(id: number): void {
    const error = new IsthmusError('request/cancelled', 'Cancelled, as asked.');
    const record = this.#session.requests.get(id);
    if (this.#assembler.cancel(id)) {
      this.#forgetIncoming(id);
      this.#refuse(id, error);
    } else if (record !== undefined && record.outcome === null) {
      if (record.job !== null) this.#context.scheduler.cancel(record.job);
      this.#end(record, { error, timing: null, retryAfterMs: null });
    } else if (this.#outbox.cancel(id)) {
      this.#sendError(id, error, null);
    }
  }

  /** Reading was paused: that nothing came is not the client's fault. */
  excuseSilence(): void {
    const nowMs = this.#context.clock.now();
    for (const incoming of this.#incoming.values()) incoming.heardMs = nowMs;
  }

  /** Ends packets of which nothing has come for too long. */
  dropStalled(): void {
    const { clock, limits } = this.#context;
    const stalledMs = clock.now() - limits.idleTimeoutMs;
    for (const [id, { heardMs }] of this.#incoming) {
      if (heardMs > stalledMs) continue;
      this.#assembler.cancel(id);
      this.#forgetIncoming(id);
      this.#refuse(
        id,
        new IsthmusError(
          'request/deadline',
          `Nothing more of this request came for ${limits.idleTimeoutMs} ms.`,
          { retryable: true },
        ),
      );
    }
  }

  /** The connection is gone: what was not whole is forgotten, the rest belongs to the session. */
  close(): void {
    for (const id of [...this.#incoming.keys()]) this.#forgetIncoming(id);
    if (this.#session.sink === this) this.#context.sessions.detach(this.#session);
  }

  answer({ id, numBytes, firstMs, lastMs, outcome }: RequestRecord): void {
    if (outcome === null) return;
    if (outcome.timing !== null) {
      this.#outbox.control({ type: 'receipt', id, numBytes, firstMs, lastMs, ...outcome.timing });
    }
    if ('error' in outcome) {
      this.#sendError(id, outcome.error, outcome.retryAfterMs);
    } else {
      this.#outbox.result(id, outcome.packet);
    }
    this.#events.onEnded();
  }

  replaced(): void {
    this.#events.onReplaced();
  }

  /** Everything that can be known before memory is set aside. Returns the packet's length. */
  #admit(id: number, firstChunk: Uint8Array): number {
    const { limits, budget } = this.#context;
    if (this.#session.requests.has(id) || this.#outbox.isSending(id)) throw new KnownRequest();
    if (this.#refusesNew) throw drainingError();
    if (this.inFlight >= limits.inFlightPerConnection) {
      throw new IsthmusError(
        'limit/in-flight',
        `${limits.inFlightPerConnection} requests are under way; wait for an answer.`,
        { retryable: true },
      );
    }
    const header = decodeRequestHeader(firstChunk);
    const numBytes = checkRequest(this.#session.model, header, limits.packetBytes);
    if (!budget.tryTake(numBytes)) {
      throw new IsthmusError('receiver/busy', 'The receiver holds as much as it may. Try again.', {
        retryable: true,
      });
    }
    this.#incoming.set(id, { header, numBytes, heardMs: this.#context.clock.now() });
    return numBytes;
  }

  #start(record: RequestRecord, header: RequestHeader, packet: Uint8Array): void {
    const { budget, scheduler, sessions, metrics } = this.#context;
    const { id, numBytes, firstMs, lastMs } = record;
    const { model } = this.#session;
    const oversized = oversizedCodec(model, header);
    if (oversized !== null) metrics.oversized(model.id, oversized);
    this.#outbox.control({ type: 'arrived', id, numBytes, firstMs, lastMs });
    const job: Job = {
      model,
      header,
      packet,
      firstMs,
      lastMs,
      done: (outcome) => this.#end(record, outcome),
      release: () => budget.give(numBytes),
    };
    record.job = job;
    sessions.begin(this.#session, record);
    scheduler.submit(job);
  }

  // Also called after the connection is gone, with the session living on.
  #end(record: RequestRecord, outcome: Outcome): void {
    if (!this.#context.sessions.end(this.#session, record, outcome)) return;
    this.#count('error' in outcome ? outcome.error.code : 'ok', outcome.timing);
  }

  #answerAgain(id: number): void {
    const record = this.#session.requests.get(id);
    // One that still runs, or whose answer is on its way, is answered once.
    if (record === undefined || record.outcome === null || this.#outbox.isSending(id)) return;
    this.#context.metrics.answeredFromMemory();
    this.answer(record);
  }

  #refuse(id: number, error: IsthmusError): void {
    this.#count(error.code, null);
    this.#sendError(id, error, error.code === 'receiver/busy' ? this.#context.scheduler.retryAfterMs : null);
    this.#events.onEnded();
  }

  #sendError(id: number, error: IsthmusError, retryAfterMs: number | null): void {
    const { code, retryable } = error;
    this.#outbox.control({ type: 'error', id, code, message: publicMessage(error), retryable, retryAfterMs });
  }

  #forgetIncoming(id: number): void {
    const incoming = this.#incoming.get(id);
    if (incoming === undefined) return;
    this.#incoming.delete(id);
    this.#context.budget.give(incoming.numBytes);
  }

  #count(code: ErrorCode | 'ok', timing: Timing | null): void {
    this.#context.metrics.requestEnded(this.#session.model.id, code, timing);
  }
}
