import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { type Interpretation, IsthmusError, toIsthmusError } from '@isthmus/core';
import {
  type ConnectOptions,
  connect,
  type Frame,
  type FrameResult,
  listModels,
  type Session,
} from '@isthmus/device';
import { createNodeRuntime } from '@isthmus/runtime/node';
import type { CAC } from 'cac';
import { z } from 'zod';
import type { CliContext } from '../cli.js';
import { playCamera } from '../live/play-camera.js';
import { describePlan, type PlanChoice, parsePlans } from '../plan-options.js';
import { formatBytes, formatMs, formatTable } from '../table.js';
import { addTargetOptions, targetOf } from '../target-options.js';

const defaultDeadlineMs = 200;
const defaultFps = 10;
const defaultDurationSeconds = 30;

const text = z.coerce.string();
const texts = z.union([z.array(text), text]).transform((value) => [value].flat());
const optionsSchema = z.object({
  model: text.optional(),
  plan: texts.default(['auto']),
  token: text.optional(),
  deadline: z.coerce.number().positive().optional(),
  repeat: z.coerce.number().int().min(1).max(1_000_000).default(1),
  threads: z.coerce.number().int().min(1).max(256).optional(),
  json: z.boolean().default(false),
  camera: text.optional(),
  fps: z.coerce.number().positive().max(1000).default(defaultFps),
  trace: text.optional(),
  live: z.boolean().default(false),
  duration: z.coerce.number().positive().max(86_400).default(defaultDurationSeconds),
});

/** A frame's answer as `isthmus run --json` prints it. */
export interface FrameLine {
  image: string;
  plan: FrameResult['plan'];
  planName: string;
  /** Tensors are only named: they are for programs that use the SDK, not for lines of text. */
  output: Exclude<Interpretation, { kind: 'tensor' }> | { kind: 'tensor'; names: string[] };
  bytes: FrameResult['bytes'];
  bitsPerPixel: number | null;
  timing: FrameResult['timing'];
}

/** One line of `isthmus run --json`. */
export type RunLine = FrameLine | { image: string; error: { code: string; message: string } };

/** `isthmus run`: a device, from the shell. */
export function addRunCommand(cli: CAC, context: CliContext): void {
  const command = cli
    .command('run <url> [...images]', 'Run pictures through a model that is split with a receiver')
    .option('--model <name>', 'Which model [default: the only one the receiver serves]')
    .option('--plan <plan>', 'auto, local, all, or CUT/CODEC/LEVEL as in 2/quantized/4-bit (repeatable)', {
      default: 'auto',
    })
    .option('--token <token>', "The receiver's token; also read from ISTHMUS_TOKEN")
    .option('--deadline <ms>', 'Milliseconds in which an answer is of use [default with --camera: 200]')
    .option('--repeat <n>', 'Run every picture so many times', { default: 1 })
    .option('--threads <n>', 'Threads of ONNX Runtime [default: its own choice]')
    .option('--json', 'Print one line of JSON per frame')
    .option('--camera <path>', 'Play pictures as a camera: a folder, a .txt list of files, or one picture')
    .option('--fps <n>', `Frames a second of the camera [default: ${defaultFps}]`)
    .option('--duration <s>', `Seconds that the camera plays [default: ${defaultDurationSeconds}]`)
    .option('--trace <file>', "Shape the camera's uplink as this trace: a file, or synthetic:KIND")
    .option('--live', 'Show every frame of the camera, not only what came of them all')
    .example('isthmus run ws://127.0.0.1:8787 photo.jpg')
    .example('isthmus run ws://127.0.0.1:8787 photos/*.jpg --plan 2/quantized/4-bit --plan local')
    .example('isthmus run ws://127.0.0.1:8787 --camera photos --trace synthetic:lte --deadline 200 --live');
  addTargetOptions(command).action(async (url: string, images: string[], raw: unknown) => {
    const options = optionsSchema.parse(raw);
    const token = options.token ?? context.env.ISTHMUS_TOKEN;
    const { signal } = context;
    const { camera } = options;
    checkSource(camera, images, raw);
    const model = options.model ?? (await onlyModel(url, token, signal));
    const runtime = createNodeRuntime(options.threads === undefined ? {} : { threads: options.threads });
    try {
      const connectOptions: ConnectOptions = {
        model,
        runtime,
        signal,
        ...targetOf(raw, options.deadline ?? (camera === undefined ? undefined : defaultDeadlineMs)),
        ...(token !== undefined && { token }),
      };
      if (camera !== undefined) {
        const { fps, plan, trace, live: isLive, json: isJson, deadline = defaultDeadlineMs } = options;
        await playCamera(
          {
            ...{ url, connectOptions, camera, fps, plan, trace, isLive, isJson },
            durationMs: 1000 * options.duration,
            deadlineMs: deadline,
            describeAnswer: ({ output }) => describeOutput(output),
          },
          context,
        );
        return;
      }
      const session = await connect(url, connectOptions);
      try {
        const plans = parsePlans(options.plan, session.manifest);
        await runAll(session, images, plans, options, context);
      } finally {
        await session.close();
      }
    } finally {
      await runtime.close();
    }
  });
}

const cameraOptions = ['fps', 'trace', 'live', 'duration'] as const;

