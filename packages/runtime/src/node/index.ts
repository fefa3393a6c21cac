import {
  IsthmusError,
  type NamedTensors,
  type RunResult,
  type Runtime,
  type RuntimeSession,
} from '@isthmus/core';
import { checkFeeds, checkFetches, toNamedTensors } from '../checks.js';
import type { LoadedSession, RunReply } from './messages.js';
import { type EngineThread, startEngineThread } from './thread.js';

export interface NodeRuntimeOptions {
  /** Threads that compute one operator together. @default ONNX Runtime's choice: one per physical core */
  threads?: number;
  /** In order of preference; `cpu` is always there, others depend on the installed package. @default ['cpu'] */
  executionProviders?: readonly string[];
  /** @default 'all' */
  graphOptimizationLevel?: 'disabled' | 'basic' | 'extended' | 'layout' | 'all';
  /** Keep freed memory for the next run: faster, but the process never shrinks. @default true */
  enableMemoryArena?: boolean;
  /** Plan the memory of fixed-shape models ahead, from the first run. @default true */
  enableMemoryPattern?: boolean;
}

/**
 * A runtime on onnxruntime-node (1.30 or later, to be installed next to this package) inside one worker thread,
 * which starts with the first `load`. The caller's event loop stays free while a model runs; runs of one runtime
 * come one after the other, so a program that wants several at once makes several runtimes.
 *
 * - The model and the feeds are copied once and moved to the worker; the caller keeps its arrays. Outputs are
 *   moved back without copying.
 * - If the worker dies, pending calls and later runs of its sessions reject with `runtime/crashed`; `load` starts
 *   a new worker. Sessions are not reloaded by themselves, since that would keep every model in memory twice.
 * - An idle runtime does not keep the process alive. `close()`, and the end of the process, wait for the run that
 *   is in progress (onnxruntime-node would abort the process otherwise); what waits behind it is rejected with
 *   `runtime/unavailable`, as is everything after `close()`.
 *
 * @throws IsthmusError `usage/invalid` if `threads` is not a positive whole number.
 *
 * @example
 * ```ts
 * import { readFile } from 'node:fs/promises';
 * import { createTensor } from '@isthmus/core';
 * import { createNodeRuntime } from '@isthmus/runtime/node';
 *
 * const runtime = createNodeRuntime({ threads: 2 });
 * const session = await runtime.load(await readFile('mobilenet-v1.onnx'));
 * const x = createTensor('float32', [1, 3, 224, 224], new Float32Array(3 * 224 * 224));
 * const { outputs, durationMs } = await session.run({ [session.inputNames[0]!]: x });
 * await runtime.close();
 * ```
 */
export function createNodeRuntime(options: NodeRuntimeOptions = {}): Runtime {
  const { threads, executionProviders = ['cpu'] } = options;
  if (threads !== undefined && !(Number.isSafeInteger(threads) && threads > 0)) {
    throw new IsthmusError('usage/invalid', `threads must be a positive whole number, not ${threads}.`);
  }
  const sessionOptions = {
    executionProviders: [...executionProviders],
    graphOptimizationLevel: options.graphOptimizationLevel ?? 'all',
    enableCpuMemArena: options.enableMemoryArena ?? true,
    enableMemPattern: options.enableMemoryPattern ?? true,
    executionMode: 'sequential',
    // Else each thread goes on looking for work, at full load, for some 30 ms after every run: that is battery on a
    // device, and the next request's time in the cloud.
    extra: { session: { force_spinning_stop: '1' } },
    // Fatal only: every error comes back as an exception.
    logSeverityLevel: 4,
    ...(threads === undefined ? {} : { intraOpNumThreads: threads }),
  };
  const threadsText =
    threads === undefined ? 'default threads' : `${threads} thread${threads === 1 ? '' : 's'}`;
  let thread: EngineThread | undefined;
  let engine = '';
  let closed = false;

  return {
    get description() {
      return `onnxruntime-node ${engine}${executionProviders.join('+')}, ${threadsText}`;
    },
    async load(model) {
      if (closed) throw closedError();
      if (thread?.alive !== true) thread = startEngineThread(sessionOptions);
      const ownThread = thread;
      const copy = new Uint8Array(model);
      const loaded = (await ownThread.call({ kind: 'load', model: copy }, [copy.buffer])) as LoadedSession;
      engine = `${loaded.engine} `;
      return createSession(ownThread, loaded, () => closed);
    },
    async close() {
      closed = true;
      await thread?.close();
    },
  };
}

function createSession(thread: EngineThread, loaded: LoadedSession, isClosed: () => boolean): RuntimeSession {
  const inputNames = loaded.inputs.map((input) => input.name);
  const outputNames = loaded.outputs.map((output) => output.name);
  let released: Promise<void> | undefined;
  return {
    inputNames,
    outputNames,
    async run(feeds, fetches): Promise<RunResult> {
      if (isClosed()) throw closedError();
      if (released !== undefined) {
        throw new IsthmusError('runtime/run-failed', 'The session was released. Load the model again.');
      }
      if (!thread.alive) {
        throw new IsthmusError(
          'runtime/crashed',
          'The inference worker that held this session has ended. Load the model again.',
        );
      }
      checkFeeds(loaded.inputs, feeds);
      const wanted = checkFetches(outputNames, fetches);
      const copies = copyFeeds(feeds);
      const reply = (await thread.call(
        { kind: 'run', session: loaded.session, feeds: copies, fetches: wanted },
        Object.values(copies).map((tensor) => tensor.data.buffer as ArrayBuffer),
      )) as RunReply;
      return { outputs: toNamedTensors(reply.outputs), durationMs: reply.durationMs };
    },
    release() {
      released ??= releaseSession(thread, loaded.session);
      return released;
    },
  };
}

// A worker that is gone, or goes meanwhile, has freed the session already.
async function releaseSession(thread: EngineThread, session: number): Promise<void> {
  if (!thread.alive) return;
  try {
    await thread.call({ kind: 'release', session }, []);
  } catch (error) {
    if (thread.alive) throw error;
  }
}

// slice() gives exactly the elements, in a buffer of their own that may be moved.
function copyFeeds(feeds: NamedTensors): NamedTensors {
  return Object.fromEntries(
    Object.entries(feeds).map(([name, { type, shape, data }]) => [
      name,
      { type, shape: [...shape], data: data.slice() },
    ]),
  );
}

function closedError(): IsthmusError {
  return new IsthmusError('runtime/unavailable', 'The runtime is closed. Create a new one.');
}
