import { readFile } from 'node:fs/promises';
import { type Clock, IsthmusError, systemClock } from '@isthmus/core';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { z } from 'zod';
import type { CliContext } from '../cli.js';
import { type EarlierFile, parseEarlier } from '../rd/earlier.js';
import { renderRdReport } from '../rd/report.js';
import { accuracyOf, type RdResult } from '../rd/result.js';
import { runRd } from '../rd/run-rd.js';
import { formatMs, formatTable } from '../table.js';
import type { Bench } from './bench.js';
import { checkWritable, openBundle, writeResult } from './bench-files.js';

const text = z.coerce.string();
const rdSchema = z.object({
  bundle: text,
  images: text,
  labels: text.optional(),
  boxes: text.optional(),
  limit: z.coerce.number().int().min(1).optional(),
  with: z.union([z.array(text), text]).optional(),
  methods: text.transform((list) => list.split(',').map((id) => id.trim())).optional(),
  json: text,
  html: text.optional(),
  frames: text.optional(),
  threads: z.coerce.number().int().min(1).max(256).optional(),
  cache: text.optional(),
});

/** `isthmus bench rd`: bits per pixel against accuracy, for every codec at every cut. */
export const rdBench: Bench = { options: Object.keys(rdSchema.shape), run: benchRd };

async function benchRd(raw: unknown, context: CliContext): Promise<void> {
  const options = rdSchema.parse(raw);
  const files = [options.json, options.html, options.frames].filter((file) => file !== undefined);
  for (const file of files) await checkWritable(file);
  const earlier = await Promise.all([options.with ?? []].flat().map(readEarlier));
  const runtime = createNodeRuntime(options.threads === undefined ? {} : { threads: options.threads });
  try {
    const { images, labels, boxes, limit, methods } = options;
    const bundle = await openBundle(options, runtime, context);
    const { result, frameSet } = await runRd({
      bundle,
      runtime,
      images,
      labels,
      boxes,
      limit,
      methods,
      earlier,
      note: context.note,
      onProgress: showProgress(context, systemClock),
      clock: systemClock,
      signal: context.signal,
    });
    await writeResult(options.json, `${JSON.stringify(result, null, 1)}\n`);
    if (options.frames !== undefined) await writeResult(options.frames, JSON.stringify(frameSet));
    if (options.html !== undefined) await writeResult(options.html, renderRdReport(result));
    context.out(`${renderRd(result)}\n\nWritten to ${files.join(' and ')}.`);
  } finally {
    await runtime.close();
  }
}

async function readEarlier(path: string): Promise<EarlierFile> {
  const content = await readFile(path, 'utf8').catch((cause) => {
    throw new IsthmusError('usage/invalid', `${path} cannot be read; --with takes a file of --json.`, {
      cause,
    });
  });
  return { result: parseEarlier(content, path), path };
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
