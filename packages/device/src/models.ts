import { IsthmusError } from '@isthmus/core';
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
  const get = createHttpGet({
    baseUrl,
    token: options.token ?? null,
    fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
  });
  const body = await get('models', { maxBytes: maxAnswerBytes, signal: options.signal });
  try {
    const { models } = JSON.parse(new TextDecoder().decode(body)) as { models: unknown };
    if (Array.isArray(models) && models.every(isServedModel)) return models;
    throw new TypeError('there is no list of models');
  } catch (cause) {
    throw new IsthmusError(
      'link/connect-failed',
      `${baseUrl} answers, but not as an Isthmus receiver does.`,
      {
        cause,
      },
    );
  }
}

function isServedModel(value: unknown): value is ServedModel {
  const { id, bundle, numBytes } = (value ?? {}) as Partial<Record<keyof ServedModel, unknown>>;
  return typeof id === 'string' && typeof bundle === 'string' && typeof numBytes === 'number';
}
