import { readFile } from 'node:fs/promises';
import { IsthmusError } from '@isthmus/core';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { z } from 'zod';
import type { CliContext } from '../cli.js';
import { openTraces } from '../link-bench/open-traces.js';
import { choosePolicies } from '../link-bench/policies.js';
import { renderLinkReport } from '../link-bench/report.js';
import type { GroupResult, LinkBenchResult, PolicyResult } from '../link-bench/result.js';
import { runLinkBench } from '../link-bench/run-link-bench.js';
import { createWorkload } from '../link-bench/workload.js';
import { createProgress } from '../progress.js';
import { type FrameSet, parseFrameSet } from '../rd/frame-set.js';
import { type Column, formatMs, formatTable } from '../table.js';
import type { Bench } from './bench.js';
import { checkWritable, openBundle, writeResult } from './bench-files.js';

const text = z.coerce.string();
// An option may be given several times, and hold several values with commas between.
const list = z
  .union([text, z.array(text)])
  .transform((values) => [values].flat().flatMap((value) => value.split(',').map((part) => part.trim())))
  .pipe(z.array(z.string().min(1)).min(1));
const linkSchema = z.object({
  bundle: text,
  trace: list,
  frames: text.optional(),
  policy: list.optional(),
  deadline: list
    .default(['100'])
    .transform((values) => values.map(Number))
    .pipe(z.array(z.number().min(1).max(60_000))),
  fps: z.coerce.number().min(0.1).max(1000).default(10),
  deviceSlowdown: z.coerce.number().positive().default(10),
  cloudSlowdown: z.coerce.number().positive().default(1),
  maxDeviceCut: z.coerce.number().int().min(0).optional(),
  delay: z.coerce.number().min(0).max(60_000).optional(),
  duration: z.coerce.number().min(1).max(86_400).optional(),
  seed: z.coerce.number().int().default(1),
  json: text,
  html: text.optional(),
  cache: text.optional(),
});

const syntheticMs = 200_000;

/** `isthmus bench link`: the controller and other policies over traces of real links, in simulated time. */
export const linkBench: Bench = { options: Object.keys(linkSchema.shape), run: benchLink };

async function benchLink(raw: unknown, context: CliContext): Promise<void> {
  const options = linkSchema.parse(raw);
  const { trace: sources, frames, deviceSlowdown, cloudSlowdown, seed, fps, json, html } = options;
  const files = [json, html].filter((file) => file !== undefined);
  for (const file of files) await checkWritable(file);
  const durationMs = options.duration === undefined ? undefined : 1000 * options.duration;
  const traces = await openTraces(sources, {
    delayMs: options.delay,
    durationMs: durationMs ?? syntheticMs,
    seed,
  });
  const frameSet = frames === undefined ? undefined : await readFrames(frames);
  const runtime = createNodeRuntime();
  const progress = createProgress(context);
  try {
    const { manifest } = await openBundle(options, runtime, context);
    const { maxDeviceCut } = options;
    const workload = createWorkload({ manifest, frameSet, deviceSlowdown, cloudSlowdown, maxDeviceCut });
    const { traceRuns, ...groups } = await runLinkBench({
      workload,
      traces,
      policies: choosePolicies(options.policy, workload),
      deadlinesMs: options.deadline,
      framesPerSecond: fps,
      durationMs,
      seed,
      onProgress: (done, total) => progress.show(`simulating: ${done} of ${total}`),
      signal: context.signal,
    });
    progress.end();
    const result: LinkBenchResult = {
      model: manifest.model,
      sizes: frameSet === undefined ? 'means' : 'frames',
      pictures: workload.numPictures,
      framesPerSecond: fps,
      deviceSlowdown,
      cloudSlowdown,
      maxDeviceCut: Math.min(maxDeviceCut ?? Infinity, manifest.cuts.length - 1),
      seed,
      traces: traces.map(({ name, kind, durationMs, meanRateBps, delayMs, lossless }) => ({
        ...{ name, kind, durationMs, meanRateBps, delayMs, lossless },
      })),
      ...groups,
      date: new Date().toISOString().slice(0, 10),
    };
    await writeResult(json, `${JSON.stringify(result, null, 1)}\n`);
    if (html !== undefined) await writeResult(html, renderLinkReport(result, traceRuns));
    context.out(`${renderLink(result)}\n\nWritten to ${files.join(' and ')}.`);
  } finally {
    await runtime.close();
  }
}

async function readFrames(path: string): Promise<FrameSet> {
  const content = await readFile(path, 'utf8').catch((cause) => {
    throw new IsthmusError('usage/invalid', `${path} cannot be read. Is it there?`, { cause });
  });
  return parseFrameSet(content, path);
}

function renderLink({ model, sizes, pictures, byKind, overall }: LinkBenchResult): string {
  const groups = byKind.length > overall.length ? [...byKind, ...overall] : overall;
  const of = sizes === 'frames' ? `sizes of ${pictures} pictures` : 'mean sizes';
  return [`${model}, ${of}; utility: quality of all frames, 0 when late`, ...groups.map(renderGroup)].join(
    '\n\n',
  );
}

function renderGroup({ name, deadlineMs, policies }: GroupResult): string {
  const number = (title: string, value: (row: PolicyResult) => string): Column<PolicyResult> => ({
    title,
    value,
    align: 'right',
  });
  const percent = (share: number | null): string => (share === null ? '–' : `${(100 * share).toFixed(1)} %`);
  const table = formatTable(policies, [
    { title: 'policy', value: ({ policy }) => policy },
    { title: 'plan', value: ({ detail }) => detail ?? '' },
    number('utility', ({ metrics }) => metrics.utility.toFixed(4)),
    number('regret', ({ metrics }) => percent(metrics.regret)),
    number('in time', ({ metrics }) => percent(metrics.hitRate)),
    number('quality', ({ metrics }) => percent(metrics.quality)),
    number('agreement', ({ metrics }) => percent(metrics.agreement)),
    number('p50 ms', ({ metrics }) => (metrics.latencyMs === null ? '–' : formatMs(metrics.latencyMs.p50))),
    number('p95 ms', ({ metrics }) => (metrics.latencyMs === null ? '–' : formatMs(metrics.latencyMs.p95))),
    number('bytes', ({ metrics }) => metrics.bytesPerFrame.toFixed(0)),
    number('mJ', ({ metrics }) => (1000 * metrics.joulesPerFrame).toFixed(0)),
    number('switches', ({ metrics }) => metrics.switches.toString()),
    number('longest miss', ({ metrics }) => metrics.longestMiss.toString()),
  ]);
  return `${name}, deadline ${deadlineMs} ms\n${table}`;
}
