import { IsthmusError } from '@isthmus/core';
import { z } from 'zod';

/** One codec at one level on one path, frame by frame. */
export interface FrameTrial {
  codec: string;
  from: number;
  to: number;
  level: number;
  /** Of the whole request packet. */
  numBytes: number[];
  /** 1 where the frame is answered as the uncompressed model does. */
  agreement: number[];
  /** Against the labels; absent without. */
  right?: number[];
}

/** What every codec made of every picture, one by one: what a simulation of a link replays. */
export interface FrameSet {
  model: string;
  names: string[];
  trials: FrameTrial[];
}

const index = z.number().int().nonnegative();
const perFrame = z.array(z.number().nonnegative());
const frameSetSchema: z.ZodType<FrameSet> = z.object({
  model: z.string(),
  names: z.array(z.string()).min(1),
  trials: z.array(
    z.object({
      codec: z.string(),
      from: index,
      to: index,
      level: index,
      numBytes: perFrame,
      agreement: perFrame,
      right: z.exactOptional(perFrame),
    }),
  ),
});

/** @throws IsthmusError `usage/invalid` for what `isthmus bench rd --frames` did not write */
export function parseFrameSet(content: string, path: string): FrameSet {
  let json: unknown;
  try {
    json = JSON.parse(content);
  } catch (cause) {
    throw new IsthmusError(
      'usage/invalid',
      `${path} is not JSON; isthmus bench rd --frames writes such files.`,
      {
        cause,
      },
    );
  }
  const parsed = frameSetSchema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new IsthmusError(
      'usage/invalid',
      `${path} is not a frame set of isthmus bench rd --frames: ${issue?.path.join('.')}: ${issue?.message}.`,
    );
  }
  const { names, trials } = parsed.data;
  const uneven = trials.find(({ numBytes, agreement, right }) =>
    [numBytes, agreement, right ?? names].some(({ length }) => length !== names.length),
  );
  if (uneven !== undefined) {
    throw new IsthmusError(
      'usage/invalid',
      `${path} is damaged: ${uneven.codec} level ${uneven.level} does not tell of all ${names.length} frames.`,
    );
  }
  return parsed.data;
}
