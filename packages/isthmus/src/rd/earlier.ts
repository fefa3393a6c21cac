import { IsthmusError, type Manifest, sha256Hex } from '@isthmus/core';
import { z } from 'zod';
import type { RdIdentity, RdPoint, RdResult, RdRun } from './result.js';

/** What has to be the same for points of two runs to stand in one result; of all codecs of the bundle. */
export async function identifyBundle(manifest: Manifest, names: readonly string[]): Promise<RdIdentity> {
  const digest = (value: unknown): Promise<string> =>
    sha256Hex(new TextEncoder().encode(JSON.stringify(value)));
  const files = [...manifest.shared, ...manifest.segments.map(({ file }) => file)];
  const codecs: Record<string, string> = {};
  for (const { id, kind, version, paths, levels, files } of manifest.codecs) {
    codecs[id] = await digest([kind, version, paths, levels, files.map(({ sha256 }) => sha256)]);
  }
  return {
    segments: await digest(files.map(({ sha256 }) => sha256)),
    pictures: await digest(names),
    codecs,
  };
}

/** Points of earlier results, and the runs that they are of. */
export interface TakenOver {
  points: RdPoint[];
  runs: RdRun[];
  codecs: Record<string, string>;
}

/** An earlier result, and the file it was read from. */
export interface EarlierFile {
  result: EarlierResult;
  path: string;
}

interface Now {
  metric: RdResult['metric'];
  /** Of the bundle, with all its codecs, and the pictures. */
  identity: RdIdentity;
  /** Ids of the codecs that are measured now. */
  methods: readonly string[];
}

/**
 * The points of methods that earlier results have and this run does not measure again. What several have is taken from the
 * first.
 *
 * @throws IsthmusError `usage/invalid` where the earlier result is of other segments, other pictures, another measure of
 * accuracy, or of a codec that has changed since
 */
export function takeOver(files: readonly EarlierFile[], now: Now): TakenOver {
  const taken: TakenOver = { points: [], runs: [], codecs: {} };
  for (const file of files) {
    const { points, runs, codecs } = takeFrom(file, now, taken.codecs);
    taken.points.push(...points);
    taken.runs.push(...runs);
    Object.assign(taken.codecs, codecs);
  }
  return taken;
}

function takeFrom(
  { result: earlier, path }: EarlierFile,
  { metric, identity, methods }: Now,
  taken: RdIdentity['codecs'],
): TakenOver {
  const refuse = (what: string): never => {
    throw new IsthmusError(
      'usage/invalid',
      `${path} is of ${what}: its points cannot stand beside those of this run.`,
    );
  };
  if (earlier.metric !== metric) refuse(`${earlier.metric}, not ${metric}`);
  if (earlier.identity.segments !== identity.segments)
    refuse('another model, or one that was split otherwise');
  if (earlier.identity.pictures !== identity.pictures) refuse('other pictures');
  const kept = Object.keys(earlier.identity.codecs).filter((id) => !methods.includes(id) && !(id in taken));
  const changed = kept.find((id) => identity.codecs[id] !== earlier.identity.codecs[id]);
  if (changed !== undefined) refuse(`a codec ${changed} that the bundle does not have, or not as it was`);
  const isKept = (id: string): boolean => kept.includes(id);
  return {
    points: earlier.points.filter(({ method }) => isKept(method)),
    runs: earlier.runs.flatMap((run) => {
      const methods = run.methods.filter(isKept);
      return methods.length === 0 ? [] : [{ ...run, methods }];
    }),
    codecs: Object.fromEntries(Object.entries(earlier.identity.codecs).filter(([id]) => isKept(id))),
  };
}

/** What is read of a file of an earlier run. */
export type EarlierResult = Pick<RdResult, 'metric' | 'points' | 'identity' | 'runs'>;

const share = z.number().min(0).max(1);
const ms = z.number().nonnegative();
const index = z.number().int().nonnegative();
const earlierSchema: z.ZodType<EarlierResult> = z.object({
  metric: z.enum(['top1', 'agreement', 'ap50']),
  points: z.array(
    z.object({
      method: z.string(),
      from: index,
      to: index,
      level: index,
      name: z.string(),
      bpp: z.number().nonnegative(),
      top1: share.nullable(),
      agreement: share,
      ap50: z.exactOptional(share),
      encodeMs: ms,
      decodeMs: ms,
      deviceMs: ms,
      cloudMs: ms,
    }),
  ),
  identity: z.object({
    segments: z.string(),
    pictures: z.string(),
    codecs: z.record(z.string(), z.string()),
  }),
  runs: z.array(z.object({ methods: z.array(z.string()), machine: z.string(), date: z.string() })),
});

/** @throws IsthmusError `usage/invalid` for what `isthmus bench rd` did not write */
export function parseEarlier(content: string, path: string): EarlierResult {
  let json: unknown;
  try {
    json = JSON.parse(content);
  } catch (cause) {
    throw new IsthmusError('usage/invalid', `${path} is not JSON; --with takes a file of --json.`, { cause });
  }
  const parsed = earlierSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new IsthmusError(
    'usage/invalid',
    `${path} is not a result of isthmus bench rd --json: ${issue?.path.join('.')}: ${issue?.message}.`,
  );
}
