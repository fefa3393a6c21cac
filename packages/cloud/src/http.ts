import type { IncomingMessage, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type ErrorCode, type FileRef, IsthmusError, toIsthmusError } from '@isthmus/core';
import { findModel } from './admission.js';
import type { Bundle } from './bundle-store.js';
import { publicMessage, type ReceiverContext } from './context.js';
import { parseRange } from './range.js';

const statusOf: Partial<Record<ErrorCode, number>> = {
  'auth/denied': 401,
  'auth/origin': 403,
  'bundle/no-such-model': 404,
  'bundle/not-found': 404,
  'receiver/draining': 503,
};

/** The resources of docs/protocol.md. `path` is the URL's path below the base, without a leading slash. */
export async function serveHttp(
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
  context: ReceiverContext,
): Promise<void> {
  // A reader that stops reading does not hold a file open for ever.
  response.setTimeout(context.limits.idleTimeoutMs, () => response.destroy());
  try {
    await answer(path, request, response, context);
  } catch (cause) {
    const error = toIsthmusError(cause, 'internal', 'The receiver failed');
    if (response.destroyed || response.headersSent) {
      context.log.debug({ err: error, path }, 'http answer cut short');
      response.destroy();
      return;
    }
    const status = statusOf[error.code] ?? 500;
    if (status === 500) context.log.error({ err: error, path }, 'http request failed');
    if (status === 401) response.setHeader('WWW-Authenticate', 'Bearer');
    sendError(response, request, status, error.code, publicMessage(error));
  }
}

async function answer(
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
  context: ReceiverContext,
): Promise<void> {
  // Probes come from the inside and are told nothing but yes or no.
  if (path === 'health/live') return sendJson(response, request, 200, { status: 'live' });
  if (path === 'health/ready') {
    const ready = !context.isDraining();
    return sendJson(response, request, ready ? 200 : 503, { status: ready ? 'ready' : 'draining' });
  }
  const isPreflight = request.method === 'OPTIONS';
  allowOrigin(request, response, context, isPreflight);
  if (isPreflight) {
    response.writeHead(204).end();
    return;
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('Allow', 'GET, HEAD, OPTIONS');
    sendError(response, request, 405, 'usage/invalid', 'Resources can only be read.');
    return;
  }
  const [, modelId = null, filePath] = /^models\/([^/]+)\/(.+)$/.exec(path) ?? [];
  await checkToken(request, modelId, context);
  if (path === 'models') return sendJson(response, request, 200, listModels(context));
  if (path === 'metrics' && context.exposeMetrics) {
    const { contentType, text } = await context.metrics.render();
    response.setHeader('Content-Type', contentType);
    return sendBytes(response, request, 200, Buffer.from(text));
  }
  if (path === '') {
    response.setHeader('Upgrade', 'websocket');
    sendError(
      response,
      request,
      426,
      'usage/invalid',
      'This address speaks WebSocket; see docs/protocol.md.',
    );
    return;
  }
  if (modelId === null || filePath === undefined) throw notFound(path);
  const { bundle } = findModel(modelId, context);
  await sendFile(bundle, filePath, request, response);
}

function allowOrigin(
  request: IncomingMessage,
  response: ServerResponse,
  context: ReceiverContext,
  isPreflight: boolean,
): void {
  const { origin, host } = request.headers;
  response.setHeader('Vary', 'Origin');
  if (origin === undefined) return;
  if (!context.isOriginAllowed(origin, host)) {
    throw new IsthmusError('auth/origin', 'Pages of this origin may not read here.');
  }
  response.setHeader('Access-Control-Allow-Origin', origin);
  response.setHeader('Access-Control-Expose-Headers', 'ETag, Content-Range, Accept-Ranges, Content-Length');
  if (!isPreflight) return;
  response.setHeader('Access-Control-Allow-Methods', 'GET, HEAD');
  response.setHeader('Access-Control-Allow-Headers', 'Authorization, Range, If-None-Match, If-Range');
  response.setHeader('Access-Control-Max-Age', '600');
}

async function checkToken(
  request: IncomingMessage,
  model: string | null,
  context: ReceiverContext,
): Promise<void> {
  const token = /^Bearer +(.+?) *$/i.exec(request.headers.authorization ?? '')?.[1] ?? null;
  const address = request.socket.remoteAddress ?? '';
  let allowed = false;
  try {
    const origin = request.headers.origin ?? null;
    allowed = await context.authorize(token, { via: 'http', address, origin, model });
  } catch (error) {
    context.log.error({ err: error }, 'the auth function failed; access is denied');
  }
  if (!allowed) throw new IsthmusError('auth/denied', 'This receiver needs another token.');
}

