import { concatBytes, IsthmusError, toIsthmusError } from '@isthmus/core';
import { isRemoteCode, remoteError } from './remote-error.js';

export interface HttpOptions {
  /** Where the receiver's resources lie; ends in a slash. */
  baseUrl: string;
  token: string | null;
  fetch: typeof globalThis.fetch;
}

interface GetOptions {
  /** More than this is refused while it comes in. */
  maxBytes: number;
  signal?: AbortSignal | undefined;
  onProgress?: (receivedBytes: number) => void;
}

/** Gets one resource of the receiver, whole. */
export type HttpGet = (path: string, options: GetOptions) => Promise<Uint8Array>;

const maxErrorBytes = 65_536;

/**
 * The addresses that belong to what the user named: the WebSocket opens exactly there, the resources lie below.
 *
 * @throws IsthmusError `usage/invalid`
 */
export function receiverUrls(url: string): { socketUrl: string; baseUrl: string } {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch (cause) {
    throw new IsthmusError('usage/invalid', `${url} is not a URL; one looks like wss://edge.example.com.`, {
      cause,
    });
  }
  const secure = parsed.protocol === 'wss:' || parsed.protocol === 'https:';
  if (!secure && parsed.protocol !== 'ws:' && parsed.protocol !== 'http:') {
    throw new IsthmusError('usage/invalid', `${url} must start with wss://, ws://, https:// or http://.`);
  }
  parsed.hash = '';
  parsed.protocol = secure ? 'wss:' : 'ws:';
  const socketUrl = parsed.href;
  parsed.search = '';
  parsed.protocol = secure ? 'https:' : 'http:';
  return { socketUrl, baseUrl: parsed.href.endsWith('/') ? parsed.href : `${parsed.href}/` };
}

/**
 * @throws IsthmusError from what it returns: `link/connect-failed`, `auth/denied`, `bundle/not-found`,
 * `wire/too-large`, or what the receiver says
 */
export function createHttpGet({ baseUrl, token, fetch }: HttpOptions): HttpGet {
  return async (path, options) => {
    const url = baseUrl + path;
    const { signal } = options;
    try {
      const response = await fetch(url, {
        headers: token === null ? {} : { authorization: `Bearer ${token}` },
        ...(signal === undefined ? {} : { signal }),
      });
      if (!response.ok) throw await refusal(url, response);
      return await readBody(url, response, options);
    } catch (error) {
      if (signal?.aborted) throw toIsthmusError(signal.reason, 'request/cancelled', 'Cancelled');
      throw toIsthmusError(error, 'link/connect-failed', `${url} cannot be had; is the receiver running?`);
    }
  };
}

async function readBody(url: string, response: Response, options: GetOptions): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let receivedBytes = 0;
  const reader = response.body?.getReader();
  if (reader === undefined) return new Uint8Array(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return concatBytes(parts);
    receivedBytes += value.byteLength;
    if (receivedBytes > options.maxBytes) {
      await reader.cancel();
      throw new IsthmusError('wire/too-large', `${url} is larger than ${options.maxBytes} bytes.`);
    }
    parts.push(value);
    options.onProgress?.(receivedBytes);
  }
}

async function refusal(url: string, response: Response): Promise<IsthmusError> {
  const { status } = response;
  try {
    const body = await readBody(url, response, { maxBytes: maxErrorBytes });
    const { code, message } = JSON.parse(new TextDecoder().decode(body)) as Record<string, unknown>;
    if (typeof code === 'string' && isRemoteCode(code)) {
      return remoteError({ code, message: String(message), retryable: status >= 500 });
    }
  } catch {
    // Not an error of a receiver; the status says enough.
  }
  if (status === 401 || status === 403) {
    return new IsthmusError('auth/denied', `${url} was refused with ${status}; check the token.`);
  }
  if (status === 404) {
    return new IsthmusError('bundle/not-found', `${url} does not exist; check the address and the model.`);
  }
  return new IsthmusError('link/connect-failed', `${url} was answered with ${status}.`, {
    retryable: status >= 500,
    details: { status },
  });
}
