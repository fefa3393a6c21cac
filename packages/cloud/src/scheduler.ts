import {
  type Clock,
  checkCrc,
  type DecodeWatch,
  encodeResultPacket,
  IsthmusError,
  type RequestHeader,
  requestHeaderBytes,
  toIsthmusError,
} from '@isthmus/core';
import { getDecoder, type ServedModel } from './model.js';
import type { SpanPool } from './spans.js';

/** Where the time between a packet's arrival and its answer went; together it is all of it. */
export interface Timing {
  /** Waiting for a turn, for a span to load, for the runtime. */
  queueMs: number;
  decodeMs: number;
  runMs: number;
}

/** How a request ended. `timing` is null if it never got its turn. */
export type Outcome =
  | { packet: Uint8Array; timing: Timing }
  | { error: IsthmusError; timing: Timing | null; retryAfterMs: number | null };

/** A whole request packet on its way to an answer. */
export interface Job {
  readonly model: ServedModel;
  readonly header: RequestHeader;
  readonly packet: Uint8Array;
  readonly firstMs: number;
  readonly lastMs: number;
  /** Called once, unless the job is cancelled while it waits. */
  readonly done: (outcome: Outcome) => void;
  /** Called once, when the scheduler needs the packet no longer. */
  readonly release: () => void;
}

export interface RequestSchedulerOptions {
  clock: Clock;
  spans: SpanPool;
  /** Jobs being decoded or run at once. */
  concurrency: number;
  queueLength: number;
  /** Told of what is the receiver's fault. */
  onFailure: (error: IsthmusError, model: ServedModel) => void;
}

// Weight of the newest job in the mean service time, from which `retryAfterMs` is told.
const newestWeight = 0.1;
const firstGuessMs = 50;

/** Jobs first come, first served; each is decoded, run through the rest of its model and encoded. */
export class RequestScheduler {
  readonly #options: RequestSchedulerOptions;
  readonly #waiting: Job[] = [];
  readonly #running = new Set<Job>();
  readonly #cancelled = new WeakSet<Job>();
  #meanServiceMs = firstGuessMs;

  constructor(options: RequestSchedulerOptions) {
    this.#options = options;
  }

  get numWaiting(): number {
    return this.#waiting.length;
  }

  get numRunning(): number {
    return this.#running.size;
  }

  /** When a client that was turned away may find the queue shorter. */
  get retryAfterMs(): number {
    const ahead = this.#waiting.length + this.#running.size;
    return Math.ceil((ahead * this.#meanServiceMs) / this.#options.concurrency);
  }

  /** Takes a job; its `done` tells the rest, also that the queue is full (`receiver/busy`). */
  submit(job: Job): void {
    const { concurrency, queueLength } = this.#options;
    if (this.#running.size >= concurrency && this.#waiting.length >= queueLength) {
      const { retryAfterMs } = this;
      const error = new IsthmusError(
        'receiver/busy',
        `${queueLength} requests are waiting already. Try again in ${retryAfterMs} ms.`,
        { retryable: true },
      );
      job.release();
      job.done({ error, timing: null, retryAfterMs });
      return;
    }
    this.#waiting.push(job);
    this.#next();
  }

  /**
   * Takes a job out of the queue. A model that runs cannot be stopped, but the job's next one does not begin; its `done`
   * may be called.
   */
  cancel(job: Job): void {
    const index = this.#waiting.indexOf(job);
    if (index < 0) {
      this.#cancelled.add(job);
      return;
    }
    this.#waiting.splice(index, 1);
    job.release();
  }

  #next(): void {
    while (this.#running.size < this.#options.concurrency) {
      const job = this.#waiting.shift();
      if (job === undefined) return;
      this.#running.add(job);
      void this.#serve(job);
    }
  }

  async #serve(job: Job): Promise<void> {
    const { clock, onFailure } = this.#options;
    const startMs = clock.now();
    const timing: Timing = { queueMs: 0, decodeMs: 0, runMs: 0 };
    const finishTiming = (): Timing => {
      timing.queueMs = Math.max(0, clock.now() - job.lastMs - timing.decodeMs - timing.runMs);
      return timing;
    };
    let outcome: Outcome;
    try {
      const packet = await this.#answer(job, timing);
      outcome = { packet, timing: finishTiming() };
    } catch (cause) {
      const error = toIsthmusError(cause, 'internal', 'The receiver failed');
      if (isOwnFault(error)) onFailure(error, job.model);
      outcome = {
        error,
        timing: error.code === 'request/deadline' ? null : finishTiming(),
        retryAfterMs: null,
      };
    }
    this.#running.delete(job);
    this.#meanServiceMs += newestWeight * (clock.now() - startMs - this.#meanServiceMs);
    job.release();
    job.done(outcome);
    this.#next();
  }

  async #answer(job: Job, timing: Timing): Promise<Uint8Array> {
    const { clock, spans } = this.#options;
    const { model, header } = job;
    this.#checkWanted(job);
    const decodeStartMs = clock.now();
    let waitedMs = 0;
    const watch = this.#watch(job, (durationMs) => {
      waitedMs += durationMs;
    });
    const payload = job.packet.subarray(requestHeaderBytes);
    checkCrc(payload, header.crc);
    const tensors = await spans.decode(model.bundle, header.codec, getDecoder(model, header), (decoder) =>
      decoder.decode(payload, header, watch),
    );
    timing.decodeMs = Math.max(0, clock.now() - decodeStartMs - waitedMs);
    this.#checkWanted(job);
    const { outputs, durationMs } = await spans.run(model.bundle, header.to, tensors);
    timing.runMs = durationMs;
    return encodeResultPacket(outputs);
  }

  /** Tells a decoder's waiting for its networks, and for other jobs that are running, from its work. */
  #watch(job: Job, onWaited: (durationMs: number) => void): DecodeWatch {
    const { clock } = this.#options;
    return {
      wait: async (begin, workMs) => {
        this.#checkWanted(job);
        const startMs = clock.now();
        const value = await begin();
        onWaited(Math.max(0, clock.now() - startMs - workMs(value)));
        return value;
      },
    };
  }

  /** Before each step that takes long. @throws IsthmusError `request/cancelled`, `request/deadline` */
  #checkWanted(job: Job): void {
    if (this.#cancelled.has(job)) throw new IsthmusError('request/cancelled', 'Cancelled, as asked.');
    const { header, firstMs } = job;
    const lateMs = this.#options.clock.now() - firstMs - header.deadlineMs;
    if (header.deadlineMs > 0 && lateMs > 0) {
      throw new IsthmusError(
        'request/deadline',
        `The deadline of ${header.deadlineMs} ms passed ${Math.ceil(lateMs)} ms before this request's turn.`,
      );
    }
  }
}

function isOwnFault({ code }: IsthmusError): boolean {
  return code === 'internal' || code.startsWith('runtime/') || code.startsWith('bundle/');
}
