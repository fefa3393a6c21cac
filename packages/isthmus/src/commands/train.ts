import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { IsthmusError, type Manifest, pictureFormats, systemClock } from '@isthmus/core';
import { checkCodecId } from '@isthmus/graph';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { createSharpCoder } from '@isthmus/runtime/pictures';
import type { CAC } from 'cac';
import { z } from 'zod';
import { addCodecToFolder } from '../bundle-codecs.js';
import type { CliContext } from '../cli.js';
import { createFrameReader, listPictures, spread } from '../rd/pictures.js';
import { formatTable } from '../table.js';
import { checkChoice, type TrainingChoice, trainedCodecs } from '../train/choice.js';
import type { TrainingLength } from '../train/open-training.js';
import type { TrainingProgress } from '../train/run-training.js';
import { minPictures } from '../train/setup.js';
import { type LevelReport, type TrainedCodec, trainCodec } from '../train/train-codec.js';
import { openSegments, renderCodec } from './codec-import.js';

const text = z.coerce.string();
const cut = z.coerce.number().int().min(0);
const optionsSchema = z.object({
  data: text.optional(),
  codec: z.enum(trainedCodecs).default('bottleneck'),
  from: cut.optional(),
  to: cut.optional(),
  tuneTo: cut.optional(),
  network: z.enum(['none', 'small', 'medium']).optional(),
  decoder: z.enum(['small', 'medium', 'large']).default('medium'),
  format: z.enum(pictureFormats).optional(),
  adapter: z.enum(['small', 'none']).default('small'),
  minutes: z.coerce.number().positive().max(100_000).optional(),
  steps: z.coerce.number().int().min(1).max(10_000_000).optional(),
  resume: z.boolean().default(false),
  name: text.optional(),
  seed: z.coerce
    .number()
    .int()
    .min(0)
    .max(2 ** 31 - 1)
    .default(1),
  threads: z.coerce.number().int().min(1).max(256).optional(),
  limit: z.coerce.number().int().min(minPictures).max(10_000_000).optional(),
  json: z.boolean().default(false),
});
const defaultMinutes = 30;
const showIntervalMs = 10_000;

/** `isthmus train`: a codec for a bundle, from pictures without labels. */
export function addTrainCommand(cli: CAC, context: CliContext): void {
  cli
    .command('train <bundle>', 'Train a codec for a bundle on a folder of pictures; labels are not needed')
    .option('--data <folder>', 'Pictures to train on; a tenth of them is held out to measure on')
    .option('--codec <codec>', 'bottleneck, from a cut; encoder, from the frame; or pixels+adapter', {
      default: 'bottleneck',
    })
    .option('--from <cut>', 'The cut whose tensor a bottleneck takes')
    .option('--to <cut>', 'Where the codec lands [default: the cut it takes; an encoder needs it]')
    .option('--tune-to <cut>', 'Train the weights of the segments from there to this cut as well')
    .option(
      '--network <size>',
      'Of the encoder, beside its transform: none, small, medium [default: medium for encoder, else none]',
    )
    .option('--decoder <size>', 'Where it lands later than it leaves: small, medium, large', {
      default: 'medium',
    })
    .option('--format <format>', 'Of pixels+adapter: webp, avif or jpeg')
    .option('--adapter <size>', 'Of pixels+adapter: small, or none for tuned segments only', {
      default: 'small',
    })
    .option('--minutes <n>', `How long to take steps, about [default: ${defaultMinutes}]`)
    .option('--steps <n>', 'Take exactly so many steps, whatever the time')
    .option('--resume', 'Go on with the training of this name that was interrupted')
    .option('--name <name>', "The codec's name in the bundle [default: made of the above]")
    .option('--seed <n>', 'The same seed, pictures and steps make the same weights', { default: 1 })
    .option('--threads <n>', 'Threads of ONNX Runtime [default: its own choice]')
    .option('--limit <n>', 'Take so many pictures, evenly spaced [default: all]')
    .option('--json', 'Print JSON')
    .example('isthmus train bundles/mobilenet-v1 --data photos --from 2 --minutes 30')
    .example('isthmus train bundles/mobilenet-v1 --data photos --from 2 --resume')
    .example('isthmus train bundles/mobilenet-v1 --data photos --from 1 --to 2 --tune-to 4')
    .example('isthmus train bundles/mobilenet-v1 --data photos --codec encoder --to 1')
    .example(
      'isthmus train bundles/mobilenet-v1 --data photos --codec pixels+adapter --format webp --tune-to 3',
    )
    .action((bundle: string, raw: Readonly<Record<string, unknown>>) => train(bundle, raw, context));
}