/** @throws IsthmusError `usage/invalid` unless there is one source of pictures, and no option of another */
function checkSource(camera: string | undefined, images: readonly string[], raw: unknown): void {
  if (camera !== undefined && images.length > 0) {
    throw new IsthmusError('usage/invalid', 'Name pictures, or play them with --camera, not both.');
  }
  if (camera === undefined && images.length === 0) {
    throw new IsthmusError(
      'usage/invalid',
      'Name the pictures to run, or play some as a camera: --camera FOLDER.',
    );
  }
  const given = cameraOptions.filter((name) => Object.hasOwn(Object(raw), name));
  if (camera === undefined && given.length > 0) {
    const names = given.map((name) => `--${name}`).join(', ');
    throw new IsthmusError('usage/invalid', `Only with --camera there is ${names}.`);
  }
}

async function onlyModel(url: string, token: string | undefined, signal: AbortSignal): Promise<string> {
  const models = await listModels(url, { signal, ...(token !== undefined && { token }) });
  const [first, ...others] = models;
  if (first === undefined || others.length > 0) {
    const names = models.map(({ id }) => id).join(', ') || 'none';
    throw new IsthmusError('usage/invalid', `Say which --model; ${url} serves: ${names}.`);
  }
  return first.id;
}

interface Row {
  image: string;
  result: FrameResult;
}

async function runAll(
  session: Session<Frame>,
  images: readonly string[],
  plans: readonly PlanChoice[],
  options: z.infer<typeof optionsSchema>,
  context: CliContext,
): Promise<void> {
  const rows: Row[] = [];
  const failures: IsthmusError[] = [];
  for (const path of images) {
    for (const plan of plans) {
      for (let repetition = 0; repetition < options.repeat; repetition++) {
        const image = basename(path);
        try {
          const result = await runOne(session, path, plan, options.deadline, context.signal);
          if (options.json) context.out(JSON.stringify(describeLine(session, image, result)));
          else rows.push({ image, result });
        } catch (error) {
          if (context.signal.aborted) throw error;
          const failure = toIsthmusError(error, 'internal', `Cannot run ${path}`);
          const { code, message } = failure;
          failures.push(failure);
          if (options.json) context.out(JSON.stringify({ image, error: { code, message } }));
          else context.note(`${image}: ${message} [${code}]`);
        }
      }
    }
  }
  if (rows.length > 0) context.out(renderRows(session, rows));
  const [first] = failures;
  if (first !== undefined) {
    const total = images.length * plans.length * options.repeat;
    throw new IsthmusError(first.code, `${failures.length} of ${total} frames failed; see above.`, {
      cause: first,
    });
  }
}

async function runOne(
  session: Session<Frame>,
  path: string,
  plan: PlanChoice,
  deadlineMs: number | undefined,
  signal: AbortSignal,
): Promise<FrameResult> {
  const frame = await readFile(path).catch((cause) => {
    throw new IsthmusError('image/decode-failed', `${path} cannot be read.`, { cause });
  });
  return session.run(frame, {
    signal,
    ...(plan !== 'auto' && { plan }),
    ...(deadlineMs !== undefined && { deadlineMs }),
  });
}

function describeLine(session: Session<Frame>, image: string, result: FrameResult): FrameLine {
  const { plan, bytes, bitsPerPixel, timing, output } = result;
  return {
    image,
    plan,
    planName: describePlan(plan, session.manifest),
    output: output.kind === 'tensor' ? { kind: 'tensor', names: Object.keys(output.tensors) } : output,
    bytes,
    bitsPerPixel,
    timing,
  };
}

function renderRows(session: Session<Frame>, rows: readonly Row[]): string {
  return formatTable(rows, [
    { title: 'image', value: ({ image }) => image },
    { title: 'answer', value: ({ result }) => describeOutput(result.output) },
    { title: 'plan', value: ({ result }) => describePlan(result.plan, session.manifest) },
    { title: 'bytes up', value: ({ result }) => formatBytes(result.bytes.up), align: 'right' },
    { title: 'bpp', value: ({ result }) => result.bitsPerPixel?.toFixed(3) ?? '–', align: 'right' },
    { title: 'device ms', value: ({ result }) => formatMs(result.timing.deviceMs), align: 'right' },
    { title: 'link ms', value: ({ result }) => formatMs(result.timing.linkMs), align: 'right' },
    { title: 'cloud ms', value: ({ result }) => formatMs(result.timing.cloudMs), align: 'right' },
    { title: 'total ms', value: ({ result }) => formatMs(result.timing.totalMs), align: 'right' },
  ]);
}

function describeOutput(output: Interpretation): string {
  if (output.kind === 'classification') {
    const best = output.classes[0];
    return best === undefined ? '–' : `${best.label || `class ${best.index}`} ${best.score.toFixed(3)}`;
  }
  if (output.kind === 'detection') {
    const shown = output.boxes.slice(0, 4).map((box) => `${box.label} ${box.score.toFixed(2)}`);
    const more = output.boxes.length > shown.length ? ` and ${output.boxes.length - shown.length} more` : '';
    return shown.length === 0 ? 'nothing found' : shown.join(', ') + more;
  }
  return Object.entries(output.tensors)
    .map(([name, tensor]) => `${name}[${tensor.shape}]`)
    .join(', ');
}
