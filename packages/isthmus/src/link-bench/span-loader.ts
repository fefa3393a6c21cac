import { describeSpan, type FileRef, type Manifest } from '@isthmus/core';
import type { EventQueue } from './events.js';
import type { Policy } from './policy.js';

/** The spans that the device of a simulation holds. */
export interface SpanLoader {
  isReady(cut: number): boolean;
  /** Starts to load a span, and drops others. */
  follow(prepare: number | null, evict: readonly number[]): void;
}

// An ordinary mobile downlink, and what composing a span and starting a session took on one core.
const downlinkBytesPerSecond = 2_500_000;
const loadBytesPerSecond = 100_000_000;

/**
 * For a policy that chooses its spans: only the empty one is there at first, others come one at a time over the
 * downlink, files once, and are then loaded, all beside what the device computes. For others all spans are there, which
 * favours them.
 */
export function createSpanLoader(
  manifest: Manifest,
  { spans }: Policy,
  events: EventQueue,
  delayMs: number,
): SpanLoader {
  if (spans === undefined) return { isReady: () => true, follow: () => {} };
  const held = new Set([0]);
  const asked = new Set<number>();
  const fetched = new Set<string>();
  let freeMs = 0;
  const bytesOf = (files: readonly FileRef[]): number =>
    files.reduce((sum, { numBytes }) => sum + numBytes, 0);

  return {
    isReady: (cut) => held.has(cut),
    follow(prepare, evict) {
      for (const cut of evict) {
        held.delete(cut);
        spans.spanDropped(cut);
      }
      if (prepare === null || held.has(prepare) || asked.has(prepare)) return;
      asked.add(prepare);
      const { files } = describeSpan(manifest, 0, prepare);
      // Its codecs' tables come with it.
      const tables = manifest.codecs
        .filter(({ paths }) => paths.some(({ from }) => from === prepare))
        .flatMap((codec) => codec.files);
      const missing = [...files, ...tables].filter(({ path }) => !fetched.has(path));
      for (const { path } of missing) fetched.add(path);
      const fetchMs =
        missing.length > 0 ? (1000 * bytesOf(missing)) / downlinkBytesPerSecond + 2 * delayMs : 0;
      freeMs = Math.max(freeMs, events.now()) + fetchMs + (1000 * bytesOf(files)) / loadBytesPerSecond;
      events.at(freeMs, () => {
        asked.delete(prepare);
        held.add(prepare);
        spans.spanReady(prepare);
      });
    },
  };
}
