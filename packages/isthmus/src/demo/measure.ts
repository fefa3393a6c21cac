import { interpret, type Manifest, preprocessImage, type Runtime, tensorBytes } from '@isthmus/core';
import sharp from 'sharp';
import type { FrameLine } from '../commands/run.js';
import type { Photo } from './photos.js';
import type { PhotoSummary, PlanSummary } from './result.js';

/** What the unsplit model says of each photograph, and how long it takes. */
export interface WholeModel {
  photos: (PhotoSummary & { index: number })[];
  durationMs: number;
}

/** Runs the model as it was before splitting: what every plan is held against. */
export async function runWholeModel(
  model: Uint8Array,
  manifest: Manifest,
  photos: readonly Photo[],
  runtime: Runtime,
): Promise<WholeModel> {
  const session = await runtime.load(model);
  const input = manifest.cuts[0]!.tensors[0]!.name;
  const durations: number[] = [];
  const answers: WholeModel['photos'] = [];
  for (const photo of photos) {
    const { data, info } = await sharp(photo.bytes)
      .rotate()
      .removeAlpha()
      .toColourspace('srgb')
      .raw()
      .toBuffer({ resolveWithObject: true });
    const image = { data, width: info.width, height: info.height, channels: info.channels as 3 };
    const feeds = { [input]: preprocessImage(image, manifest.preprocess!) };
    const { outputs, durationMs } = await session.run(feeds);
    durations.push(durationMs);
    const reading = interpret(manifest.task, outputs);
    const best = reading.kind === 'classification' ? reading.classes[0] : undefined;
    answers.push({
      name: photo.name,
      label: best?.label ?? '',
      score: best?.score ?? 0,
      index: best?.index ?? -1,
    });
  }
  await session.release();
  return { photos: answers, durationMs: median(durations) };
}

/** Frames by plan, in the order the plans came. */
export function summarizePlans(
  lines: readonly FrameLine[],
  manifest: Manifest,
  whole: WholeModel,
): PlanSummary[] {
  const expected = new Map(whole.photos.map((photo) => [photo.name, photo.index]));
  const lastCut = manifest.cuts.length - 1;
  return [...groupBy(lines, (line) => line.planName)].map(([name, frames]) => {
    const { plan } = frames[0]!;
    const time = (pick: (timing: FrameLine['timing']) => number): number =>
      median(frames.map((f) => pick(f.timing)));
    const codec = plan.kind === 'split' ? manifest.codecs.find(({ id }) => id === plan.codec) : undefined;
    return {
      name,
      from: plan.kind === 'split' ? plan.from : lastCut,
      codec: codec?.id ?? 'none',
      level: plan.kind === 'split' ? (codec?.levels[plan.level]?.name ?? '') : '',
      frames: frames.length,
      numBytes: mean(frames.map((frame) => frame.bytes.up)),
      bitsPerPixel: mean(frames.map((frame) => frame.bitsPerPixel ?? 0)),
      pictureMs: time((timing) => timing.preprocessMs),
      deviceMs: time((timing) => timing.deviceMs),
      encodeMs: time((timing) => timing.encodeMs),
      linkMs: time((timing) => timing.linkMs),
      cloudMs: time((timing) => timing.queueMs + timing.decodeMs + timing.cloudMs),
      totalMs: time((timing) => timing.totalMs),
      agreeing: frames.filter(({ image, output }) => {
        return output.kind === 'classification' && output.classes[0]?.index === expected.get(image);
      }).length,
    };
  });
}

/** For the report: each cut's tensors in words. */
export function describeCuts(manifest: Manifest): { index: number; tensors: string; numBytes: number }[] {
  return manifest.cuts.map(({ index, tensors }) => ({
    index,
    tensors: tensors.map(({ name, shape }) => `${name} [${shape.join(', ')}]`).join(', '),
    numBytes: tensors.reduce((sum, { type, shape }) => sum + tensorBytes(type, shape), 0),
  }));
}

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  }
  return groups;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
