import * as z from 'zod/mini';
import en from 'zod/v4/locales/en.js';

// The small build of zod has no words of its own; these are passed in, since setting them would change zod for all.
const words = { error: en().localeError };

/**
 * `value` if it fits, else what is wrong with it and where, in words.
 *
 * Schemas come from `zod/mini`, imported as a namespace: bundlers then keep the ten functions that are used, not
 * zod's hundred kilobytes and every language.
 */
export function parseAs<T>(
  schema: z.ZodMiniType<T>,
  value: unknown,
): { ok: true; value: T } | { ok: false; problem: string; cause: unknown } {
  const parsed = z.safeParse(schema, value, words);
  if (parsed.success) return { ok: true, value: parsed.data };
  return { ok: false, problem: z.prettifyError(parsed.error), cause: parsed.error };
}
