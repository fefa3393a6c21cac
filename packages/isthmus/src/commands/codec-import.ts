import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  type CalibratedTables,
  type CodecEntry,
  IsthmusError,
  isIsthmusError,
  type Manifest,
  type NamedTensors,
  parseCalibratedTables,
  requestHeaderBytes,
  systemClock,
} from '@isthmus/core';
import { type Bundle, checkCodecId, importCodec, type ModelProto, readModel } from '@isthmus/graph';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { z } from 'zod';
import { addCodecToFolder } from '../bundle-codecs.js';
import type { CliContext } from '../cli.js';
import { createProgress } from '../progress.js';
import { createFrameReader, listPictures, spread } from '../rd/pictures.js';
import { formatBytes, formatMs, formatTable } from '../table.js';
import { openFolder } from './bench-files.js';

const text = z.coerce.string();
const cut = z.coerce.number().int().min(0);
const optionsSchema = z.object({
  encoder: text,
  decoder: text,
  from: cut,
  to: cut.optional(),
  images: text.optional(),
  limit: z.coerce.number().int().min(4).max(10_000).default(100),
  tables: text.optional(),
  steps: text
    .transform((list) => list.split(',').map(Number))
    .check(z.refine((steps) => steps.every((step) => step > 0), 'numbers above 0, as in 0.25,0.5,1'))
    .optional(),
  name: text.optional(),
  threads: z.coerce.number().int().min(1).max(256).optional(),
  json: z.boolean().default(false),
});
const required = ['encoder', 'decoder', 'from'] as const;

/** `isthmus codec import`: a codec that was trained elsewhere into the bundle in a folder. */
export async function codecImport(
  folder: string,
  raw: Readonly<Record<string, unknown>>,
  context: CliContext,
): Promise<void> {
  const missing = required.filter((name) => raw[name] === undefined);
  if (missing.length > 0) {
    throw new IsthmusError(
      'usage/invalid',
      `Say ${missing.map((name) => `--${name}`).join(' and ')}. See --help.`,
    );
  }
  const options = optionsSchema.parse(raw);
  const { from, to = from, images, steps, threads } = options;
  const name = options.name ?? (from === to ? `learned-${from}` : `learned-${from}-${to}`);
  if (images === undefined && options.tables === undefined) {
    throw new IsthmusError('usage/invalid', 'Tables are fitted to pictures: say --images, or give --tables.');
  }
  const bundle = await openSegments(folder, from);
  checkCodecId(bundle.manifest, name);
  const [encoder, decoder] = [await readNetwork(options.encoder), await readNetwork(options.decoder)];
  const tables = options.tables === undefined ? undefined : await readTables(options.tables);
  const frames =
    images === undefined
      ? []
      : await readFrames(bundle.manifest, images, options.limit, options.tables === undefined, context);
  const progress = createProgress(context);
  const runtime = createNodeRuntime(threads === undefined ? {} : { threads });
  try {
    const codec = await importCodec({
      bundle,
      runtime,
      clock: systemClock,
      id: name,
      ...{ from, to, encoder, decoder, frames },
      ...(tables !== undefined && { tables }),
      ...(steps !== undefined && { steps }),
      onProgress({ stage }) {
        context.signal.throwIfAborted();
        progress.show(`${name}: ${stage}`);
      },
    });
    progress.end();
    context.signal.throwIfAborted();
    await addCodecToFolder(folder, codec);
    context.out(options.json ? renderJson(folder, codec.entry) : renderCodec(bundle.manifest, codec.entry));
    if (!options.json) context.out(`\nAdded to ${folder}.`);
  } finally {
    await runtime.close();
  }
}

/**
 * What a bundle's spans are made of, and of its codecs those that leave from a cut, for comparing with them.
 *
 * @throws IsthmusError `bundle/*`
 */
