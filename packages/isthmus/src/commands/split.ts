import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { basename, dirname, extname, join, resolve } from 'node:path';
import {
  builtinCodecs,
  calibratedCodec,
  createPictureCodecs,
  IsthmusError,
  type Manifest,
  type NamedTensors,
  type Preprocess,
  type Runtime,
  systemClock,
  type Task,
} from '@isthmus/core';
import {
  type Bundle,
  calibrateBundle,
  heldOutFrames,
  importTflite,
  type ModelProto,
  measureLevels,
  pixelsEntries,
  readModel,
  splitModel,
  verifyBundle,
} from '@isthmus/graph';
import { recipes } from '@isthmus/models';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { createSharpCoder } from '@isthmus/runtime/pictures';
import type { CAC } from 'cac';
import { z } from 'zod';
import { writeBundle } from '../bundle-folder.js';
import type { CliContext } from '../cli.js';
import { parseInputShapes, picturePreset, picturePresets } from '../picture-options.js';
import { createProgress } from '../progress.js';
import { pullModel } from '../pull/pull-model.js';
import { createFrameReader, listPictures, spread } from '../rd/pictures.js';
import { formatBytes, formatMs, formatTable } from '../table.js';

const text = z.coerce.string();
const optionsSchema = z.object({
  out: text.optional(),
  name: text.optional(),
  segments: z.coerce.number().int().min(1).max(63).optional(),
  cutAt: z.union([z.array(text), text]).optional(),
  inputShape: z.union([z.string(), z.array(z.string())]).optional(),
  picture: z.enum(picturePresets).optional(),
  fit: z.enum(['cover', 'contain', 'fill']).default('cover'),
  labels: text.optional(),
  logits: z.boolean().default(false),
  licence: text.default('unknown'),
  verify: z.boolean().default(false),
  calibrate: text.optional(),
  calibrateLimit: z.coerce.number().int().min(4).max(10_000).default(100),
  cache: text.optional(),
  json: z.boolean().default(false),
});
type SplitOptions = z.infer<typeof optionsSchema>;

/** `isthmus split`: a model into a bundle of segments. */
export function addSplitCommand(cli: CAC, context: CliContext): void {
  cli
    .command('split <model>', 'Split an .onnx or .tflite file, or a model known to pull, into a bundle')
    .option('-o, --out <folder>', 'Where the bundle goes [default: bundles/NAME]')
    .option('--name <name>', "The model's name in the bundle [default: from the file's name]")
    .option('--segments <n>', 'At most so many segments [default: 10]')
    .option('--cut-at <tensor>', 'Cut there, and only where said; NAME+NAME for several tensors (repeatable)')
    .option('--input-shape <name=1x3xHxW>', 'Shape of one frame where the model leaves it open (repeatable)')
    .option('--picture <preset>', `The model takes pictures; pixels become: ${picturePresets.join(', ')}`)
    .option('--fit <fit>', 'How a picture meets the input: cover, contain or fill', { default: 'cover' })
    .option('--labels <file>', 'The model classifies; one label a line')
    .option('--logits', 'The classes are logits: apply a softmax')
    .option('--licence <licence>', 'Recorded in the bundle', { default: 'unknown' })
    .option('--verify', 'Prove that split = whole at every cut')
    .option('--calibrate <folder>', 'Fit calibrated codecs on the pictures in a folder, for every cut')
    .option('--calibrate-limit <n>', 'Take so many pictures, evenly spaced', { default: 100 })
    .option('--cache <folder>', "Where pulled models are kept [default: the user's cache folder]")
    .option('--json', 'Print JSON')
    .example('isthmus split model.onnx --verify')
    .example('isthmus split mobilenet-v1 --calibrate photos')
    .example('isthmus split mobilenet-v1 --out bundles/mobilenet-v1')
    .example('isthmus split resnet.onnx --picture imagenet --labels imagenet.txt --logits')
    .action(async (model: string, raw: unknown) => {
      const options = optionsSchema.parse(raw);
      const runtime = createNodeRuntime();
      try {
        await split(model, options, runtime, context);
      } finally {
        await runtime.close();
      }
    });
}

interface Source {
  model: Uint8Array | ModelProto;
  name: string;
  origin: { source: string; licence: string };
  preprocess: Preprocess | null;
  task: Task;
}