async function train(
  folder: string,
  raw: Readonly<Record<string, unknown>>,
  context: CliContext,
): Promise<void> {
  const options = optionsSchema.parse(raw);
  const { data, threads } = options;
  if (data === undefined) {
    throw new IsthmusError('usage/invalid', 'Say --data, the pictures to train on. See --help.');
  }
  const choice = choose(options);
  const bundle = await openSegments(folder, choice.from);
  const { manifest } = bundle;
  checkChoice(manifest, choice);
  const { id } = choice;
  checkCodecId(manifest, id);
  const readFrame = createReader(manifest, data);
  const names = spread(await listPictures(data), options.limit ?? Number.POSITIVE_INFINITY);
  const checkpoint = join(resolve(folder), `.training-${id}`);
  const show = createShow(id, context);
  let lastStep: number | undefined;
  const runtime = createNodeRuntime(threads === undefined ? {} : { threads });
  try {
    const trained = await trainCodec({
      ...{ bundle, runtime, clock: systemClock, readFrame, names, signal: context.signal },
      choice,
      coder: createSharpCoder(),
      folder: checkpoint,
      isResumed: options.resume,
      length: lengthOf(options),
      ...(threads !== undefined && { threads }),
      onProgress(now) {
        if (now.stage === 'train') lastStep = now.step;
        show(now);
      },
    });
    await addCodecToFolder(folder, trained.codec);
    await rm(checkpoint, { recursive: true, force: true });
    context.out(options.json ? renderJson(folder, trained) : render(manifest, trained));
    if (!options.json) context.out(`\nAdded to ${folder}.`);
  } catch (error) {
    if (context.signal.aborted && lastStep !== undefined) {
      context.note(`Saved after step ${lastStep}. Go on with the same command and --resume.`);
    }
    throw error;
  } finally {
    await runtime.close();
  }
}

function choose(options: z.infer<typeof optionsSchema>): TrainingChoice {
  const { codec, decoder, format, seed } = options;
  const from = options.from ?? (codec === 'bottleneck' ? undefined : 0);
  if (from === undefined) {
    throw new IsthmusError('usage/invalid', 'Say --from, the cut whose tensor the codec takes. See --help.');
  }
  const to = options.to ?? from;
  const tuneTo = options.tuneTo ?? to;
  const network = options.network ?? (codec === 'encoder' ? 'medium' : 'none');
  const hasAdapter = options.adapter !== 'none';
  const path = [from, ...(to === from ? [] : [to]), ...(tuneTo === to ? [] : [`tuned-${tuneTo}`])].join('-');
  const ofPictures = [format, ...(hasAdapter ? ['adapter'] : []), ...(tuneTo > 0 ? [`tuned-${tuneTo}`] : [])];
  const id = options.name ?? (codec === 'pixels+adapter' ? ofPictures.join('-') : `${codec}-${path}`);
  return { id, codec, from, to, tuneTo, network, decoder, format, hasAdapter, seed };
}

// A line for each stage, and while training one every few seconds.
function createShow(id: string, { note }: CliContext): (progress: TrainingProgress) => void {
  let shownAtMs = Number.NEGATIVE_INFINITY;
  return (progress) => {
    const isLast = progress.stage !== 'train' || progress.step === progress.numSteps;
    if (!isLast && systemClock.now() - shownAtMs < showIntervalMs) return;
    // The first step is shown at once, whatever was before.
    shownAtMs = progress.stage === 'train' ? systemClock.now() : Number.NEGATIVE_INFINITY;
    note(`${id}: ${describe(progress)}`);
  };
}

function lengthOf({ minutes, steps }: z.infer<typeof optionsSchema>): TrainingLength {
  if (minutes !== undefined && steps !== undefined) {
    throw new IsthmusError('usage/invalid', 'Give --minutes or --steps, not both.');
  }
  return steps === undefined ? { durationMs: (minutes ?? defaultMinutes) * 60_000 } : { numSteps: steps };
}

