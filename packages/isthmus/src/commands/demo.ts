import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { IsthmusError, type Manifest } from '@isthmus/core';
import { splitModel } from '@isthmus/graph';
import { createNodeRuntime } from '@isthmus/runtime/node';
import type { CAC } from 'cac';
import { z } from 'zod';
import { writeBundle } from '../bundle-folder.js';
import type { CliContext } from '../cli.js';
import { describeCuts, runWholeModel, summarizePlans } from '../demo/measure.js';
import { type Photo, pullPhotos, readPhotos } from '../demo/photos.js';
import { firstLine, startProcess } from '../demo/processes.js';
import { renderReport } from '../demo/report.js';
import type { DemoResult, PlanSummary } from '../demo/result.js';
import { allPlans, formatPlan } from '../plan-options.js';
import { createProgress, type Progress } from '../progress.js';
import { pullModel } from '../pull/pull-model.js';
import { createShaper } from '../shaper.js';
import { formatBytes, formatMs, formatTable } from '../table.js';
import type { FrameLine, RunLine } from './run.js';

const optionsSchema = z.object({
  model: z.string().default('mobilenet-v1'),
  images: z.string().optional(),
  limit: z.coerce.number().int().min(1).max(1000).default(8),
  rate: z.coerce.number().positive().default(20),
  delay: z.coerce.number().min(0).max(10_000).default(10),
  html: z.coerce.string().default('isthmus-demo.html'),
  cache: z.string().optional(),
  json: z.boolean().default(false),
});
type DemoOptions = z.infer<typeof optionsSchema>;

/** `isthmus demo`: everything on one machine, across a shaped link, on real photographs. */
export function addDemoCommand(cli: CAC, context: CliContext): void {
  cli
    .command(
      'demo',
      'Pull a model, split it, serve it, and run photographs through its plans over a shaped link',
    )
    .option('--model <name>', 'A classifier that pull knows', { default: 'mobilenet-v1' })
    .option('--images <folder>', 'Your own pictures [default: eight public-domain photographs]')
    .option('--limit <n>', 'At most so many pictures', { default: 8 })
    .option('--rate <Mbit/s>', 'Rate of the uplink', { default: 20 })
    .option('--delay <ms>', 'Delay of the link, each way', { default: 10 })
    .option('--html <file>', 'Where the page with the plots goes', { default: 'isthmus-demo.html' })
    .option('--cache <folder>', "Where downloads are kept [default: the user's cache folder]")
    .option('--json', 'Print the result as JSON')
    .example('isthmus demo --rate 5 --delay 40 --images ~/Pictures')
    .action(async (raw: unknown) => {
      const options = optionsSchema.parse(raw);
      const result = await runDemo(options, context);
      const page = resolve(options.html);
      await writeFile(page, renderReport(result));
      if (options.json) context.out(JSON.stringify(result));
      else context.out(`${renderTable(result)}\n\nThe same as plots: ${page}`);
    });
}

async function runDemo(options: DemoOptions, context: CliContext): Promise<DemoResult> {
  const progress = createProgress(context);
  const runtime = createNodeRuntime();
  const folder = await mkdtemp(join(tmpdir(), 'isthmus-demo-'));
  try {
    const pullOptions = {
      signal: context.signal,
      onProgress: showPull(progress, options.model),
      ...(options.cache !== undefined && { cacheDir: options.cache }),
    };
    const pulled = await pullModel(options.model, { ...pullOptions, runtime });
    const photos = options.images
      ? await readPhotos(options.images, options.limit)
      : (await pullPhotos({ ...pullOptions, onProgress: showPull(progress, 'photographs') })).slice(
          0,
          options.limit,
        );
    const model = await readFile(pulled.modelPath);
    progress.show(`splitting ${pulled.name}`);
    const bundle = await splitModel(model, {
      runtime,
      name: pulled.name,
      provenance: pulled.provenance,
      preprocess: pulled.preprocess,
      task: pulled.task,
    });
    const { manifest } = bundle;
    await writeBundle(join(folder, manifest.model), bundle);
    progress.show('running the unsplit model');
    const whole = await runWholeModel(model, manifest, photos, runtime);
    const lines = await runPlans(
      join(folder, manifest.model),
      manifest,
      photos,
      folder,
      options,
      context,
      progress,
    );
    progress.end();
    return {
      model: manifest.model,
      machine: `${cpus()[0]?.model ?? 'unknown processor'}, ${cpus().length} cores, Node ${process.version}`,
      date: new Date().toISOString().slice(0, 10),
      uplink: { rateBps: options.rate * 1e6, delayMs: options.delay },
      wholeModelMs: whole.durationMs,
      cuts: describeCuts(manifest),
      photos: whole.photos.map(({ name, label, score }) => ({ name, label, score })),
      plans: summarizePlans(lines, manifest, whole),
    };
  } finally {
    await runtime.close();
    await rm(folder, { recursive: true, force: true });
  }
}