async function split(
  model: string,
  options: SplitOptions,
  runtime: Runtime,
  context: CliContext,
): Promise<void> {
  const progress = createProgress(context);
  const source = await readSource(model, options, runtime, context);
  const name = options.name ?? source.name;
  const inputShapes = parseInputShapes(options.inputShape);
  const uncalibrated = await splitModel(source.model, {
    runtime,
    name,
    provenance: source.origin,
    preprocess: source.preprocess,
    task: source.task,
    machine: `${cpus()[0]?.model ?? 'unknown processor'}, ${cpus().length} cores`,
    date: new Date().toISOString().slice(0, 10),
    onProgress: ({ stage, done, total }) =>
      progress.show(`${name}: ${stage}${total > 1 ? ` ${done}/${total}` : ''}`),
    ...(options.segments !== undefined && {
      maxSegments: options.segments,
      minSegments: Math.min(4, options.segments),
    }),
    ...(options.cutAt !== undefined && {
      cutAt: [options.cutAt].flat().map((cut) => cut.split('+')),
    }),
    ...(inputShapes && { inputShapes }),
  });
  progress.end();
  describeTask(uncalibrated.manifest, options, await readLabels(options.labels));
  const bundle = await calibrate(uncalibrated, options, runtime, context);
  const reports = options.verify ? await verifyBundle(source.model, bundle, runtime) : undefined;
  const folder = resolve(options.out ?? join('bundles', name));
  await writeBundle(folder, bundle);
  if (options.json) {
    const { cuts, segments, dynamicBatch } = bundle.manifest;
    context.out(
      JSON.stringify({
        folder,
        model: name,
        dynamicBatch,
        cuts: cuts.map((cut) => ({
          index: cut.index,
          tensors: cut.tensors.map(({ name, type, shape }) => ({ name, type, shape })),
          numBytes: cut.numBytes,
          ...(reports && { difference: reports[cut.index]?.difference ?? 0 }),
        })),
        segments: segments.map(({ index, file, profile }) => ({
          index,
          numBytes: file.numBytes,
          ...profile,
        })),
      }),
    );
    return;
  }
  context.out(renderBundle(bundle.manifest, reports));
  const calibrated = renderCalibrated(bundle.manifest);
  if (calibrated !== undefined) context.out(`\n${calibrated}`);
  context.out(`\nWritten to ${folder}. Serve it with: isthmus serve ${options.out ?? join('bundles', name)}`);
}

async function calibrate(
  bundle: Bundle,
  { calibrate: folder, calibrateLimit }: SplitOptions,
  runtime: Runtime,
  context: CliContext,
): Promise<Bundle> {
  if (folder === undefined) return bundle;
  const { preprocess, cuts, model } = bundle.manifest;
  if (preprocess === null) {
    throw new IsthmusError(
      'usage/invalid',
      '--calibrate needs a model that takes pictures; say how with --picture.',
    );
  }
  const readFrame = createFrameReader(folder, preprocess, cuts[0]!.tensors[0]!.name);
  const frames: NamedTensors[] = [];
  for (const name of spread(await listPictures(folder), calibrateLimit))
    frames.push((await readFrame(name)).tensors);
  const progress = createProgress(context);
  const calibrated = await calibrateBundle(bundle, {
    runtime,
    frames,
    onProgress: ({ cut, numCuts }) => progress.show(`${model}: calibrate ${cut}/${numCuts}`),
  });
  const measured = await measureLevels(calibrated, {
    runtime,
    frames: heldOutFrames(frames),
    codecs: [...builtinCodecs, ...createPictureCodecs(createSharpCoder())],
    clock: systemClock,
    onProgress: ({ cut, numCuts }) => progress.show(`${model}: measure ${cut}/${numCuts}`),
  });
  progress.end();
  return measured;
}

async function readSource(
  model: string,
  options: SplitOptions,
  runtime: Runtime,
  context: CliContext,
): Promise<Source> {
  if (!existsSync(model) && recipes.some((recipe) => recipe.name === model)) {
    const progress = createProgress(context);
    const pulled = await pullModel(model, {
      runtime,
      signal: context.signal,
      onProgress: ({ phase, receivedBytes, totalBytes }) => {
        progress.show(`${model}: ${phase}`, receivedBytes, totalBytes);
      },
      ...(options.cache !== undefined && { cacheDir: options.cache }),
    });
    progress.end();
    const { source, licence } = pulled.provenance;
    const bytes = await readFile(pulled.modelPath);
    return {
      model: bytes,
      name: model,
      origin: { source, licence },
      preprocess: pulled.preprocess,
      task: pulled.task,
    };
  }
  const bytes = await readFile(model).catch((cause) => {
    const known = recipes.map((recipe) => recipe.name).join(', ');
    throw new IsthmusError(
      'model/not-onnx',
      `${model} can neither be read as a file nor is it one of: ${known}.`,
      {
        cause,
      },
    );
  });
  const extension = extname(model).toLowerCase();
  const proto =
    extension === '.tflite'
      ? importTflite(bytes)
      : await readModel(bytes, { readExternal: (location) => readFile(join(dirname(model), location)) });
  return {
    model: proto,
    name: basename(model, extname(model))
      .toLowerCase()
      .replace(/[^a-z0-9._-]+/g, '-')
      .replace(/^[^a-z0-9]+/, ''),
    origin: { source: basename(model), licence: options.licence },
    preprocess: null,
    task: { kind: 'tensor' },
  };
}

