import { type Clock, IsthmusError, type Preprocess, type Runtime, type Task } from '@isthmus/core';
import type { CachedModel, PullProvenance } from './cache.js';

/** Bytes are counted while downloading; in the other phases both numbers stay as they were. */
export interface PullProgress {
  phase: 'resolve' | 'download' | 'convert' | 'verify' | 'store';
  receivedBytes: number;
  totalBytes: number | undefined;
}

export interface PullOptions {
  /** Runs the converted model to verify it. */
  runtime: Runtime;
  /** @default the user's cache folder, see {@link userCacheDir} */
  cacheDir?: string;
  /** @default `$npm_config_registry` or https://registry.npmjs.org */
  registryUrl?: string;
  /** Lower-case hexadecimal; required for `file:` and `https:` sources. */
  sha256?: string;
  fetch?: typeof fetch;
  /** Times out what stalls. @default the system's */
  clock?: Clock;
  /** Dates the provenance. @default the system's time */
  now?: () => Date;
  onProgress?: (progress: PullProgress) => void;
  signal?: AbortSignal;
}

/** A verified ONNX model in the cache, and what is known about it. */
export interface PulledModel {
  name: string;
  modelPath: string;
  provenance: PullProvenance;
  /** Null where the source does not say how pictures are prepared. */
  preprocess: Preprocess | null;
  task: Task;
  /** Whether nothing had to be downloaded or converted. */
  fromCache: boolean;
}

/** What the caller sees of a cache entry. */
export function pulled({ modelPath, record }: CachedModel, fromCache: boolean): PulledModel {
  const { name, provenance, preprocess, task } = record;
  return { name, modelPath, provenance, preprocess, task, fromCache };
}

export type Reporter = (
  phase: PullProgress['phase'],
  receivedBytes?: number,
  totalBytes?: number | undefined,
) => void;

/** Reports phases; byte counts that are not given stay as they were. */
export function reporter({ onProgress }: Pick<PullOptions, 'onProgress'>): Reporter {
  let counts: Omit<PullProgress, 'phase'> = { receivedBytes: 0, totalBytes: undefined };
  return (phase, receivedBytes, totalBytes) => {
    if (receivedBytes !== undefined) counts = { receivedBytes, totalBytes };
    onProgress?.({ phase, ...counts });
  };
}

/** @throws IsthmusError `request/cancelled` */
export function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted) {
    throw new IsthmusError('request/cancelled', 'The pull was cancelled.', { cause: signal.reason });
  }
}
