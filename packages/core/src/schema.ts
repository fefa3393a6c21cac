import * as v from 'valibot';

/**
 * What files and messages hold is checked with Valibot: imported as a namespace, bundlers keep only the functions that are
 * used, which matters in a page.
 */
export type Schema<T> = v.GenericSchema<unknown, T>;

/** A finite number: JSON's `1e999` is none. */
export const number: Schema<number> = v.pipe(v.number(), v.finite());

/** A number from zero up. */
export const measure: Schema<number> = v.pipe(v.number(), v.finite(), v.minValue(0));

/** From 0 to 1. */
export const share: Schema<number> = v.pipe(v.number(), v.minValue(0), v.maxValue(1));

/** An integer that a double holds exactly. */
export const integer: Schema<number> = v.pipe(v.number(), v.safeInteger());

/** An integer of a range. @param high @default any */
export function integerFrom(low: number, high: number = Number.MAX_SAFE_INTEGER): Schema<number> {
  return v.pipe(v.number(), v.safeInteger(), v.minValue(low), v.maxValue(high));
}

/** Text of at most so many UTF-16 units. */
export function textUpTo(length: number): Schema<string> {
  return v.pipe(v.string(), v.maxLength(length));
}

/** Text that a pattern matches. */
export function textLike(pattern: RegExp): Schema<string> {
  return v.pipe(v.string(), v.regex(pattern));
}

/** A list of `low` to `high` items. */
export function listOf<T>(item: Schema<T>, low: number, high: number): Schema<T[]> {
  return v.pipe(v.array(item), v.minLength(low), v.maxLength(high));
}

/** `value` if it fits, else what is wrong with it first and where, in words. Fields that the schema does not know are left out. */
export function parseAs<T>(
  schema: Schema<T>,
  value: unknown,
): { ok: true; value: T } | { ok: false; problem: string; cause: unknown } {
  const parsed = v.safeParse(schema, value, { abortEarly: true, abortPipeEarly: true });
  if (parsed.success) return { ok: true, value: parsed.output };
  const [issue] = parsed.issues;
  const path = v.getDotPath(issue);
  return {
    ok: false,
    problem: path === null ? issue.message : `${issue.message} at ${path}`,
    cause: new v.ValiError(parsed.issues),
  };
}
