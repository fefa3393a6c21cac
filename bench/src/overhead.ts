import { connect, createMemoryCache, type FrameResult, type Plan } from '@isthmus/device';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { prepareModel } from './models.js';
import { loadAlone, toFeeds } from './onnxruntime.js';
import { startReceiver } from './receiver-process.js';
import { type Contender, type Measured, type RoundsOptions, runRounds, timed, timesOf } from './rounds.js';

/**
 * What the split path costs: a frame through device, loopback and a receiver process, against onnxruntime-node
 * alone in this process; at every cut, with raw float32.
 */
export async function measureOverhead(name: string, options: RoundsOptions): Promise<Measured[]> {
  const runtime = createNodeRuntime(options.threads === undefined ? {} : { threads: options.threads });
  const { whole, bundle, frame } = await prepareModel(name, runtime);
  const receiver = await startReceiver([bundle], options.threads);
  const session = await connect(receiver.url, { model: name, runtime, cache: createMemoryCache() });
  const alone = await loadAlone(whole, options.threads);
  const feeds = toFeeds(frame);
  const worker = await runtime.load(whole);
  const raw = bundle.manifest.codecs.find(({ id }) => id === 'raw')!;
  const plans = raw.paths.map(({ from, to }): Plan => ({ kind: 'split', from, codec: 'raw', level: 0, to }));
  // What both processes used.
  const measure = async <Result>(
    run: () => Promise<Result>,
  ): Promise<{ result: Result; total: number; cpu: number }> => {
    const before = receiver.cpuMs();
    const own = await timed(run);
    return { ...own, cpu: own.cpu + receiver.cpuMs() - before };
  };
  const contenders: Contender[] = [
    { name: 'onnxruntime-node alone', run: () => timesOf(measure(() => alone.run(feeds))) },
    { name: 'in a worker thread', run: () => timesOf(measure(() => worker.run(frame))) },
    ...[...plans, { kind: 'local' } as const].map((plan) => ({
      name: plan.kind === 'local' ? 'local' : `cut ${plan.from}`,
      run: async () => {
        const { result, total, cpu } = await measure(() => session.run(frame, { plan }));
        return { total, cpu, ...stagesOf(result) };
      },
    })),
  ];
  try {
    return await runRounds(contenders, options);
  } finally {
    await session.close();
    await alone.release();
    await runtime.close();
    await receiver.stop();
  }
}

function stagesOf({ timing }: FrameResult): Record<string, number> {
  const { totalMs, deviceMs, encodeMs, linkMs, queueMs, decodeMs, cloudMs } = timing;
  const stages = {
    device: deviceMs,
    encode: encodeMs,
    link: linkMs,
    queue: queueMs,
    decode: decodeMs,
    cloud: cloudMs,
  };
  const known = Object.values(stages).reduce((sum, value) => sum + value, 0);
  // Choosing the plan, waiting for the device's worker, reading the result.
  return { ...stages, rest: totalMs - known };
}
