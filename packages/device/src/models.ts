import { IsthmusError, systemClock } from '@isthmus/core';
import { createEnding } from './ending.js';
import { createHttpGet, receiverUrls } from './http.js';

/** A model that a receiver serves. */
export interface ServedModel {
  id: string;
  /** SHA-256 of its manifest. */
  bundle: string;
  /** Bytes of all its files. */
  numBytes: number;
}

const maxAnswerBytes = 4_194_304;
const stallTimeoutMs = 10_000;

/**
 * What a receiver serves, before connecting to it.
 *
 * @throws IsthmusError `link/connect-failed`, `auth/denied`, `usage/invalid` for an address that is none
 *
 * @example
 * ```ts
 * const [first] = await listModels('ws://127.0.0.1:8787');
 * const session = await connect('ws://127.0.0.1:8787', { model: first.id });
 * ```
 */
export async function listModels(
  url: string,
  options: { token?: string; fetch?: typeof globalThis.fetch; signal?: AbortSignal } = {},
): Promise<ServedModel[]> {
  const { baseUrl } = receiverUrls(url);
  const ending = createEnding();
  const get = createHttpGet({
    baseUrl,
    token: options.token ?? null,
    fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
    clock: systemClock,
    stallTimeoutMs,
    ending,
  });
  const onAbort = (): void =>
    ending.end(new IsthmusError('request/cancelled', 'Cancelled.', { cause: options.signal?.reason }));
  options.signal?.addEventListener('abort', onAbort, { once: true });
  if (options.signal?.aborted) onAbort();
  const body = await get('models', { maxBytes: maxAnswerBytes }).finally(() =>
    options.signal?.removeEventListener('abort', onAbort),
  );
  try {
    const { models } = JSON.parse(new TextDecoder().decode(body)) as { models: unknown };
    if (Array.isArray(models) && models.every(isServedModel)) return models;
    throw new TypeError('there is no list of models');
  } catch (cause) {
    throw new IsthmusError(
      'link/connect-failed',
      `${baseUrl} answers, but not as an Isthmus receiver does.`,
      { cause },
    );
  }
}

function isServedModel(value: unknown): value is ServedModel {
  const { id, bundle, numBytes } = (value ?? {}) as Partial<Record<keyof ServedModel, unknown>>;
  return typeof id === 'string' && typeof bundle === 'string' && typeof numBytes === 'number';
}
