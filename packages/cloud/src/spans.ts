import {
  composeSpan,
  describeSpan,
  IsthmusError,
  isIsthmusError,
  type NamedTensors,
  type Runtime,
  type RuntimeSession,
  type Span,
  type Tensor,
} from '@isthmus/core';
import type { Bundle } from './bundle-store.js';

/** What a suffix gave: the tensors of the last cut in the manifest's order. */
export interface SuffixResult {
  outputs: Tensor[];
  /** Milliseconds the model itself took; 0 when there was nothing to run. */
  durationMs: number;
}

export interface SpanPoolOptions {
  runtime: Runtime;
  maxBytes: number;
  /** Told after each load. */
  onLoad?: (bundle: Bundle, span: Span) => void;
}

interface Loaded {
  key: string;
  numBytes: number;
  session: Promise<RuntimeSession>;
  /** Runs under way; what is in use is not dropped. */
  users: number;
}

/**
 * The loaded suffixes [from, last) of all models: loaded when first asked for, once however many ask, and dropped,
 * least recently used first, when together they take more than `maxBytes`.
 */
export class SpanPool {
  readonly #options: SpanPoolOptions;
  // In the order of last use.
  readonly #loaded = new Map<string, Loaded>();
  #lastLoad: Promise<unknown> = Promise.resolve();
  #loads = 0;
  #runs = 0;

  constructor(options: SpanPoolOptions) {
    this.#options = options;
  }

  get stats(): { loaded: number; numBytes: number; loads: number; runs: number } {
    return { loaded: this.#loaded.size, numBytes: this.#numBytes(), loads: this.#loads, runs: this.#runs };
  }

  /**
   * Runs the model from cut `from` to its end. If the runtime's worker died, the span is loaded again and run once
   * more.
   *
   * @param tensors The tensors of cut `from`.
   * @throws IsthmusError `runtime/*`, or `bundle/*` when the span cannot be read any more.
   */
  async run(bundle: Bundle, from: number, tensors: NamedTensors): Promise<SuffixResult> {
    const last = bundle.manifest.cuts.at(-1)!;
    if (from === last.index) return inOrder(last.tensors, tensors, 0);
    const span = computedSpan(bundle, from);
    if (span.outputs.length === 0) return inOrder(last.tensors, tensors, 0);
    const feeds = Object.fromEntries(span.inputs.map(({ name }) => [name, tensors[name]!]));
    for (let attempt = 1; ; attempt++) {
      const loaded = this.#acquire(bundle, span);
      try {
        const session = await loaded.session;
        this.#runs++;
        const { outputs, durationMs } = await session.run(feeds);
        return inOrder(last.tensors, { ...tensors, ...outputs }, durationMs);
      } catch (error) {
        if (!isIsthmusError(error, 'runtime/crashed')) throw error;
        if (this.#loaded.get(loaded.key) === loaded) this.#loaded.delete(loaded.key);
        if (attempt > 1) throw error;
      } finally {
        loaded.users--;
        this.#trim(0);
      }
    }
  }

  /** Drops every span, once its runs are done; for a runtime that lives on after the receiver. */
  async close(): Promise<void> {
    const all = [...this.#loaded.values()];
    this.#loaded.clear();
    await Promise.allSettled(all.map(async ({ session }) => (await session).release()));
  }

  #acquire(bundle: Bundle, span: Span): Loaded {
    const key = `${bundle.sha256} ${span.from}`;
    const loaded = this.#loaded.get(key) ?? this.#start(key, bundle, span);
    loaded.users++;
    this.#loaded.delete(key);
    this.#loaded.set(key, loaded);
    return loaded;
  }

  #start(key: string, bundle: Bundle, span: Span): Loaded {
    const numBytes = estimateBytes(bundle, span);
    this.#trim(numBytes);
    // One load at a time: each holds its model three times while it lasts.
    const session = this.#lastLoad.then(async () => {
      const bodies = await Promise.all(span.files.map((file) => bundle.readFile(file)));
      const ready = await this.#options.runtime.load(composeSpan(bundle.manifest, span, bodies));
      this.#loads++;
      this.#options.onLoad?.(bundle, span);
      return ready;
    });
    const loaded: Loaded = { key, numBytes, session, users: 0 };
    this.#lastLoad = session.catch(() => {
      if (this.#loaded.get(key) === loaded) this.#loaded.delete(key);
    });
    return loaded;
  }

  /** Makes room for `comingBytes` more. */
  #trim(comingBytes: number): void {
    for (const loaded of this.#loaded.values()) {
      if (this.#numBytes() + comingBytes <= this.#options.maxBytes) return;
      if (loaded.users > 0) continue;
      this.#loaded.delete(loaded.key);
      // Whether releasing failed changes nothing: the session is not used again.
      loaded.session.then((session) => session.release()).catch(() => {});
    }
  }

  #numBytes(): number {
    return [...this.#loaded.values()].reduce((sum, loaded) => sum + loaded.numBytes, 0);
  }
}

// A tensor of the last cut that is already in cut `from` passes through: it is no output to compute.
function computedSpan(bundle: Bundle, from: number): Span {
  const span = describeSpan(bundle.manifest, from, bundle.manifest.cuts.length - 1);
  const given = new Set(span.inputs.map((tensor) => tensor.name));
  return { ...span, outputs: span.outputs.filter((tensor) => !given.has(tensor.name)) };
}

function estimateBytes(bundle: Bundle, span: Span): number {
  const files = span.files.reduce((sum, file) => sum + file.numBytes, 0);
  const peaks = bundle.manifest.segments
    .slice(span.from, span.to)
    .map((segment) => segment.profile.peakActivationBytes);
  return files + Math.max(...peaks);
}

function inOrder(
  expected: readonly { name: string }[],
  tensors: NamedTensors,
  durationMs: number,
): SuffixResult {
  const outputs = expected.map(({ name }) => {
    const tensor = tensors[name];
    if (tensor === undefined) throw new IsthmusError('runtime/run-failed', `The model gave no ${name}.`);
    return tensor;
  });
  return { outputs, durationMs };
}
