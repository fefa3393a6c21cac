import { randomBytes } from 'node:crypto';
import type { Clock } from '@isthmus/core';
import type { ServedModel } from './model.js';
import type { ReceiverLimits } from './options.js';
import type { Job, Outcome, RequestScheduler } from './scheduler.js';

/** A request whose packet came in whole. */
export interface RequestRecord {
  readonly id: number;
  readonly numBytes: number;
  readonly firstMs: number;
  readonly lastMs: number;
  job: Job | null;
  /** Null while it waits or runs. */
  outcome: Outcome | null;
}

/** Where a session's answers go while it has a connection. */
export interface AnswerSink {
  answer(record: RequestRecord): void;
  /** Another connection took the session over. */
  replaced(): void;
}

/** What outlives a connection: its requests by id. */
export interface Session {
  readonly id: string;
  readonly model: ServedModel;
  /** Whoever takes the session up again must have shown the same token. */
  readonly owner: string;
  readonly requests: Map<number, RequestRecord>;
  sink: AnswerSink | null;
}

interface Kept {
  session: Session;
  record: RequestRecord;
  packet: Uint8Array;
  endedMs: number;
}

export interface SessionStoreOptions {
  clock: Clock;
  limits: ReceiverLimits;
  scheduler: RequestScheduler;
}

/**
 * All sessions, and the results kept in case a link is lost before they arrive. Both are bounded in number, bytes
 * and time; what is dropped is run again if it is asked for again. Errors are not kept: a request that failed may
 * be tried again under its id.
 */
export class SessionStore {
  readonly #options: SessionStoreOptions;
  readonly #sessions = new Map<string, Session>();
  /** Sessions without a connection, in the order they lost it. */
  readonly #detached = new Map<Session, number>();
  /** In the order they ended. */
  readonly #kept = new Map<RequestRecord, Kept>();
  #keptBytes = 0;
  #cancelTimer: (() => void) | undefined;

  constructor(options: SessionStoreOptions) {
    this.#options = options;
  }

  get stats(): { sessions: number; detached: number; keptResults: number; keptBytes: number } {
    return {
      sessions: this.#sessions.size,
      detached: this.#detached.size,
      keptResults: this.#kept.size,
      keptBytes: this.#keptBytes,
    };
  }

  create(model: ServedModel, owner: string): Session {
    const id = randomBytes(18).toString('base64url');
    const session: Session = { id, model, owner, requests: new Map(), sink: null };
    this.#sessions.set(id, session);
    return session;
  }

  /** The session of that id if it is still known, for this model and owner; its old connection loses it. */
  resume(id: string, model: ServedModel, owner: string): Session | undefined {
    const session = this.#sessions.get(id);
    if (session === undefined || session.model !== model || session.owner !== owner) return undefined;
    const { sink } = session;
    session.sink = null;
    this.#detached.delete(session);
    sink?.replaced();
    return session;
  }

  /** The connection is gone. A session with nothing to lose is dropped at once. */
  detach(session: Session): void {
    session.sink = null;
    const { resumeMs, keptSessions } = this.#options.limits;
    if (resumeMs === 0 || session.requests.size === 0) {
      this.#drop(session);
      return;
    }
    this.#detached.set(session, this.#options.clock.now());
    for (const oldest of this.#detached.keys()) {
      if (this.#detached.size <= keptSessions) break;
      this.#drop(oldest);
    }
    this.#watch();
  }

  /** Notes that a request is under way. */
  begin(session: Session, record: RequestRecord): void {
    session.requests.set(record.id, record);
  }

  /** Ends a request, once: a later end is ignored. The answer goes out if there is a connection. */
  end(session: Session, record: RequestRecord, outcome: Outcome): boolean {
    if (record.outcome !== null || session.requests.get(record.id) !== record) return false;
    record.outcome = outcome;
    record.job = null;
    if ('packet' in outcome) this.#keep(session, record, outcome.packet);
    else session.requests.delete(record.id);
    session.sink?.answer(record);
    return true;
  }

  /** Number of requests of the session that wait or run. */
  numUnderWay(session: Session): number {
    let count = 0;
    for (const record of session.requests.values()) if (record.outcome === null) count++;
    return count;
  }

  /** Forgets everything. */
  close(): void {
    for (const session of [...this.#sessions.values()]) this.#drop(session);
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  #keep(session: Session, record: RequestRecord, packet: Uint8Array): void {
    const { keptResults, keptResultBytes } = this.#options.limits;
    this.#kept.set(record, { session, record, packet, endedMs: this.#options.clock.now() });
    this.#keptBytes += packet.byteLength;
    const ended = [...session.requests.values()].filter((other) => other.outcome !== null);
    for (const oldest of ended.slice(0, Math.max(0, ended.length - keptResults))) this.#forget(oldest);
    for (const oldest of this.#kept.keys()) {
      if (this.#keptBytes <= keptResultBytes) break;
      this.#forget(oldest);
    }
    this.#watch();
  }

  #forget(record: RequestRecord): void {
    const kept = this.#kept.get(record);
    if (kept === undefined) return;
    this.#kept.delete(record);
    this.#keptBytes -= kept.packet.byteLength;
    if (kept.session.requests.get(record.id) === record) kept.session.requests.delete(record.id);
  }

  #drop(session: Session): void {
    this.#sessions.delete(session.id);
    this.#detached.delete(session);
    for (const record of [...session.requests.values()]) {
      if (record.job !== null) this.#options.scheduler.cancel(record.job);
      this.#forget(record);
    }
    session.requests.clear();
  }

  /** Keeps one timer running as long as there is something that expires. */
  #watch(): void {
    const { clock, limits } = this.#options;
    if (this.#cancelTimer !== undefined) return;
    this.#cancelTimer = clock.after(Math.max(1000, limits.resumeMs / 4), () => {
      this.#cancelTimer = undefined;
      const expiredMs = clock.now() - limits.resumeMs;
      for (const [session, sinceMs] of this.#detached) if (sinceMs <= expiredMs) this.#drop(session);
      for (const { record, endedMs } of this.#kept.values()) if (endedMs <= expiredMs) this.#forget(record);
      if (this.#detached.size > 0 || this.#kept.size > 0) this.#watch();
    });
  }
}
