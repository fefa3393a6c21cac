import {
  composeSpan,
  describeSpan,
  IsthmusError,
  isIsthmusError,
  type Manifest,
  type NamedTensors,
  type Runtime,
  type RuntimeSession,
  type Span,
  type Tensor,
} from '@isthmus/core';
import { deviceBytes } from '@isthmus/planner';
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
  /** Releases every session as soon as its runs have ended. */
  release(): Promise<void>;
}

export interface SpansOptions {
  manifest: Manifest;
  readFile: ReadFile;
  runtime: Runtime;
  /** Loaded spans together stay below this, the least recently used going first; what runs now is kept. */
  maxDeviceBytes: number;
  /** A span has become ready to run, or is no longer. */
  onChange?: (to: number, isReady: boolean) => void;
}

interface Loaded {
  span: Span;
  numBytes: number;
  session: Promise<RuntimeSession>;
  /** Runs under way; a span in use is not dropped. */
  users: number;
}

/**
 * @throws IsthmusError from what it returns: `bundle/no-such-cut`, `request/invalid-plan` for a span larger than
 * `maxDeviceBytes`, and as {@link ReadFile} and {@link Runtime}
 */
export function createSpans(options: SpansOptions): Spans {
  const { manifest, readFile, runtime, maxDeviceBytes, onChange = () => {} } = options;
  // By the cut where it ends; in the order of last use.
  const loaded = new Map<number, Loaded>();

  const forget = (to: number): void => {
    loaded.delete(to);
    onChange(to, false);
  };
  const drop = async (to: number, entry: Loaded): Promise<void> => {
    if (loaded.get(to) === entry) forget(to);
    const session = await entry.session.catch(() => undefined);
    await session?.release();
  };

  const makeRoom = async (numBytes: number): Promise<void> => {
    let total = [...loaded.values()].reduce((sum, entry) => sum + entry.numBytes, numBytes);
    for (const [to, entry] of [...loaded]) {
      if (total <= maxDeviceBytes) return;
      if (entry.users > 0) continue;
      total -= entry.numBytes;
      await drop(to, entry);
    }
  };

  const loadSession = async (span: Span, numBytes: number): Promise<RuntimeSession> => {
    await makeRoom(numBytes);
    const bodies = await Promise.all(span.files.map(readFile));
    return runtime.load(composeSpan(manifest, span, bodies));
  };

  const open = (to: number): Loaded => {
    const existing = loaded.get(to);
    if (existing !== undefined) {
      loaded.delete(to);
      loaded.set(to, existing);
      return existing;
    }
    const span = describeSpan(manifest, 0, to);
    const numBytes = deviceBytes(manifest, to);
    if (numBytes > maxDeviceBytes) {
      throw new IsthmusError(
        'request/invalid-plan',
        `Running up to cut ${to} takes ${numBytes} bytes; maxDeviceBytes is ${maxDeviceBytes}. Choose an earlier cut or allow more.`,
        { details: { cut: to, numBytes, maxDeviceBytes } },
      );
    }
    const entry: Loaded = { span, numBytes, users: 0, session: loadSession(span, numBytes) };
    // A later call shall try again.
    entry.session.then(
      () => loaded.get(to) === entry && onChange(to, true),
      () => loaded.get(to) === entry && loaded.delete(to),
    );
    loaded.set(to, entry);
    return entry;
  };

  const use = async <Value>(
    to: number,
    work: (session: RuntimeSession, span: Span) => Promise<Value>,
  ): Promise<Value> => {
    const entry = open(to);
    entry.users++;
    try {
      return await work(await entry.session, entry.span);
    } catch (error) {
      // Sessions do not outlive the worker that held them.
      if (isIsthmusError(error, 'runtime/crashed')) for (const at of [...loaded.keys()]) forget(at);
      throw error;
    } finally {
      entry.users--;
      if (entry.users === 0 && loaded.get(to) !== entry) await drop(to, entry);
    }
  };

  return {
    async run(to, frame) {
      if (to === 0) return { tensors: frame, durationMs: 0 };
      return use(to, async (session, span) => {
        // A tensor of both cuts only passes through; the model need not carry it.
        const passing = span.outputs.filter(({ name }) => Object.hasOwn(frame, name));
        const fetches = span.outputs.map(({ name }) => name).filter((name) => !Object.hasOwn(frame, name));
        const { outputs, durationMs } = await session.run(frame, fetches);
        const tensors: Record<string, Tensor> = { ...outputs };
        for (const { name } of passing) tensors[name] = frame[name]!;
        return { tensors, durationMs };
      });
    },
    async load(to) {
      if (to > 0) await use(to, async () => {});
    },
    async drop(to) {
      const entry = loaded.get(to);
      if (entry === undefined) return;
      if (entry.users === 0) await drop(to, entry);
      // Whoever runs it now lets it go.
      else forget(to);
    },
    async release() {
      const entries = [...loaded];
      loaded.clear();
      await Promise.all(entries.map(([to, entry]) => (entry.users === 0 ? drop(to, entry) : undefined)));
    },
  };
}
