import {
  composeSpan,
  describeSpan,
  getCut,
  IsthmusError,
  isIsthmusError,
  type Manifest,
  type NamedTensors,
  type Runtime,
  type RuntimeSession,
  type Tensor,
} from '@isthmus/core';
import { deviceBytes } from '@isthmus/planner';
import type { Holding, Memory } from './memory.js';
import type { ReadFile } from './segments.js';

/** The tensors of the cut a span ends at, and how long the model ran. */
interface SpanResult {
  tensors: NamedTensors;
  durationMs: number;
}

/** Runs prefixes of the model, loading them when they are first wanted. */
export interface Spans {
  /** From the tensors of cut 0 to those of cut `to`. */
  run(to: number, frame: NamedTensors): Promise<SpanResult>;
  /** Downloads and loads what `run(to)` needs. */
  load(to: number): Promise<void>;
  /** Gives the memory of a span back, as soon as its runs have ended. */
  drop(to: number): Promise<void>;
}

export interface SpansOptions {
  manifest: Manifest;
  readFile: ReadFile;
  runtime: Runtime;
  memory: Memory;
  maxDeviceBytes: number;
  /** A span has become ready to run, or is no longer. */
  onChange: (to: number, isReady: boolean) => void;
}

const keyOf = (to: number): string => `span ${to}`;

/**
 * @throws IsthmusError from what it returns: `bundle/no-such-cut`, `request/invalid-plan` for a span larger than
 * `maxDeviceBytes`, and as {@link ReadFile} and {@link Runtime}
 */
export function createSpans(options: SpansOptions): Spans {
  const { manifest, readFile, runtime, memory, maxDeviceBytes, onChange } = options;

  const holdings = new Map<number, Holding<RuntimeSession>>();

  const holdingOf = (to: number): Holding<RuntimeSession> => {
    const existing = holdings.get(to);
    if (existing !== undefined) return existing;
    const span = describeSpan(manifest, 0, to);
    const numBytes = deviceBytes(manifest, to);
    checkRoom(`Running up to cut ${to}`, numBytes, maxDeviceBytes, { cut: to });
    const holding: Holding<RuntimeSession> = {
      key: keyOf(to),
      numBytes,
      load: async () =>
        runtime.load(composeSpan(manifest, span, await Promise.all(span.files.map(readFile)))),
      release: (session) => session.release(),
      onChange: (isReady) => onChange(to, isReady),
    };
    holdings.set(to, holding);
    return holding;
  };

  const use = async <Value>(
    to: number,
    work: (session: RuntimeSession) => Promise<Value>,
  ): Promise<Value> => {
    try {
      return await memory.use(holdingOf(to), work);
    } catch (error) {
      // Sessions do not outlive the worker that held them.
      if (isIsthmusError(error, 'runtime/crashed')) void memory.release();
      throw error;
    }
  };

  return {
    async run(to, frame) {
      if (to === 0) return { tensors: frame, durationMs: 0 };
      const names = getCut(manifest, to).tensors.map(({ name }) => name);
      // A tensor of both cuts only passes through; the model need not carry it.
      const fetches = names.filter((name) => !Object.hasOwn(frame, name));
      const { outputs, durationMs } = await use(to, (session) => session.run(frame, fetches));
      const tensors: Record<string, Tensor> = { ...outputs };
      for (const name of names) if (Object.hasOwn(frame, name)) tensors[name] = frame[name]!;
      return { tensors, durationMs };
    },
    async load(to) {
      if (to > 0) await use(to, async () => {});
    },
    drop: (to) => memory.drop(keyOf(to)),
  };
}

/** @throws IsthmusError `request/invalid-plan` */
export function checkRoom(
  what: string,
  numBytes: number,
  maxDeviceBytes: number,
  details: Record<string, unknown>,
): void {
  if (numBytes <= maxDeviceBytes) return;
  throw new IsthmusError(
    'request/invalid-plan',
    `${what} takes ${numBytes} bytes; maxDeviceBytes is ${maxDeviceBytes}. Choose an earlier cut or allow more.`,
    { details: { ...details, numBytes, maxDeviceBytes } },
  );
}
