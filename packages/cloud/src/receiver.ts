import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  builtinCodecs,
  type CodecKind,
  createPictureCodecs,
  IsthmusError,
  type Runtime,
  systemClock,
} from '@isthmus/core';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { createSharpCoder } from '@isthmus/runtime/pictures';
import { pino } from 'pino';
import type { WebSocket } from 'ws';
import { drainingError, type Peer } from './admission.js';
import { createAuthorizer, createOriginCheck } from './auth.js';
import { ByteBudget } from './budget.js';
import { folderBundle, openBundle } from './bundle-store.js';
import { Connection } from './connection.js';
import type { ReceiverContext } from './context.js';
import { serveHttp } from './http.js';
import { createMetrics, type ReceiverStats } from './metrics.js';
import { type ServedModel, serveModel } from './model.js';
import { type ReceiverOptions, resolveLimits } from './options.js';
import { RequestScheduler } from './scheduler.js';
import { attachRoutes, type Routes, type WebServer } from './server.js';
import { SessionStore } from './sessions.js';
import { SpanPool } from './spans.js';

// Connections above the limit are let in for as long as it takes to tell them so; beyond these, not even that.
const refusalRoom = 64;
// TCP connections a server of our own takes for downloads, besides those of WebSockets.
const httpRoom = 256;
const defaultDrainMs = 30_000;
const defaultSpanBytes = 2 ** 31;

/** The cloud's half of a split model. */
export interface Receiver {
  /** Names of the models it serves. */
  readonly models: readonly string[];
  /**
   * Serves on a server of its own, with the WebSocket at `/`.
   *
   * @param host `'0.0.0.0'` or `'::'` to be reached from elsewhere. @default '127.0.0.1'
   * @returns the port, which is chosen for you if 0 was asked for, and the URL for `connect()`.
   * @throws IsthmusError `receiver/listen-failed`
   */
  listen(port: number, host?: string): Promise<{ port: number; url: string }>;
  /**
   * Serves below `path` of a server that exists, and leaves everything else to it.
   *
   * @throws IsthmusError `usage/invalid` if the path is not one.
   */
  attach(server: WebServer, path: string): void;
  /**
   * Finishes what is under way, refuses what is new (`receiver/draining`), and closes: for SIGTERM.
   *
   * @param timeoutMs After which what is left is cut off. @default 30_000
   */
  drain(timeoutMs?: number): Promise<void>;
  /** Closes everything now; idempotent. Servers it was attached to go on. */
  close(): Promise<void>;
  stats(): ReceiverStats;
}

/**
 * A receiver of the bundles given. Every file is verified; spans are loaded when they are first asked for.
 *
 * @throws IsthmusError `bundle/*` for a bundle that is missing or broken, `usage/invalid` for options that cannot
 * be.
 *
 * @example
 * ```ts
 * const receiver = await createReceiver({ bundles: ['./bundles/mobilenet-v1'], auth: [process.env.TOKEN!] });
 * const { url } = await receiver.listen(8787, '0.0.0.0');
 * process.once('SIGTERM', () => receiver.drain());
 * ```
 */