function showPull(
  progress: Progress,
  what: string,
): NonNullable<Parameters<typeof pullModel>[1]['onProgress']> {
  return ({ phase, receivedBytes, totalBytes }) =>
    progress.show(`${what}: ${phase}`, receivedBytes, totalBytes);
}

/** A receiver process, a shaped link, a device process: every photograph with every plan. */
async function runPlans(
  bundleFolder: string,
  manifest: Manifest,
  photos: readonly Photo[],
  folder: string,
  options: DemoOptions,
  context: CliContext,
  progress: Progress,
): Promise<FrameLine[]> {
  const receiver = startProcess(
    ['serve', bundleFolder, '--port', '0', '--json', '--log', 'error'],
    context.signal,
  );
  try {
    const { port } = (await firstLine(receiver)) as { port: number };
    const shaper = await createShaper({
      target: { host: '127.0.0.1', port },
      uplink: { rateBps: options.rate * 1e6, delayMs: options.delay },
    });
    try {
      const paths = await writePhotos(photos, join(folder, 'photos'));
      const url = `ws://127.0.0.1:${shaper.port}`;
      const device = startProcess(
        // The first picture goes twice: its first round loads the spans on both sides and is not counted.
        ['run', url, paths[0]!, ...paths, '--model', manifest.model, ...demoPlans(manifest), '--json'],
        context.signal,
      );
      const lines: FrameLine[] = [];
      const seen = new Set<string>();
      for await (const line of device.lines as AsyncIterable<unknown> as AsyncIterable<RunLine>) {
        if ('error' in line) {
          await device.stop();
          const { code, message } = line.error;
          throw new IsthmusError('internal', `The device process failed: ${message} [${code}]`);
        }
        lines.push(line);
        seen.add(line.image);
        progress.show(`device and receiver: photograph ${seen.size} of ${photos.length}`);
      }
      await device.finished();
      return lines.slice(lines.length / (photos.length + 1));
    } finally {
      await shaper.close();
    }
  } finally {
    await receiver.stop();
  }
}

// Of codecs with many levels every third is enough to see the trade-off, and AVIF takes its time.
function demoPlans(manifest: Manifest): string[] {
  const numLevels = new Map(manifest.codecs.map(({ id, levels }) => [id, levels.length]));
  return allPlans(manifest)
    .filter((plan) => plan.kind === 'local' || numLevels.get(plan.codec)! < 10 || plan.level % 3 === 0)
    .flatMap((plan) => ['--plan', formatPlan(plan)]);
}

async function writePhotos(photos: readonly Photo[], folder: string): Promise<string[]> {
  await mkdir(folder);
  return Promise.all(
    photos.map(async ({ name, bytes }) => {
      const path = join(folder, basename(name));
      await writeFile(path, bytes);
      return path;
    }),
  );
}

function renderTable(result: DemoResult): string {
  const { uplink } = result;
  const photos = formatTable(result.photos, [
    { title: 'photograph', value: (photo) => photo.name },
    { title: 'unsplit model', value: (photo) => photo.label },
    { title: 'score', value: (photo) => photo.score.toFixed(3), align: 'right' },
  ]);
  const number = (title: string, pick: (plan: PlanSummary) => string) => ({
    title,
    value: pick,
    align: 'right' as const,
  });
  const plans = formatTable(result.plans, [
    { title: 'plan', value: (plan) => plan.name },
    number('bytes', (plan) => formatBytes(Math.round(plan.numBytes))),
    number('bpp', (plan) => plan.bitsPerPixel.toFixed(2)),
    number('picture ms', (plan) => formatMs(plan.pictureMs)),
    number('device ms', (plan) => formatMs(plan.deviceMs + plan.encodeMs)),
    number('link ms', (plan) => formatMs(plan.linkMs)),
    number('cloud ms', (plan) => formatMs(plan.cloudMs)),
    number('total ms', (plan) => formatMs(plan.totalMs)),
    number('agree', (plan) => `${plan.agreeing}/${plan.frames}`),
  ]);
  const link = `${uplink.rateBps / 1e6} Mbit/s up, ${uplink.delayMs} ms each way`;
  return `${result.model} on ${result.machine}\n\n${photos}\n\nEvery plan over ${link}:\n\n${plans}`;
}