function createReader(
  { model, preprocess, cuts }: Manifest,
  data: string,
): ReturnType<typeof createFrameReader> {
  const [input] = cuts[0]?.tensors ?? [];
  if (preprocess === null || input === undefined) {
    throw new IsthmusError(
      'usage/invalid',
      `${model} does not take pictures, so there is nothing to train it on. Split it with --picture.`,
    );
  }
  // What the samples keep is smaller than frames are.
  return createFrameReader(data, preprocess, input.name, 0);
}

function describe(progress: TrainingProgress): string {
  if (progress.stage !== 'train') {
    return progress.stage === 'prepare'
      ? 'fitting what training starts from'
      : "fitting the coder's tables and measuring levels";
  }
  const { step, numSteps, loss, heldOutLoss, bitsPerPixel, agreement, imagesPerSecond, leftMs, numSkipped } =
    progress;
  return [
    `step ${step}/${numSteps}${progress.isFeatureStage ? ' (features)' : ''}`,
    `loss ${loss.toFixed(4)}`,
    `${bitsPerPixel.toFixed(3)} bpp`,
    `held out: loss ${heldOutLoss.toFixed(4)}, agreement ${agreement.toFixed(3)}`,
    `${imagesPerSecond.toFixed(1)} images/s`,
    `${Math.ceil(leftMs / 60_000)} min left`,
    ...(numSkipped === 0 ? [] : [`${numSkipped} pictures cannot be read`]),
  ].join(', ');
}

function renderJson(folder: string, { codec, ...rest }: TrainedCodec): string {
  return JSON.stringify({ folder, codec: codec.entry.id, levels: codec.entry.levels, ...rest });
}

function render(manifest: Manifest, trained: TrainedCodec): string {
  const { codec, before, after, numSteps, numImages, imagesPerSecond, numSkipped, encoderFlops } = trained;
  const { width = 1, height = 1 } = manifest.preprocess ?? {};
  const bitsPerPixel = ({ terms }: LevelReport): string => (terms.rate / (width * height)).toFixed(3);
  const rows = after.flatMap((now, index) => {
    const start = before[index];
    return start === undefined ? [] : [{ start, now }];
  });
  const table = formatTable(rows, [
    { title: 'level', value: ({ now }) => now.level.toFixed(2) },
    { title: 'bpp before', value: ({ start }) => bitsPerPixel(start), align: 'right' },
    { title: 'after', value: ({ now }) => bitsPerPixel(now), align: 'right' },
    { title: 'output error before', value: ({ start }) => start.terms.outputs.toFixed(4), align: 'right' },
    { title: 'after', value: ({ now }) => now.terms.outputs.toFixed(4), align: 'right' },
    { title: 'agreement before', value: ({ start }) => start.agreement.toFixed(3), align: 'right' },
    { title: 'after', value: ({ now }) => now.agreement.toFixed(3), align: 'right' },
  ]);
  const skipped = numSkipped === 0 ? '' : `; ${numSkipped} pictures could not be read`;
  const precision = trained.isHalf ? 'half' : 'single';
  const summary =
    `${numSteps} steps, ${numImages} pictures, ${imagesPerSecond.toFixed(1)} images/s${skipped}; ` +
    `weights stored in ${precision} precision`;
  const cost = encoderFlops === 0 ? '' : `\n${describeCost(manifest, trained)}`;
  return `${summary}${cost}\n\nEstimated, on pictures held out:\n\n${table}\n\n${renderCodec(manifest, codec.entry)}`;
}

function describeCost({ segments }: Manifest, { codec, encoderFlops }: TrainedCodec): string {
  const flopsOf = (list: Manifest['segments']): number =>
    list.reduce((sum, { profile }) => sum + profile.flops, 0);
  const all = flopsOf(segments);
  const from = codec.entry.paths[0]?.from ?? 0;
  const device = flopsOf(segments.slice(0, from)) + encoderFlops;
  const share = ((100 * device) / Math.max(1, all)).toFixed(1);
  return (
    `The encoder takes ${(encoderFlops / 1e6).toFixed(1)} MFLOP, the device in all ${(device / 1e6).toFixed(0)}: ` +
    `${share} % of the model's ${(all / 1e6).toFixed(0)}.`
  );
}
