import { type Clock, IsthmusError, systemClock } from '@isthmus/core';
import type { PackageSource } from '@isthmus/models';
import { asDownloadError } from './download.js';

const answerMs = 30_000;
const maxAnswerBytes = 4_194_304;

/**
 * Address of a package's tarball, from the npm registry
 * (https://github.com/npm/registry/blob/main/docs/REGISTRY-API.md).
 *
 * @throws IsthmusError `pull/download-failed`; `pull/integrity` if the registry offers other contents than the
 * recipe pins; `request/cancelled`
 */
export async function findTarball(
  source: PackageSource,
  registryUrl: string,
  options: {
    fetch?: typeof fetch | undefined;
    clock?: Clock | undefined;
    signal?: AbortSignal | undefined;
  } = {},
): Promise<string> {
  const { signal, clock = systemClock } = options;
  const url = `${registryUrl.replace(/\/+$/, '')}/${source.name.replace('/', '%2f')}/${source.version}`;
  const timeout = new AbortController();
  const stopTimer = clock.after(answerMs, () => timeout.abort());
  try {
    const abort = signal === undefined ? timeout.signal : AbortSignal.any([timeout.signal, signal]);
    const response = await (options.fetch ?? fetch)(url, { signal: abort });
    if (!response.ok) {
      const { status } = response;
      throw new IsthmusError(
        'pull/download-failed',
        `The registry answers ${url} with status ${status}. Does it mirror ${source.name}@${source.version}?`,
        { retryable: status === 429 || status >= 500, details: { url, status } },
      );
    }
    const { tarball, integrity } = readDist(await readText(response, url), url);
    if (integrity !== undefined && !integrity.split(/\s+/).includes(source.integrity)) {
      throw new IsthmusError(
        'pull/integrity',
        `${url} offers other contents than were recorded for ${source.name}@${source.version}. Nothing was downloaded.`,
        { details: { expected: source.integrity, offered: integrity } },
      );
    }
    return tarball;
  } catch (error) {
    throw asDownloadError(error, url, signal, timeout.signal.aborted);
  } finally {
    stopTimer();
  }
}

async function readText(response: Response, url: string): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of (response.body ?? []) as unknown as AsyncIterable<Uint8Array>) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > maxAnswerBytes) throw malformed(url);
  }
  return text;
}

function readDist(text: string, url: string): { tarball: string; integrity: string | undefined } {
  let dist: { tarball?: unknown; integrity?: unknown } | undefined;
  try {
    dist = (JSON.parse(text) as { dist?: typeof dist } | null)?.dist;
  } catch (cause) {
    throw malformed(url, cause);
  }
  const { tarball, integrity } = dist ?? {};
  if (typeof tarball !== 'string' || !/^https?:\/\//.test(tarball)) throw malformed(url);
  return { tarball, integrity: typeof integrity === 'string' ? integrity : undefined };
}

function malformed(url: string, cause?: unknown): IsthmusError {
  return new IsthmusError('pull/download-failed', `${url} does not answer as an npm registry does.`, {
    cause,
  });
}
