import { writeFile } from 'node:fs/promises';
import { cpus, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { formatCodecBrowser, measureCodecBrowser } from './codec-browser.js';
import { ortVersion } from './onnxruntime.js';
import { measureOverhead } from './overhead.js';
import { formatMeasured } from './report.js';
import type { Measured, RoundsOptions } from './rounds.js';
import { measureSpan } from './span.js';

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
  'codec-browser': { measure: measureCodecBrowser, format: formatCodecBrowser, models: ['mobilenet-v1'] },
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'string' },
    rounds: { type: 'string', default: '100' },
    threads: { type: 'string' },
    model: { type: 'string', multiple: true },
  },
});
const name = positionals[0] ?? '';
const benchmark = benchmarks[name];
if (benchmark === undefined) {
  console.error(
    `usage: npm run bench -- ${Object.keys(benchmarks).join('|')} [--model NAME]… [--rounds N] [--threads N] [--json FILE]`,
  );
  process.exit(2);
}

const options: RoundsOptions = {
  rounds: Number(values.rounds),
  warmup: 10,
  pauseMs: 80,
  threads: values.threads === undefined ? undefined : Number(values.threads),
  onRound: (done, total) => {
    if (process.stderr.isTTY) process.stderr.write(`\r${done} of ${total} rounds `);
  },
};
const results: Record<string, Measured[]> = {};
const loadBefore = loadavg()[0]!;
for (const model of values.model ?? benchmark.models) {
  results[model] = await benchmark.measure(model, options);
  console.log(`\n${model}, ${options.rounds} rounds\n\n${benchmark.format(results[model])}`);
}
if (values.json !== undefined) {
  const record = {
    benchmark: name,
    date: new Date().toISOString().slice(0, 10),
    command: `npm run bench -- ${process.argv.slice(2).join(' ')}`,
    machine: `${cpus()[0]?.model.trim() ?? 'unknown processor'}, ${cpus().length} cores`,
    software: `Node ${process.version}, onnxruntime-node ${ortVersion}, ${process.platform} ${process.arch}`,
    load: { before: loadBefore, after: loadavg()[0] },
    unit: 'milliseconds: median, first and third quartile',
    rounds: options.rounds,
    threads: options.threads ?? 'default',
    results,
  };
  await writeFile(values.json, `${JSON.stringify(record, null, 1)}\n`);
}