function listModels({ models }: ReceiverContext): unknown {
  return {
    models: [...models.values()].map(({ id, bundle }) => ({
      id,
      bundle: bundle.sha256,
      numBytes: bundle.numBytes,
    })),
  };
}

// Only what the manifest lists can be read, and by no other spelling: there is no path to get wrong.
async function sendFile(
  bundle: Bundle,
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const isManifest = path === 'manifest.json';
  const file: FileRef | undefined = isManifest
    ? { path, numBytes: bundle.manifestBytes.byteLength, sha256: bundle.sha256 }
    : bundle.files.get(path);
  if (file === undefined) throw notFound(path);
  const etag = `"${file.sha256}"`;
  response.setHeader('ETag', etag);
  response.setHeader('Accept-Ranges', 'bytes');
  // Always asked for again, and then usually not sent again: another bundle may come to lie at this address.
  response.setHeader('Cache-Control', 'no-cache');
  if (matches(request.headers['if-none-match'], etag)) {
    response.writeHead(304).end();
    return;
  }
  const ifRange = request.headers['if-range'];
  const wanted = ifRange === undefined || ifRange === etag ? request.headers.range : undefined;
  const range = parseRange(wanted, file.numBytes);
  if (range === 'unsatisfiable') {
    response.setHeader('Content-Range', `bytes */${file.numBytes}`);
    sendError(response, request, 416, 'usage/invalid', `The file has ${file.numBytes} bytes.`);
    return;
  }
  const { start, end } = range ?? { start: 0, end: file.numBytes };
  if (range !== undefined) {
    response.setHeader('Content-Range', `bytes ${start}-${end - 1}/${file.numBytes}`);
  }
  response.setHeader('Content-Type', isManifest ? 'application/json' : 'application/octet-stream');
  response.setHeader('Content-Length', end - start);
  const status = range === undefined ? 200 : 206;
  if (request.method === 'HEAD') {
    response.writeHead(status).end();
    return;
  }
  if (isManifest) {
    response.writeHead(status).end(bundle.manifestBytes.subarray(start, end));
    return;
  }
  const body = readPart(bundle, path, start, end);
  const first = await body.next();
  response.writeHead(status);
  await pipeline(Readable.from(prepend(first, body), { objectMode: false }), response);
}

async function* readPart(
  bundle: Bundle,
  path: string,
  start: number,
  end: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  let numBytes = 0;
  try {
    for await (const part of bundle.source.read(path, start, end)) {
      numBytes += part.byteLength;
      if (numBytes > end - start) break;
      yield part;
    }
  } catch (cause) {
    throw new IsthmusError('internal', `${path} in ${bundle.source.location} cannot be read.`, { cause });
  }
  if (numBytes !== end - start) {
    throw new IsthmusError('internal', `${path} in ${bundle.source.location} has changed its length.`);
  }
}

async function* prepend(
  first: IteratorResult<Uint8Array, void>,
  rest: AsyncGenerator<Uint8Array, void, undefined>,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (first.done !== true) yield first.value;
  yield* rest;
}

function matches(ifNoneMatch: string | undefined, etag: string): boolean {
  const tags = ifNoneMatch?.split(',').map((tag) => tag.trim().replace(/^W\//, '')) ?? [];
  return tags.includes(etag) || tags.includes('*');
}

function notFound(path: string): IsthmusError {
  return new IsthmusError('bundle/not-found', `There is no ${path.slice(0, 200)} here.`);
}

function sendError(
  response: ServerResponse,
  request: IncomingMessage,
  status: number,
  code: ErrorCode,
  message: string,
): void {
  response.removeHeader('ETag');
  sendJson(response, request, status, { code, message });
}

function sendJson(response: ServerResponse, request: IncomingMessage, status: number, value: unknown): void {
  response.setHeader('Content-Type', 'application/json');
  response.setHeader('Cache-Control', 'no-cache');
  sendBytes(response, request, status, Buffer.from(JSON.stringify(value)));
}

function sendBytes(
  response: ServerResponse,
  request: IncomingMessage,
  status: number,
  bytes: Uint8Array,
): void {
  response.setHeader('Content-Length', bytes.byteLength);
  response.writeHead(status).end(request.method === 'HEAD' ? undefined : bytes);
}
