import { type Clock, concatBytes, IsthmusError, toIsthmusError } from '@isthmus/core';
import type { Ending } from './ending.js';
import { isRemoteCode, remoteError } from './remote-error.js';

export interface HttpOptions {
  /** Where the receiver's resources lie; ends in a slash. */
  baseUrl: string;
  token: string | null;
  fetch: typeof globalThis.fetch;
  clock: Clock;
  /** Silence after which a transfer is given up. */
  stallTimeoutMs: number;
  /** Ends every transfer. */
  ending: Ending;
}

interface GetOptions {
  /** More than this is refused while it comes in. */
  maxBytes: number;
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
export function createHttpGet(options: HttpOptions): HttpGet {
  const { baseUrl, token, fetch, clock, stallTimeoutMs, ending } = options;
  return async (path, { maxBytes, onProgress }) => {
    const url = baseUrl + path;
    const controller = new AbortController();
    const leaveEnding = ending.onEnd((reason) => controller.abort(reason));
    const watch = (): (() => void) =>
      clock.after(stallTimeoutMs, () =>
        controller.abort(
          new IsthmusError('link/connect-failed', `${url} has sent nothing for ${stallTimeoutMs} ms.`, {
            retryable: true,
          }),
        ),
      );
    let stopWatching = watch();
    const onBytes = (receivedBytes: number): void => {
      stopWatching();
      stopWatching = watch();
      onProgress?.(receivedBytes);
    };
    try {
      const response = await fetch(url, {
        // What is verified has a cache of its own. A browser's would keep what was damaged on its way, and go on
        // giving it, since the receiver's ETag has not changed.
        cache: 'no-store',
        headers: token === null ? {} : { authorization: `Bearer ${token}` },
        signal: controller.signal,
      });
      if (!response.ok) throw await refusal(url, response);
      return await readBody(url, response, maxBytes, onBytes);
    } catch (error) {
      // Node's fetch says only that it failed; its cause says why.
      const failure = error instanceof TypeError && error.cause instanceof Error ? error.cause : error;
      const reason = controller.signal.aborted ? controller.signal.reason : failure;
      throw toIsthmusError(reason, 'link/connect-failed', `${url} cannot be had; is the receiver running?`);
    } finally {
      stopWatching();
      leaveEnding();
    }
  };
}

async function readBody(
  url: string,
  response: Response,
  maxBytes: number,
  onBytes: (receivedBytes: number) => void,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let receivedBytes = 0;
  const reader = response.body?.getReader();
  if (reader === undefined) return new Uint8Array(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return concatBytes(parts);
    receivedBytes += value.byteLength;
    if (receivedBytes > maxBytes) {
      await reader.cancel();
      throw new IsthmusError('wire/too-large', `${url} is larger than ${maxBytes} bytes.`);
    }
    parts.push(value);
    onBytes(receivedBytes);
  }
}

async function refusal(url: string, response: Response): Promise<IsthmusError> {
  const { status } = response;
  try {
    const body = await readBody(url, response, maxErrorBytes, () => {});
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
