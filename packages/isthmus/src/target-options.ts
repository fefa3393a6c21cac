import type { ConnectOptions, Target } from '@isthmus/device';
import type { Command } from 'cac';
import { z } from 'zod';

const targetSchema = z.object({
  objective: z.enum(['quality', 'latency', 'energy', 'bytes']).optional(),
  minQuality: z.coerce.number().min(0).max(1).optional(),
  maxAccuracyDrop: z.coerce.number().min(0).max(1).optional(),
  neverPixels: z.boolean().default(false),
  minCut: z.coerce.number().int().min(0).optional(),
  memory: z.coerce.number().min(0).optional(),
  bytesPerHour: z.coerce.number().positive().optional(),
});

/** The options that say what `auto` chooses plans for. */
export function addTargetOptions(command: Command): Command {
  return command
    .option('--objective <what>', 'What auto wants most: quality, latency, energy or bytes')
    .option(
      '--min-quality <share>',
      'Least expected quality, 0 to 1 [default: 0.99 for latency, energy and bytes]',
    )
    .option('--max-accuracy-drop <share>', 'The same the other way round: 0.01 is a quality of 0.99')
    .option('--never-pixels', 'Never send the picture, in whatever coding')
    .option('--min-cut <cut>', 'Never send anything before this cut')
    .option('--memory <bytes>', 'Memory for spans on the device', { default: 536_870_912 })
    .option('--bytes-per-hour <bytes>', 'Bytes to be sent in an hour, evenly spent');
}

/**
 * The options of `connect()` that the command line's say.
 *
 * @throws ZodError for values that cannot be
 */
export function targetOf(
  raw: unknown,
  deadlineMs: number | undefined,
): Pick<ConnectOptions, 'target' | 'maxDeviceBytes'> {
  const { objective, minQuality, maxAccuracyDrop, neverPixels, minCut, memory, bytesPerHour } =
    targetSchema.parse(raw);
  const given: { [Name in keyof Target]: Target[Name] | undefined } = {
    objective: objective === undefined ? undefined : { kind: objective },
    deadlineMs,
    minQuality,
    maxAccuracyDrop,
    neverPixels,
    minCut,
    maxBytesPerHour: bytesPerHour,
  };
  const target = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  return { target, ...(memory !== undefined && { maxDeviceBytes: memory }) };
}
