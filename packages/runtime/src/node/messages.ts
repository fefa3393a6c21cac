import type { ErrorCode, NamedTensors } from '@isthmus/core';
import type { OrtValue, ValueInfo } from '../ort-values.js';

/** What the worker needs to know when it starts. */
export interface WorkerSettings {
  /** onnxruntime-node's session options. */
  sessionOptions: Record<string, unknown>;
  /** A {@link guardSlots} table shared by both threads. */
  guard: Int32Array;
}

/**
 * Slots of the shared guard. A thread that is torn down inside a native call takes the whole process with it
 * (onnxruntime-node throws a C++ exception nobody catches), so the worker says when it is inside one, and the
 * main thread says when no further one may start.
 */
export const guardSlots = { busy: 0, stop: 1 } as const;

export type WorkerRequest =
  | { kind: 'load'; call: number; model: Uint8Array }
  | { kind: 'run'; call: number; session: number; feeds: NamedTensors; fetches: readonly string[] }
  | { kind: 'release'; call: number; session: number }
  | { kind: 'close' };

/** A request that is answered. */
export type CallRequest = Exclude<WorkerRequest, { kind: 'close' }>;

/** What a loaded session is. `engine` is the version of onnxruntime-node. */
export interface LoadedSession {
  session: number;
  engine: string;
  inputs: ValueInfo[];
  outputs: ValueInfo[];
}

export interface RunReply {
  outputs: Record<string, OrtValue>;
  durationMs: number;
}

export type WorkerReply =
  | { call: number; ok: true; value: LoadedSession | RunReply | null }
  | { call: number; ok: false; code: ErrorCode; message: string; cause: unknown };
