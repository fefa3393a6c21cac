import { createNodeRuntime } from '@isthmus/runtime/node';
import { z } from 'zod';
import type { CliContext } from '../cli.js';
import type { CodecBenchResult, CodecCutResult } from '../codec-bench/result.js';
import { runCodecBench } from '../codec-bench/run-codec-bench.js';
import { createProgress } from '../progress.js';
import { type Column, formatTable } from '../table.js';
import type { Bench } from './bench.js';
import { checkWritable, openBundle, writeResult } from './bench-files.js';

const text = z.coerce.string();
const codecSchema = z.object({
  bundle: text,
  images: text.optional(),
  limit: z.coerce.number().int().min(2).default(8),
  bits: text
    .default('8,4,2')
    .transform((list) => list.split(',').map(Number))
    .pipe(z.array(z.number().int().min(1).max(8))),
  rounds: z.coerce.number().int().min(1).max(10_000).default(11),
  json: text,
  threads: z.coerce.number().int().min(1).max(256).optional(),
  cache: text.optional(),
});

/** `isthmus bench codec`: bytes and speed of every entropy coder, on what crosses the cuts of a model. */
export const codecBench: Bench = { options: Object.keys(codecSchema.shape), run: benchCodec };

async function benchCodec(raw: unknown, context: CliContext): Promise<void> {
  const { json, threads, cache, bundle: source, ...options } = codecSchema.parse(raw);
  await checkWritable(json);
  const runtime = createNodeRuntime(threads === undefined ? {} : { threads });
  const progress = createProgress(context);
  try {
    const result = await runCodecBench({
      ...options,
      bundle: await openBundle({ bundle: source, cache }, runtime, context),
      runtime,
      cacheDir: cache,
      note: context.note,
      onProgress: (done, total) => progress.show(`measuring: ${done} of ${total}`),
      cpuMs,
      signal: context.signal,
    });
    progress.end();
    await writeResult(json, `${JSON.stringify(result, null, 1)}\n`);
    context.out(`${renderCodecBench(result)}\n\nWritten to ${json}.`);
  } finally {
    await runtime.close();
  }
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function renderCodecBench({ model, images, results, missing }: CodecBenchResult): string {
  return [
    `${model}, ${images} pictures; symbols per second of processor time, medians`,
    ...results.map(renderCut),
    ...Object.entries(missing).map(([coder, reason]) => `without ${coder}: ${reason}`),
  ].join('\n\n');
}

function renderCut({ cut, channels, perChannel, bits, symbols, entropy, coders }: CodecCutResult): string {
  type Row = CodecCutResult['coders'][number];
  const number = (title: string, value: (row: Row) => string): Column<Row> => ({
    title,
    value,
    align: 'right',
  });
  const overEntropy = (bitsPerSymbol: number): string => {
    if (entropy.tensor === 0) return '–';
    const ratio = bitsPerSymbol / entropy.tensor;
    return `${ratio >= 1 ? '+' : '−'}${Math.abs(100 * (ratio - 1)).toFixed(1)} %`;
  };
  const table = formatTable(coders, [
    { title: 'coder', value: ({ coder }) => coder },
    number('bytes', ({ numBytes }) => numBytes.toString()),
    number('bits', ({ bitsPerSymbol }) => bitsPerSymbol.toFixed(3)),
    number('over entropy', ({ bitsPerSymbol }) => overEntropy(bitsPerSymbol)),
    number('encode Msym/s', (row) => (row.encodeSymbolsPerSecond.median / 1e6).toFixed(1)),
    number('decode Msym/s', (row) => (row.decodeSymbolsPerSecond.median / 1e6).toFixed(1)),
  ]);
  const head = `cut ${cut} (${channels} × ${perChannel}), ${bits} bits: ${symbols} symbols of ${entropy.tensor.toFixed(3)} bits, ${entropy.channel.toFixed(3)} within channels`;
  return `${head}\n${table}`;
}
