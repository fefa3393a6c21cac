import type { NamedTensors } from './tensor.js';

/** What a run gave, and how long the model itself took (queueing and transfers not included). */
export interface RunResult {
  outputs: NamedTensors;
  durationMs: number;
}

/** A loaded span. */
export interface RuntimeSession {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  /**
   * Runs the model once. The data of `feeds` is neither changed nor detached.
   *
   * @param fetches Names of the wanted outputs. @default all
   * @throws IsthmusError `runtime/run-failed`; `runtime/crashed` if the worker died, after which the model must be
   * loaded again; `runtime/unavailable` if the runtime was closed.
   */
  run(feeds: NamedTensors, fetches?: readonly string[]): Promise<RunResult>;
  /** Frees the session's memory; idempotent. */
  release(): Promise<void>;
}

/**
 * Runs ONNX models. Implementations live in `@isthmus/runtime`; everything else takes one as an argument, so
 * that the graph tools, the device and the receiver are independent of the platform.
 */
export interface Runtime {
  /** For people: the engine, execution provider and threads, as in `onnxruntime-node 1.30.0 cpu, 2 threads`. */
  readonly description: string;
  /** @throws IsthmusError `runtime/load-failed`, `runtime/unavailable`, `runtime/crashed` */
  load(model: Uint8Array): Promise<RuntimeSession>;
  /** Releases every session and ends the worker; idempotent. */
  close(): Promise<void>;
}
