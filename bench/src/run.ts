import { writeFile } from 'node:fs/promises';
import { cpus, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { makeCifarModel } from './cifar/cifar.js';
import { formatCodecBrowser, measureCodecBrowser } from './codec-browser.js';
import { compareLinks, formatComparisons, type LinkComparison } from './link-sockets.js';
import { ortVersion } from './onnxruntime.js';
import { measureOverhead } from './overhead.js';
import { formatMeasured } from './report.js';
import type { Measured, RoundsOptions } from './rounds.js';
import { measureSpan } from './span.js';
import { measureTrain, trainedNets } from './train.js';

interface Benchmark {
  measure: (model: string, options: RoundsOptions) => Promise<Measured[]>;
  format: (measured: readonly Measured[]) => string;
  /** Unless others are asked for. */
  models: readonly string[];
}

const bothModels = ['mobilenet-v1', 'resnet-50'];
const benchmarks: Readonly<Record<string, Benchmark>> = {
  overhead: { measure: measureOverhead, format: formatMeasured, models: bothModels },
  span: { measure: measureSpan, format: formatMeasured, models: bothModels },
  train: {
    measure: (model, options) => measureTrain(model, { ...options, python: values.python }),
    format: formatMeasured,
    models: trainedNets,
  },
  'codec-browser': { measure: measureCodecBrowser, format: formatCodecBrowser, models: ['mobilenet-v1'] },
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'string' },
    rounds: { type: 'string', default: '100' },
    threads: { type: 'string' },
    model: { type: 'string', multiple: true },
    // Of link-sockets.
    bundle: { type: 'string' },
    images: { type: 'string' },
    frames: { type: 'string' },
    trace: { type: 'string', multiple: true },
    deadline: { type: 'string', multiple: true, default: ['200'] },
    duration: { type: 'string', default: '60' },
    memory: { type: 'string', default: '7000000' },
    // Of train.
    python: { type: 'string' },
    // Of cifar.
    out: { type: 'string', default: 'bundles/cifar-10' },
    epochs: { type: 'string', default: '14' },
    limit: { type: 'string' },
    rate: { type: 'string', default: '0.005' },
    seed: { type: 'string', default: '1' },
  },
});
const name = positionals[0] ?? '';
const threads = values.threads === undefined ? undefined : Number(values.threads);
const benchmark = benchmarks[name];
const others: Readonly<Record<string, () => Promise<object>>> = {
  'link-sockets': runLinkSockets,
  cifar: runCifar,
};
if (benchmark === undefined && others[name] === undefined) {
  console.error(
    `usage: npm run bench -- ${Object.keys(benchmarks).join('|')} [--model NAME]… [--rounds N] [--threads N] [--json FILE]
         (train also [--python PYTHON], one with PyTorch, to compare with)
       npm run bench -- link-sockets --bundle FOLDER --images FOLDER --frames FILE --trace TRACE…
         [--deadline MS]… [--duration S] [--memory BYTES] [--threads N] [--json FILE]
       npm run bench -- cifar [--out FOLDER] [--epochs N] [--limit N] [--rate R] [--seed N] [--threads N] [--json FILE]`,
  );
  process.exit(2);
}

const loadBefore = loadavg()[0]!;
const found = benchmark === undefined ? await others[name]!() : await runRounded(benchmark);
if (values.json !== undefined) {
  const record = {
    benchmark: name,
    date: new Date().toISOString().slice(0, 10),
    command: `npm run bench -- ${process.argv.slice(2).join(' ')}`,
    machine: `${cpus()[0]?.model.trim() ?? 'unknown processor'}, ${cpus().length} cores`,
    software: `Node ${process.version}, onnxruntime-node ${ortVersion}, ${process.platform} ${process.arch}`,
    load: { before: loadBefore, after: loadavg()[0] },
    ...found,
  };
  await writeFile(values.json, `${JSON.stringify(record, null, 1)}\n`);
}

async function runRounded({ measure, format, models }: Benchmark): Promise<object> {
  const options: RoundsOptions = {
    rounds: Number(values.rounds),
    warmup: 10,
    pauseMs: 80,
    threads,
    onRound: (done, total) => {
      if (process.stderr.isTTY) process.stderr.write(`\r${done} of ${total} rounds `);
    },
  };
  const results: Record<string, Measured[]> = {};
  for (const model of values.model ?? models) {
    results[model] = await measure(model, options);
    console.log(`\n${model}, ${options.rounds} rounds\n\n${format(results[model])}`);
  }
  return {
    unit: 'milliseconds: median, first and third quartile',
    rounds: options.rounds,
    threads: threads ?? 'default',
    results,
  };
}

async function runLinkSockets(): Promise<{ threads: number | 'default'; results: LinkComparison[] }> {
  const { bundle, images, frames, trace: traces } = values;
  if (bundle === undefined || images === undefined || frames === undefined || traces === undefined) {
    console.error('link-sockets takes --bundle, --images, --frames and --trace.');
    process.exit(2);
  }
  const results = await compareLinks({
    ...{ bundle, images, frames, traces, threads },
    deadlinesMs: values.deadline.map(Number),
    durationMs: 1000 * Number(values.duration),
    maxDeviceBytes: Number(values.memory),
    onRun: (result) => console.error(formatComparisons([result]).split('\n').at(-1)),
  });
  console.log(`\nsockets, simulation\n\n${formatComparisons(results)}`);
  return { threads: threads ?? 'default', results };
}

async function runCifar(): Promise<object> {
  const result = await makeCifarModel({
    folder: values.out,
    epochs: Number(values.epochs),
    limit: values.limit === undefined ? undefined : Number(values.limit),
    peakRate: Number(values.rate),
    seed: Number(values.seed),
    threads,
  });
  // Interrupted: there is nothing to record yet.
  if (result === undefined) process.exit(0);
  return { threads: threads ?? 'default', ...result };
}
