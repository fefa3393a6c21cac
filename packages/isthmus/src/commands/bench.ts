import { access, constants, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import {
  type Clock,
  IsthmusError,
  type Runtime,
  sha256Hex,
  systemClock,
  toIsthmusError,
} from '@isthmus/core';
import { splitModel } from '@isthmus/graph';
import { recipes } from '@isthmus/models';
import { createNodeRuntime } from '@isthmus/runtime/node';
import type { CAC } from 'cac';
import { z } from 'zod';
import { readManifest } from '../bundle-folder.js';
import type { CliContext } from '../cli.js';
import { createProgress } from '../progress.js';
import { pullModel } from '../pull/pull-model.js';
import type { BundleFiles } from '../rd/measure.js';
import { renderRdReport } from '../rd/report.js';
import { accuracyOf, type RdResult } from '../rd/result.js';
import { runRd } from '../rd/run-rd.js';
import { formatMs, formatTable } from '../table.js';

const text = z.coerce.string();
const rdSchema = z.object({
  bundle: text,
  images: text,
  labels: text.optional(),
  boxes: text.optional(),
  limit: z.coerce.number().int().min(1).optional(),
  methods: text.transform((list) => list.split(',').map((id) => id.trim())).optional(),
  json: text,
  html: text.optional(),
  threads: z.coerce.number().int().min(1).max(256).optional(),
  cache: text.optional(),
});
type RdCommandOptions = z.infer<typeof rdSchema>;

/** What can be measured, by name. */
const benches: Readonly<Record<string, (raw: unknown, context: CliContext) => Promise<void>>> = {
  rd: benchRd,
};

/** `isthmus bench`: measurements of models on your own pictures. */
export function addBenchCommand(cli: CAC, context: CliContext): void {
  cli
    .command('bench <what>', 'rd: bits per pixel against accuracy, for every codec at every cut')
    .option('--bundle <name|folder>', 'A bundle, or a model known to pull, which is split first')
    .option('--images <folder>', 'Pictures, also in folders below it')
    .option('--labels <file>', 'file,label as CSV with a header; 0-based [default: agreement with the model]')
    .option('--boxes <file>', 'For detection: file,label,x,y,width,height [default: what the model finds]')
    .option('--limit <n>', 'At most so many pictures, evenly spaced')
    .option('--methods <list>', 'Codecs, as in jpeg,webp,quantized [default: all of the bundle]')
    .option('--json <file>', 'Where the result goes')
    .option('--html <file>', 'Where a page with the curves goes')
    .option('--threads <n>', 'Threads of ONNX Runtime [default: its own choice]')
    .option('--cache <folder>', "Where pulled models are kept [default: the user's cache folder]")
    .example('isthmus bench rd --bundle mobilenet-v1 --images photos --labels labels.csv --json rd.json')
    .action(async (what: string, raw: unknown) => {
      const bench = Object.hasOwn(benches, what) ? benches[what] : undefined;
      if (bench === undefined) {
        const names = Object.keys(benches).join(', ');
        throw new IsthmusError('usage/invalid', `There is no benchmark "${what}"; there are: ${names}.`);
      }
      await bench(raw, context);
    });
}

async function benchRd(raw: unknown, context: CliContext): Promise<void> {
  const options = rdSchema.parse(raw);
  const files = [options.json, ...(options.html === undefined ? [] : [options.html])];
  // Before an hour of measuring, not after it.
  for (const file of files) await checkWritable(file);
  const runtime = createNodeRuntime(options.threads === undefined ? {} : { threads: options.threads });
  try {
    const { images, labels, boxes, limit, methods } = options;
    const bundle = await openBundle(options, runtime, context);
    const result = await runRd({
      bundle,
      runtime,
      images,
      labels,
      boxes,
      limit,
      methods,
      note: context.note,
      onProgress: showProgress(context, systemClock),
      clock: systemClock,
      signal: context.signal,
    });
    await write(options.json, `${JSON.stringify(result, null, 1)}\n`);
    if (options.html !== undefined) await write(options.html, renderRdReport(result));
    context.out(`${renderRd(result)}\n\nWritten to ${files.join(' and ')}.`);
  } finally {
    await runtime.close();
  }
}

async function openBundle(
  { bundle, cache }: RdCommandOptions,
  runtime: Runtime,
  context: CliContext,
): Promise<BundleFiles> {
  const isFolder = await access(join(bundle, 'manifest.json')).then(
    () => true,
    () => false,
  );
  if (isFolder || !recipes.some(({ name }) => name === bundle)) return openFolder(bundle);
  const progress = createProgress(context);
  const pulled = await pullModel(bundle, {
    runtime,
    signal: context.signal,
    onProgress: ({ phase, receivedBytes, totalBytes }) =>
      progress.show(`${bundle}: ${phase}`, receivedBytes, totalBytes),
    ...(cache !== undefined && { cacheDir: cache }),
  });
  progress.show(`splitting ${bundle}`);
  const { manifest, files } = await splitModel(await readFile(pulled.modelPath), {
    runtime,
    name: pulled.name,
    provenance: pulled.provenance,
    preprocess: pulled.preprocess,
    task: pulled.task,
    profileRuns: 0,
  });
  progress.end();
  return { manifest, readFile: async ({ path }) => files.get(path)! };
}

async function openFolder(folder: string): Promise<BundleFiles> {
  return {
    manifest: await readManifest(folder),
    async readFile({ path, sha256 }) {
      const bytes = await readFile(join(folder, path)).catch((cause) => {
        throw new IsthmusError('bundle/not-found', `${path} of the bundle in ${folder} cannot be read.`, {
          cause,
        });
      });
      if ((await sha256Hex(bytes)) !== sha256) {
        throw new IsthmusError(
          'bundle/hash-mismatch',
          `${path} of the bundle in ${folder} is not what its manifest says. Copy or split it again.`,
        );
      }
      return bytes;
    },
  };
}

async function checkWritable(file: string): Promise<void> {
  await access(dirname(resolve(file)), constants.W_OK).catch((cause) => {
    throw new IsthmusError('usage/invalid', `${file} cannot be written: is its folder there?`, { cause });
  });
}

async function write(file: string, content: string): Promise<void> {
  await writeFile(file, content).catch((cause) => {
    throw toIsthmusError(cause, 'pull/disk', `Cannot write ${file}`);
  });
}

const progressIntervalMs = 10_000;

function showProgress(context: CliContext, clock: Clock): (done: number, total: number) => void {
  const startMs = clock.now();
  let shownAtMs = startMs;
  return (done, total) => {
    const nowMs = clock.now();
    if (done < total && nowMs - shownAtMs < progressIntervalMs) return;
    shownAtMs = nowMs;
    const leftSeconds = ((nowMs - startMs) / done) * ((total - done) / 1000);
    const left = leftSeconds < 90 ? `${Math.ceil(leftSeconds)} s` : `${Math.ceil(leftSeconds / 60)} min`;
    context.note(`measuring: ${((100 * done) / total).toFixed(0)} %, about ${left} left`);
  };
}

function renderRd(result: RdResult): string {
  const { metric, uncompressed, points, bdRate } = result;
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
  const number = <Row>(title: string, value: (row: Row) => string) => ({
    title,
    value,
    align: 'right' as const,
  });
  const curves = formatTable(points, [
    { title: 'method', value: ({ method }) => method },
    number('cut', ({ from, to }) => (from === to ? `${from}` : `${from}→${to}`)),
    { title: 'level', value: ({ name }) => name },
    number('bpp', ({ bpp }) => bpp.toFixed(3)),
    number(metric, (point) => percent(accuracyOf(metric, point))),
    number('agreement', ({ agreement }) => percent(agreement)),
    number('encode ms', ({ encodeMs }) => formatMs(encodeMs)),
    number('decode ms', ({ decodeMs }) => formatMs(decodeMs)),
    number('device ms', ({ deviceMs }) => formatMs(deviceMs)),
    number('cloud ms', ({ cloudMs }) => formatMs(cloudMs)),
  ]);
  const rates = formatTable(bdRate, [
    { title: 'method', value: ({ method }) => method },
    number('cut', ({ from, to }) => (from === null ? 'all' : from === to ? `${from}` : `${from}→${to}`)),
    { title: 'against', value: ({ against }) => against },
    number('BD-rate', (rate) => (rate.percent === null ? '–' : `${rate.percent.toFixed(1)} %`)),
  ]);
  const whole = percent(uncompressed[metric === 'ap50' ? 'ap50' : 'top1'] ?? 1);
  const head = `${result.model}, ${result.images} pictures, uncompressed ${metric} ${whole}`;
  return `${head}\n\n${curves}${bdRate.length > 0 ? `\n\n${rates}` : ''}`;
}
