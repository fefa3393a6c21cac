import { describeSpan } from '@isthmus/core';
import { bundleSpan } from '@isthmus/graph';
import { createNodeRuntime } from '@isthmus/runtime/node';
import type { InferenceSession } from 'onnxruntime-node';
import { prepareModel } from './models.js';
import { loadAlone, type OrtFeeds, toFeeds } from './onnxruntime.js';
import { type Contender, type Measured, type RoundsOptions, runRounds, timed, timesOf } from './rounds.js';

/**
 * What it costs to have been split: the span of all segments composed into one session, and every segment in a
 * session of its own, against the model as it was.
 */
export async function measureSpan(name: string, options: RoundsOptions): Promise<Measured[]> {
  const runtime = createNodeRuntime();
  const { whole, bundle, frame } = await prepareModel(name, runtime);
  await runtime.close();
  const feeds = toFeeds(frame);
  const { segments } = bundle.manifest;
  const unsplit = await loadAlone(whole, options.threads);
  const composed = await loadAlone(bundleSpan(bundle, 0, segments.length), options.threads);
  const chain = await Promise.all(
    segments.map(async ({ index }) => ({
      session: await loadAlone(bundleSpan(bundle, index, index + 1), options.threads),
      // A tensor of both cuts passes by.
      outputs: describeSpan(bundle.manifest, index, index + 1).outputs.map((tensor) => tensor.name),
    })),
  );
  const runChain = async (): Promise<OrtFeeds> => {
    let tensors: OrtFeeds = feeds;
    for (const { session, outputs } of chain) {
      const given = await session.run(tensors);
      tensors = Object.fromEntries(outputs.map((output) => [output, (given[output] ?? tensors[output])!]));
    }
    return tensors;
  };
  const contenders: Contender[] = [
    { name: 'the model as it was', run: () => timesOf(timed(() => unsplit.run(feeds))) },
    { name: 'the composed span', run: () => timesOf(timed(() => composed.run(feeds))) },
    { name: `${chain.length} sessions, one for each segment`, run: () => timesOf(timed(runChain)) },
  ];
  try {
    return await runRounds(contenders, options);
  } finally {
    const sessions: InferenceSession[] = [unsplit, composed, ...chain.map(({ session }) => session)];
    await Promise.all(sessions.map((session) => session.release()));
  }
}
