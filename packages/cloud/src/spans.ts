import {
  codecBytes,
  composeSpan,
  type Decoder,
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

interface Held {
  key: string;
  numBytes: number;
  release: () => Promise<void>;
  /** Runs under way; what is in use is not dropped. */
  users: number;
}

interface Loaded extends Held {
  session: Promise<RuntimeSession>;
}

/**
 * The loaded suffixes [from, last) of all models, and the decoders in use: loaded when first asked for, once however
 * many ask, and dropped, least recently used first, when together they take more than `maxBytes`.
 */
export class SpanPool {
  readonly #options: SpanPoolOptions;
  // All that is held, in the order of last use; and of it the spans.
  readonly #held = new Map<string, Held>();
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
        this.#forget(loaded);
        if (attempt > 1) throw error;
      } finally {
        loaded.users--;
        this.#trim(0);
      }
    }
  }

  /**
   * Decodes with a codec, whose networks and tables count from now on, until they are dropped for something else.
   *
   * @param codec Its index in the manifest.
   * @throws what `decode` throws
   */
  async decode<Value>(
    bundle: Bundle,
    codec: number,
    decoder: Decoder,
    decode: (decoder: Decoder) => Promise<Value>,
  ): Promise<Value> {
    const entry = bundle.manifest.codecs[codec];
    const numBytes = entry === undefined ? 0 : codecBytes(entry, 'decoder') + (decoder.segmentBytes ?? 0);
    if (numBytes === 0) return decode(decoder);
    const key = `decoder ${bundle.sha256} ${codec}`;
    const held = this.#held.get(key) ?? {
      key,
      numBytes,
      release: async () => decoder.release?.(),
      users: 0,
    };
    held.users++;
    this.#touch(held);
    this.#trim(0);
    try {
      return await decode(decoder);
    } finally {
      held.users--;
      this.#trim(0);
    }
  }

  /** Drops every span, once its runs are done; for a runtime that lives on after the receiver. */
  async close(): Promise<void> {
    const all = [...this.#held.values()];
    this.#held.clear();
    this.#loaded.clear();
    await Promise.allSettled(all.map(({ release }) => release()));
  }

  #acquire(bundle: Bundle, span: Span): Loaded {
    const key = `span ${bundle.sha256} ${span.from}`;
    const loaded = this.#loaded.get(key) ?? this.#start(key, bundle, span);
    loaded.users++;
    this.#loaded.set(key, loaded);
    this.#touch(loaded);
    return loaded;
  }

  #touch(held: Held): void {
    this.#held.delete(held.key);
    this.#held.set(held.key, held);
  }

  #forget(held: Held): void {
    if (this.#held.get(held.key) !== held) return;
    this.#held.delete(held.key);
    this.#loaded.delete(held.key);
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
    const release = async (): Promise<void> => (await session).release();
    const loaded: Loaded = { key, numBytes, session, release, users: 0 };
    this.#lastLoad = session.catch(() => this.#forget(loaded));
    return loaded;
  }

  /** Makes room for `comingBytes` more. */
  #trim(comingBytes: number): void {
    for (const held of this.#held.values()) {
      if (this.#numBytes() + comingBytes <= this.#options.maxBytes) return;
      if (held.users > 0) continue;
      this.#forget(held);
      // Whether releasing failed changes nothing: what was loaded is not used again.
      held.release().catch(() => {});
    }
  }

  #numBytes(): number {
    return [...this.#held.values()].reduce((sum, { numBytes }) => sum + numBytes, 0);
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