export async function createReceiver(options: ReceiverOptions): Promise<Receiver> {
  const limits = resolveLimits(options.limits);
  const authorize = createAuthorizer(options.auth);
  const isOriginAllowed = createOriginCheck(options.allowedOrigins);
  const { clock = systemClock, codecs = defaultCodecs(), concurrency = 2 } = options;
  if (!Number.isSafeInteger(concurrency) || concurrency < 1) {
    throw new IsthmusError(
      'usage/invalid',
      `concurrency must be a positive whole number, not ${concurrency}.`,
    );
  }
  const log = options.logger ?? pino({ level: 'silent' });
  const runtime = options.runtime ?? createNodeRuntime();
  const ownsRuntime = options.runtime === undefined;
  let models: ReadonlyMap<string, ServedModel>;
  try {
    models = await openModels(options, runtime, codecs, log);
  } catch (error) {
    if (ownsRuntime) await runtime.close();
    throw error;
  }

  const connections = new Map<WebSocket, { connection: Connection; address: string }>();
  const detachers: (() => void)[] = [];
  const ownServers: WebServer[] = [];
  let draining = false;
  let closed: Promise<void> | undefined;
  let onEmpty: (() => void) | undefined;

  const spans = new SpanPool({
    runtime,
    maxBytes: options.maxSpanBytes ?? defaultSpanBytes,
    onLoad: (bundle, span) =>
      log.info({ model: bundle.manifest.model, from: span.from, to: span.to }, 'span loaded'),
  });
  const budget = new ByteBudget(limits.pendingBytes);
  const scheduler = new RequestScheduler({
    clock,
    spans,
    concurrency,
    queueLength: limits.queueLength,
    onFailure: (error, model) =>
      log.error({ err: error, code: error.code, model: model.id }, 'request failed'),
  });
  const sessions = new SessionStore({ clock, limits, scheduler });
  const metrics = createMetrics(() => stats());
  const context: ReceiverContext = {
    clock,
    log,
    limits,
    models,
    authorize,
    isOriginAllowed,
    budget,
    scheduler,
    sessions,
    metrics,
    exposeMetrics: options.metrics ?? false,
    isDraining: () => draining,
  };

  const stats = (): ReceiverStats => {
    const kept = sessions.stats;
    const { runs, ...loaded } = spans.stats;
    return {
      draining,
      connections: connections.size,
      sessions: kept.sessions,
      detachedSessions: kept.detached,
      ...metrics.counts,
      runs,
      waiting: scheduler.numWaiting,
      running: scheduler.numRunning,
      pendingBytes: budget.usedBytes,
      keptResults: kept.keptResults,
      keptResultBytes: kept.keptBytes,
      spans: loaded,
    };
  };

  const routes: Routes = {
    onRequest: (path, request, response) => {
      void serveHttp(path, request, response, context);
    },
    hasRoom: () => connections.size < limits.connections + refusalRoom,
    onSocket: (socket, request) => {
      const peer = describePeer(request);
      const sameAddress = [...connections.values()].filter(({ address }) => address === peer.address).length;
      const connection = new Connection(socket, peer, context);
      connections.set(socket, { connection, address: peer.address });
      socket.on('close', () => {
        connections.delete(socket);
        if (connections.size === 0) onEmpty?.();
      });
      if (draining) connection.fail(drainingError());
      else if (
        connections.size > limits.connections ||
        (limits.connectionsPerAddress > 0 && sameAddress >= limits.connectionsPerAddress)
      ) {
        connection.fail(
          new IsthmusError('limit/connections', 'Too many connections. Close others, or try again later.', {
            retryable: true,
          }),
        );
      }
    },
  };

  const closeAll = async (): Promise<void> => {
    draining = true;
    for (const { connection } of connections.values()) connection.terminate();
    for (const detach of detachers) detach();
    sessions.close();
    await Promise.all(
      ownServers.map(
        (server) =>
          new Promise<void>((resolve) => {
            server.close(() => resolve());
            server.closeAllConnections();
          }),
      ),
    );
    await spans.close();
    if (ownsRuntime) await runtime.close();
  };

  const receiver: Receiver = {
    models: [...models.keys()],
    async listen(port, host = '127.0.0.1') {
      if (draining) throw drainingError();
      const server = createServer();
      server.maxConnections = limits.connections + refusalRoom + httpRoom;
      detachers.push(attachRoutes(server, '/', routes));
      const address = await listenOn(server, port, host);
      ownServers.push(server);
      server.on('error', (error) => log.error({ err: error }, 'http server error'));
      const url = `ws://${host.includes(':') ? `[${host}]` : host}:${address.port}`;
      log.info({ url, models: [...models.keys()] }, 'listening');
      return { port: address.port, url };
    },
    attach(server, path) {
      if (draining) throw drainingError();
      detachers.push(attachRoutes(server, path, routes));
    },
    async drain(timeoutMs = defaultDrainMs) {
      if (closed !== undefined) return closed;
      draining = true;
      log.info({ connections: connections.size }, 'draining');
      const empty = new Promise<void>((resolve) => {
        onEmpty = resolve;
        if (connections.size === 0) resolve();
      });
      for (const { connection } of connections.values()) connection.drain();
      let cancelTimer = (): void => {};
      const late = new Promise<void>((resolve) => {
        cancelTimer = clock.after(timeoutMs, resolve);
      });
      await Promise.race([empty, late]);
      cancelTimer();
      await receiver.close();
    },
    close() {
      closed ??= closeAll();
      return closed;
    },
    stats,
  };
  return receiver;
}

function defaultCodecs(): readonly CodecKind[] {
  return [...builtinCodecs, ...createPictureCodecs(createSharpCoder())];
}

async function openModels(
  options: ReceiverOptions,
  runtime: Runtime,
  codecs: NonNullable<ReceiverOptions['codecs']>,
  log: ReceiverContext['log'],
): Promise<Map<string, ServedModel>> {
  if (options.bundles.length === 0) {
    throw new IsthmusError('usage/invalid', 'A receiver needs at least one bundle to serve.');
  }
  const models = new Map<string, ServedModel>();
  for (const source of options.bundles) {
    const bundle = await openBundle(typeof source === 'string' ? folderBundle(source) : source);
    const model = await serveModel(bundle, codecs, runtime, (entry, reason) =>
      log.warn({ model: bundle.manifest.model, codec: entry.id, kind: entry.kind, reason }, 'codec left out'),
    );
    if (models.has(model.id)) {
      throw new IsthmusError(
        'usage/invalid',
        `Two bundles hold a model called ${model.id}; the second is in ${bundle.source.location}.`,
      );
    }
    models.set(model.id, model);
  }
  return models;
}

function describePeer({ socket, headers }: IncomingMessage): Peer {
  return { address: socket.remoteAddress ?? '', origin: headers.origin, host: headers.host };
}

function listenOn(server: WebServer, port: number, host: string): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    const onError = (cause: NodeJS.ErrnoException): void => {
      reject(
        new IsthmusError('receiver/listen-failed', listenMessage(cause, port, host), {
          cause,
          details: { port, host },
        }),
      );
    };
    server.once('error', onError);
    try {
      server.listen(port, host, () => {
        server.off('error', onError);
        resolve(server.address() as AddressInfo);
      });
    } catch (error) {
      onError(error as NodeJS.ErrnoException);
    }
  });
}

function listenMessage(error: NodeJS.ErrnoException, port: number, host: string): string {
  if (error.code === 'EADDRINUSE') {
    return `Port ${port} on ${host} is in use. Stop the program that uses it, choose another port, or 0 for any.`;
  }
  if (error.code === 'EACCES') return `Port ${port} needs more rights. Choose one above 1023.`;
  if (error.code === 'EADDRNOTAVAIL' || error.code === 'ENOTFOUND') {
    return `This machine has no address ${host}. Use 127.0.0.1, or 0.0.0.0 for all addresses.`;
  }
  return `The receiver cannot listen on ${host}:${port}: ${error.message}`;
}
