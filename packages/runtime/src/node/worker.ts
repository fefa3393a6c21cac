import { parentPort, workerData } from 'node:worker_threads';
import type { ErrorCode } from '@isthmus/core';
import type { InferenceSession } from 'onnxruntime-node';
import { asBitPatterns, describeValues, messageOf, type OrtValue } from '../ort-values.js';
import {
  type CallRequest,
  guardSlots,
  type LoadedSession,
  type RunReply,
  type WorkerReply,
  type WorkerRequest,
  type WorkerSettings,
} from './messages.js';

type Ort = typeof import('onnxruntime-node');

const port = parentPort!;
const { sessionOptions, guard } = workerData as WorkerSettings;
const sessions = new Map<number, InferenceSession>();
// Calls run one after the other, so that durations do not contain each other.
let lastCall: Promise<void> = Promise.resolve();

// Also when a thread dies of an error: nobody may wait for it then.
process.on('exit', leaveGuard);

port.on('message', (request: WorkerRequest) => {
  if (request.kind === 'close') {
    void lastCall.then(closeAll);
  } else {
    lastCall = lastCall.then(() => answer(request));
  }
});

async function answer(request: CallRequest): Promise<void> {
  try {
    const value = await guarded(() => serve(request));
    const transfer = value !== null && 'durationMs' in value ? buffersOf(value.outputs) : [];
    port.postMessage({ call: request.call, ok: true, value } satisfies WorkerReply, transfer);
  } catch (error) {
    const cause = new Error(messageOf(error instanceof EngineMissing ? error.cause : error));
    port.postMessage({
      call: request.call,
      ok: false,
      ...describe(request, error),
      cause,
    } satisfies WorkerReply);
  }
}

function describe(request: CallRequest, error: unknown): { code: ErrorCode; message: string } {
  const reason = messageOf(error);
  if (error instanceof EngineMissing) return { code: 'runtime/unavailable', message: reason };
  return request.kind === 'load'
    ? { code: 'runtime/load-failed', message: `onnxruntime-node cannot load this model: ${reason}` }
    : { code: 'runtime/run-failed', message: `onnxruntime-node cannot run this model: ${reason}` };
}

function serve(request: CallRequest): Promise<LoadedSession | RunReply | null> {
  if (request.kind === 'load') return load(request.call, request.model);
  return request.kind === 'run' ? run(request) : release(request.session);
}

async function load(session: number, model: Uint8Array): Promise<LoadedSession> {
  const ort = await importEngine();
  const loaded = await ort.InferenceSession.create(model, sessionOptions);
  sessions.set(session, loaded);
  return {
    session,
    engine: ort.env.versions.node ?? ort.env.versions.common,
    inputs: describeValues(loaded.inputMetadata),
    outputs: describeValues(loaded.outputMetadata),
  };
}

async function run(request: Extract<WorkerRequest, { kind: 'run' }>): Promise<RunReply> {
  const ort = await importEngine();
  const session = sessions.get(request.session);
  if (session === undefined) throw new Error('The session was released.');
  const feeds = Object.fromEntries(
    Object.entries(request.feeds).map(([name, { type, shape, data }]) => [
      name,
      new ort.Tensor(type, data, shape),
    ]),
  );
  const startMs = performance.now();
  const results = await session.run(feeds, request.fetches);
  const durationMs = performance.now() - startMs;
  const outputs = Object.fromEntries(
    Object.entries(results).map(([name, { type, dims, data }]): [string, OrtValue] => [
      name,
      { type, dims: [...dims], data: asBitPatterns(type, data) },
    ]),
  );
  return { outputs, durationMs };
}

async function release(session: number): Promise<null> {
  await sessions.get(session)?.release();
  sessions.delete(session);
  return null;
}

async function closeAll(): Promise<void> {
  for (const session of sessions.values()) await session.release();
  process.exit(0);
}

async function importEngine(): Promise<Ort> {
  try {
    const { default: ort } = (await import('onnxruntime-node')) as unknown as { default: Ort };
    // Every error comes back as an exception; the log would only say it twice.
    ort.env.logLevel = 'fatal';
    return ort;
  } catch (cause) {
    throw new EngineMissing(cause);
  }
}

class EngineMissing extends Error {
  constructor(cause: unknown) {
    super(
      `onnxruntime-node could not be loaded. Install it next to @isthmus/runtime: npm install onnxruntime-node. (${messageOf(cause)})`,
      { cause },
    );
  }
}

// See guardSlots. Setting the flag before looking at the other one makes it impossible that both sides miss
// each other.
async function guarded<Value>(call: () => Promise<Value>): Promise<Value> {
  Atomics.store(guard, guardSlots.busy, 1);
  try {
    if (Atomics.load(guard, guardSlots.stop) === 1) throw new Error('The runtime is closing.');
    return await call();
  } finally {
    leaveGuard();
  }
}

function leaveGuard(): void {
  Atomics.store(guard, guardSlots.busy, 0);
  Atomics.notify(guard, guardSlots.busy);
}

function buffersOf(outputs: Readonly<Record<string, OrtValue>>): ArrayBuffer[] {
  const views = Object.values(outputs).map((output) => output.data);
  return [
    ...new Set(views.flatMap((data) => (ArrayBuffer.isView(data) ? [data.buffer as ArrayBuffer] : []))),
  ];
}