export async function openSegments(folder: string, from?: number): Promise<Bundle> {
  const { manifest, readFile: read } = await openFolder(folder);
  const files = new Map<string, Uint8Array>();
  const codecs = manifest.codecs.filter(({ paths }) => paths.some((path) => path.from === from));
  for (const file of [
    ...manifest.shared,
    ...manifest.segments.map((segment) => segment.file),
    ...codecs.flatMap((codec) => codec.files),
  ]) {
    files.set(file.path, await read(file));
  }
  return { manifest, files };
}

async function readNetwork(path: string): Promise<ModelProto> {
  const bytes = await readFile(path).catch((cause) => {
    throw new IsthmusError('usage/invalid', `${path} cannot be read.`, { cause });
  });
  try {
    return await readModel(bytes, { readExternal: (location) => readFile(join(dirname(path), location)) });
  } catch (cause) {
    if (!isIsthmusError(cause)) throw cause;
    throw new IsthmusError(cause.code, `${path} cannot be used: ${cause.message}`, { cause });
  }
}

async function readTables(path: string): Promise<CalibratedTables> {
  const content = await readFile(path, 'utf8').catch((cause) => {
    throw new IsthmusError('usage/invalid', `${path} cannot be read.`, { cause });
  });
  return parseCalibratedTables(content);
}

async function readFrames(
  { model, preprocess, cuts }: Manifest,
  folder: string,
  limit: number,
  mustFit: boolean,
  { signal }: CliContext,
): Promise<NamedTensors[]> {
  const [input] = cuts[0]?.tensors ?? [];
  if (preprocess === null || input === undefined) {
    throw new IsthmusError(
      'usage/invalid',
      `${model} does not take pictures; give --tables, and leave --images out.`,
    );
  }
  const names = spread(await listPictures(folder), limit);
  if (mustFit && names.length < 4) {
    throw new IsthmusError(
      'usage/invalid',
      `Fitting needs at least 4 pictures, better a hundred; ${folder} has ${names.length}.`,
    );
  }
  const readFrame = createFrameReader(folder, preprocess, input.name);
  const frames: NamedTensors[] = [];
  for (const name of names) {
    signal.throwIfAborted();
    frames.push((await readFrame(name)).tensors);
  }
  return frames;
}

function renderJson(folder: string, { id, paths, levels, measured }: CodecEntry): string {
  return JSON.stringify({
    folder,
    codec: id,
    ...paths[0],
    levels: levels.map(({ name, params }, level) => ({ name, ...params, ...measured?.[0]?.[level] })),
  });
}

/** A table of a codec's levels. */
export function renderCodec({ preprocess }: Manifest, { id, paths, levels, measured }: CodecEntry): string {
  const [path] = paths;
  const title = path?.from === path?.to ? `cut ${path?.from}` : `cut ${path?.from} → ${path?.to}`;
  const rows = levels.flatMap(({ name }, level) => {
    const measure = measured?.[0]?.[level];
    return measure === undefined ? [] : [{ name, ...measure }];
  });
  if (rows.length === 0) {
    return `${id}, ${title}: ${levels.length} levels, not measured. With --images they are.`;
  }
  // As isthmus bench rd counts them: with the packet's header.
  const bitsPerPixel = (numBytes: number): string =>
    preprocess === null
      ? '–'
      : ((8 * (numBytes + requestHeaderBytes)) / (preprocess.width * preprocess.height)).toFixed(3);
  const table = formatTable(rows, [
    { title: 'level', value: ({ name }) => name },
    { title: 'bytes', value: ({ numBytes }) => formatBytes(numBytes), align: 'right' },
    { title: 'bpp', value: ({ numBytes }) => bitsPerPixel(numBytes), align: 'right' },
    { title: 'expected quality', value: ({ quality }) => quality.toFixed(3), align: 'right' },
    { title: 'encode ms', value: ({ encodeMs }) => formatMs(encodeMs), align: 'right' },
    { title: 'decode ms', value: ({ decodeMs }) => formatMs(decodeMs), align: 'right' },
  ]);
  return `${id}, ${title}\n\n${table}`;
}
