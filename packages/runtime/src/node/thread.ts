import { Worker } from 'node:worker_threads';
import { type ErrorCode, IsthmusError } from '@isthmus/core';
import { messageOf } from '../ort-values.js';
import {
  type CallRequest,
  guardSlots,
  type LoadedSession,
  type RunReply,
  type WorkerReply,
  type WorkerRequest,
  type WorkerSettings,
} from './messages.js';

type Reply = LoadedSession | RunReply | null;
// Omit would collapse the union.
type Uncalled<Request> = Request extends unknown ? Omit<Request, 'call'> : never;

// A process that wants to end and cannot is worse than one that aborts.
const longestExitMs = 60_000;

/** One worker thread from its start to its end. */
export interface EngineThread {
  /** Whether calls can still succeed. */
  readonly alive: boolean;
  /** @throws IsthmusError what the worker answered, or `runtime/crashed` when it dies before it answers. */
  call(request: Uncalled<CallRequest>, transfer: readonly ArrayBuffer[]): Promise<Reply>;
  /** Refuses what is pending, waits for the native call in progress, ends the thread. */
  close(): Promise<void>;
}

/** Starts the worker. It holds the process open only while a call is pending. */
export function startEngineThread(sessionOptions: Record<string, unknown>): EngineThread {
  const pending = new Map<
    number,
    { resolve: (value: Reply) => void; reject: (error: IsthmusError) => void }
  >();
  const guard = new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT));
  const settings: WorkerSettings = { sessionOptions, guard };
  const worker = new Worker(new URL('./worker.js', import.meta.url), {
    name: 'isthmus-runtime',
    workerData: settings,
    // Flags meant for the program's own entry point, as --input-type, would keep the worker from starting.
    execArgv: [],
  });
  worker.unref();
  let nextCall = 1;
  let alive = true;
  let crash: unknown;

  const rejectAll = (code: ErrorCode, message: string, cause?: unknown): void => {
    alive = false;
    for (const { reject } of pending.values()) reject(new IsthmusError(code, message, { cause }));
    pending.clear();
  };
  // Leaving inside a native call would abort the process, see guardSlots: let it end first.
  const onProcessExit = (): void => {
    Atomics.store(guard, guardSlots.stop, 1);
    Atomics.wait(guard, guardSlots.busy, 1, longestExitMs);
  };
  watchProcessExit(onProcessExit);

  worker.on('message', (reply: WorkerReply) => {
    const call = pending.get(reply.call);
    if (call === undefined) return;
    pending.delete(reply.call);
    if (pending.size === 0) worker.unref();
    if (reply.ok) call.resolve(reply.value);
    else call.reject(new IsthmusError(reply.code, reply.message, { cause: reply.cause }));
  });
  worker.on('error', (error) => {
    crash = error;
  });
  const exited = new Promise<void>((resolve) => {
    worker.on('exit', (exitCode) => {
      unwatchProcessExit(onProcessExit);
      const reason = crash === undefined ? `exit code ${exitCode}` : messageOf(crash);
      rejectAll(
        'runtime/crashed',
        `The inference worker ended (${reason}). Load the model again; a new worker will be started.`,
        crash,
      );
      resolve();
    });
  });

  return {
    get alive() {
      return alive;
    },
    call(request, transfer) {
      const call = nextCall++;
      return new Promise((resolve, reject) => {
        worker.postMessage({ ...request, call }, [...transfer]);
        pending.set(call, { resolve, reject });
        worker.ref();
      });
    },
    close() {
      if (alive) {
        rejectAll('runtime/unavailable', 'The runtime was closed before this call was answered.');
        Atomics.store(guard, guardSlots.stop, 1);
        worker.postMessage({ kind: 'close' } satisfies WorkerRequest);
        worker.ref();
      }
      return exited;
    },
  };
}

// A program may well have more than ten runtimes, where Node.js starts to warn of leaked listeners.
function watchProcessExit(listener: () => void): void {
  const limit = process.getMaxListeners();
  if (limit > 0) process.setMaxListeners(limit + 1);
  process.on('exit', listener);
}

function unwatchProcessExit(listener: () => void): void {
  process.off('exit', listener);
  const limit = process.getMaxListeners();
  if (limit > 0) process.setMaxListeners(limit - 1);
}
