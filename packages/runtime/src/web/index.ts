import {
  IsthmusError,
  type NamedTensors,
  type RunResult,
  type Runtime,
  type RuntimeSession,
} from '@isthmus/core';
import type { InferenceSession } from 'onnxruntime-web';
import { checkFeeds, checkFetches, toNamedTensors } from '../checks.js';
import { asBitPatterns, describeValues, messageOf, type OrtValue } from '../ort-values.js';
import { loadWebEngine, type Ort, type WebEngine, type WebExecutionProvider } from './engine.js';

export type { WebExecutionProvider } from './engine.js';

export interface WebRuntimeOptions {
  /** In order of preference; what is not there is passed over. @default ['webgpu', 'wasm'] */
  executionProviders?: readonly WebExecutionProvider[];
  /** wasm threads; always 1 on a page that is not cross-origin isolated. @default half the cores, at most 4 */
  threads?: number;
  /**
   * Where onnxruntime-web's `.wasm` (and `.mjs`) files are: a folder's URL, or the URL of each. Needed when the
   * bundler does not copy them next to the script, as esbuild does not. @default next to the script
   */
  wasmPaths?: string | { wasm?: string; mjs?: string };
}

/**
 * A runtime on onnxruntime-web (1.30 or later, to be installed next to this package), for browsers, and for
 * Node.js where native code is not wanted. WebGPU is used if the page has an adapter when the first model is
 * loaded; if a model does not load there, wasm is tried, and `description` says why.
 *
 * - Runs on the calling thread: wasm blocks it while a model runs. Running inside a Web Worker will come behind
 *   this same interface.
 * - All calls come one after the other, since the engine must not be entered twice. So there should be one
 *   runtime per page; the engine's settings (threads, wasmPaths) are those of the first.
 * - Feeds are read when their turn comes: do not change them before the promise settles.
 * - `close()` lets the call in progress end; what waits behind it rejects with `runtime/unavailable`, as does
 *   everything after `close()`.
 *
 * @throws IsthmusError `usage/invalid` if `threads` is not a positive whole number.
 *
 * @example
 * ```ts
 * import { createTensor } from '@isthmus/core';
 * import { createWebRuntime } from '@isthmus/runtime/web';
 *
 * const runtime = createWebRuntime({ wasmPaths: '/assets/ort/' });
 * const session = await runtime.load(new Uint8Array(await (await fetch('model.onnx')).arrayBuffer()));
 * const x = createTensor('float32', [1, 3, 224, 224], new Float32Array(3 * 224 * 224));
 * const { outputs } = await session.run({ [session.inputNames[0]!]: x });
 * console.log(runtime.description); // onnxruntime-web 1.30.0 webgpu, 1 thread
 * ```
 */
export function createWebRuntime(options: WebRuntimeOptions = {}): Runtime {
  const { threads, executionProviders = ['webgpu', 'wasm'], wasmPaths } = options;
  if (threads !== undefined && !(Number.isSafeInteger(threads) && threads > 0)) {
    throw new IsthmusError('usage/invalid', `threads must be a positive whole number, not ${threads}.`);
  }
  const sessions = new Set<InferenceSession>();
  let engine: Promise<WebEngine> | undefined;
  let description = `onnxruntime-web ${executionProviders.join(' or ')}`;
  let closed: Promise<void> | undefined;
  let lastCall: Promise<unknown> = Promise.resolve();

  const inTurn = <Value>(call: () => Promise<Value>): Promise<Value> => {
    const result = lastCall.then(call);
    lastCall = result.catch(() => undefined);
    return result;
  };
  const refuseIfClosed = (): void => {
    if (closed !== undefined) {
      throw new IsthmusError('runtime/unavailable', 'The runtime is closed. Create a new one.');
    }
  };
  const startEngine = async (): Promise<WebEngine> => {
    engine ??= loadWebEngine({ executionProviders, threads, wasmPaths });
    try {
      return await engine;
    } catch (error) {
      // The next load may find what was missing.
      engine = undefined;
      throw error;
    }
  };

  return {
    get description() {
      return description;
    },
    load: (model) =>
      inTurn(async () => {
        refuseIfClosed();
        const web = await startEngine();
        const { session, provider, notes } = await createOrtSession(web, model);
        sessions.add(session);
        description = describe(web, provider, notes);
        return wrapSession(web.ort, session, {
          inTurn,
          refuseIfClosed,
          forget: () => sessions.delete(session),
        });
      }),
    close() {
      closed ??= inTurn(async () => {
        for (const session of sessions) await session.release();
        sessions.clear();
      });
      return closed;
    },
  };
}