async function readLabels(path: string | undefined): Promise<string[] | undefined> {
  if (path === undefined) return undefined;
  const content = await readFile(path, 'utf8').catch((cause) => {
    throw new IsthmusError('usage/invalid', `The labels in ${path} cannot be read.`, { cause });
  });
  return content.split(/\r?\n/).filter((line, index, lines) => line !== '' || index < lines.length - 1);
}

// What the options say about pictures and classes, once the split has shown the shapes.
function describeTask(manifest: Manifest, options: SplitOptions, labels: string[] | undefined): void {
  if (options.picture !== undefined) {
    const [input, ...others] = manifest.cuts[0]!.tensors;
    const [, channels, height, width] = input!.shape;
    if (others.length > 0 || input!.shape.length !== 4 || channels !== 3) {
      const shape = `[${input!.shape.join(', ')}]`;
      throw new IsthmusError(
        'usage/invalid',
        `--picture needs one input of shape [1, 3, H, W], not ${shape}.`,
      );
    }
    manifest.preprocess = picturePreset(options.picture, width!, height!, options.fit);
    const otherCodecs = manifest.codecs.filter(({ kind }) => kind !== 'pixels');
    manifest.codecs = [...otherCodecs, ...pixelsEntries(manifest)];
  }
  if (labels === undefined) return;
  const [output, ...others] = manifest.cuts.at(-1)!.tensors;
  const classes = output!.shape.reduce((count, size) => count * size, 1);
  if (others.length > 0 || classes !== labels.length) {
    throw new IsthmusError(
      'usage/invalid',
      `${options.labels} has ${labels.length} labels, but the output ${output!.name} has ${classes} values.`,
    );
  }
  manifest.task = {
    kind: 'classification',
    output: output!.name,
    activation: options.logits ? 'softmax' : 'none',
    labels,
  };
}

function renderBundle(manifest: Manifest, reports: readonly { difference: number }[] | undefined): string {
  const table = formatTable(manifest.cuts, [
    { title: 'cut', value: (cut) => String(cut.index), align: 'right' },
    {
      title: 'tensors',
      value: (cut) =>
        cut.tensors.map((tensor) => `${tensor.name} ${tensor.type}[${tensor.shape}]`).join(', '),
    },
    { title: 'bytes', value: (cut) => formatBytes(cut.numBytes), align: 'right' },
    {
      title: 'segment',
      value: (cut) => segmentCell(manifest, cut.index, ({ file }) => formatBytes(file.numBytes)),
      align: 'right',
    },
    {
      title: 'MFLOP',
      value: (cut) => segmentCell(manifest, cut.index, ({ profile }) => (profile.flops / 1e6).toFixed(1)),
      align: 'right',
    },
    {
      title: 'ms',
      value: (cut) => segmentCell(manifest, cut.index, ({ profile }) => formatMs(profile.durationMs)),
      align: 'right',
    },
    ...(reports === undefined
      ? []
      : [
          {
            title: 'split − whole',
            value: (cut: Manifest['cuts'][number]) => reports[cut.index]?.difference.toExponential(1) ?? '',
            align: 'right' as const,
          },
        ]),
  ]);
  const batch = manifest.dynamicBatch ? 'any batch' : 'one frame at a time';
  return `${manifest.model}: ${manifest.segments.length} segments, ${batch}\n\n${table}`;
}

// Rate and fidelity of the calibrated codecs, as measured on the pictures held out.
function renderCalibrated({ codecs, cuts }: Manifest): string | undefined {
  const measured = z.object({ numBytes: z.number(), agreement: z.number(), divergence: z.number() });
  const rows = codecs
    .filter(({ kind }) => kind === calibratedCodec.kind)
    .flatMap(({ id, levels, paths }) =>
      levels.map(({ name, params }) => {
        const share = (params.numBytes as number) / cuts[paths[0]!.from]!.numBytes;
        return { id, name, share, ...measured.parse(params) };
      }),
    );
  if (rows.length === 0) return undefined;
  return formatTable(rows, [
    { title: 'codec', value: ({ id }) => id },
    { title: 'level', value: ({ name }) => name },
    { title: 'bytes', value: ({ numBytes }) => formatBytes(numBytes), align: 'right' },
    { title: 'of raw', value: ({ share }) => `${(100 * share).toFixed(1)} %`, align: 'right' },
    { title: 'agreement', value: ({ agreement }) => agreement.toFixed(3), align: 'right' },
    { title: 'divergence', value: ({ divergence }) => divergence.toFixed(4), align: 'right' },
  ]);
}

// A row shows the segment that follows its cut; the last cut has none.
function segmentCell(
  manifest: Manifest,
  index: number,
  render: (segment: Manifest['segments'][number]) => string,
): string {
  const segment = manifest.segments[index];
  return segment === undefined ? '' : render(segment);
}
