import type { NamedTensors, Runtime } from '@isthmus/core';
import { type Bundle, bundleSpan } from '../bundle.js';

/** Runs a span of a bundle, or nothing where it is empty. */
export type RunSpan = (tensors: NamedTensors) => Promise<NamedTensors>;

/** Works with the span between two cuts, which may be the same: then tensors pass as they are. */
export async function withSpan<T>(
  bundle: Bundle,
  from: number,
  to: number,
  runtime: Runtime,
  use: (run: RunSpan) => Promise<T>,
): Promise<T> {
  if (from === to) return use(async (tensors) => tensors);
  const session = await runtime.load(bundleSpan(bundle, from, to));
  try {
    return await use(async (tensors) => (await session.run(tensors)).outputs);
  } finally {
    await session.release();
  }
}

export async function runAll(run: RunSpan, frames: readonly NamedTensors[]): Promise<NamedTensors[]> {
  const results: NamedTensors[] = [];
  for (const frame of frames) results.push(await run(frame));
  return results;
}