// Falls through the providers; the notes say what was not there or failed on the way.
async function createOrtSession(
  web: WebEngine,
  model: Uint8Array,
): Promise<{ session: InferenceSession; provider: WebExecutionProvider; notes: string[] }> {
  const notes = [...web.notes];
  let failure: unknown;
  for (const provider of web.providers) {
    try {
      const session = await web.ort.InferenceSession.create(model, {
        executionProviders: [provider],
        graphOptimizationLevel: 'all',
        logSeverityLevel: 4,
      });
      return { session, provider, notes };
    } catch (error) {
      failure = error;
      notes.push(`not on ${provider}: ${messageOf(error)}`);
    }
  }
  throw new IsthmusError(
    'runtime/load-failed',
    `onnxruntime-web cannot load this model: ${messageOf(failure)}`,
    {
      cause: failure,
    },
  );
}

interface SessionOwner {
  inTurn<Value>(call: () => Promise<Value>): Promise<Value>;
  refuseIfClosed(): void;
  /** False if the session was freed before. */
  forget(): boolean;
}

function wrapSession(ort: Ort, session: InferenceSession, owner: SessionOwner): RuntimeSession {
  const inputs = describeValues(session.inputMetadata);
  let released: Promise<void> | undefined;
  return {
    inputNames: [...session.inputNames],
    outputNames: [...session.outputNames],
    async run(feeds, fetches) {
      owner.refuseIfClosed();
      if (released !== undefined) {
        throw new IsthmusError('runtime/run-failed', 'The session was released. Load the model again.');
      }
      checkFeeds(inputs, feeds);
      const wanted = checkFetches(session.outputNames, fetches);
      return owner.inTurn(async () => {
        owner.refuseIfClosed();
        return runOnce(ort, session, feeds, wanted);
      });
    },
    release() {
      released ??= owner.inTurn(async () => {
        if (owner.forget()) await session.release();
      });
      return released;
    },
  };
}

async function runOnce(
  ort: Ort,
  session: InferenceSession,
  feeds: NamedTensors,
  fetches: readonly string[],
): Promise<RunResult> {
  let results: InferenceSession.ReturnType;
  let durationMs: number;
  try {
    const ortFeeds = Object.fromEntries(
      Object.entries(feeds).map(([name, { type, shape, data }]) => [name, new ort.Tensor(type, data, shape)]),
    );
    const startMs = performance.now();
    results = await session.run(ortFeeds, fetches, { logSeverityLevel: 4 });
    durationMs = performance.now() - startMs;
  } catch (cause) {
    throw new IsthmusError(
      'runtime/run-failed',
      `onnxruntime-web cannot run this model: ${messageOf(cause)}`,
      {
        cause,
      },
    );
  }
  const outputs = Object.entries(results).map(([name, { type, dims, data }]): [string, OrtValue] => [
    name,
    { type, dims: [...dims], data: asBitPatterns(type, data) },
  ]);
  return { outputs: toNamedTensors(Object.fromEntries(outputs)), durationMs };
}

function describe(web: WebEngine, provider: WebExecutionProvider, notes: readonly string[]): string {
  const { versions } = web.ort.env;
  const threads = `${web.threads} thread${web.threads === 1 ? '' : 's'}`;
  const remarks = notes.length === 0 ? '' : ` (${notes.join('; ')})`;
  return `onnxruntime-web ${versions.web ?? versions.common} ${provider}, ${threads}${remarks}`;
}
