import { type Server as HttpServer, type IncomingMessage, ServerResponse } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { IsthmusError, maxControlBytes } from '@isthmus/core';
import { type WebSocket, WebSocketServer } from 'ws';

export type WebServer = HttpServer | HttpsServer;

export interface Routes {
  /** `path` is what follows the base, without a leading slash. */
  onRequest: (path: string, request: IncomingMessage, response: ServerResponse) => void;
  /** Whether one more WebSocket may be opened at all. */
  hasRoom: () => boolean;
  onSocket: (socket: WebSocket, request: IncomingMessage) => void;
}

/**
 * Takes what lies below `basePath` out of a server's traffic and leaves the rest alone, whatever other listeners
 * there are and whenever they were added: a server's listeners all hear every request, so ours must come before
 * they are asked.
 *
 * @returns a function that gives the path back.
 */
export function attachRoutes(server: WebServer, basePath: string, routes: Routes): () => void {
  const base = normalizeBase(basePath);
  const sockets = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    // A chunk and a control message both fit; what is longer is closed with 1009 before it is read.
    maxPayload: maxControlBytes,
    // Pongs are sent by hand, so that pings without end do not pile up pongs without end.
    autoPong: false,
  });
  let attached = true;
  const emit = server.emit;

  const intercept = function (this: WebServer, event: string | symbol, ...args: unknown[]): boolean {
    if (attached && isTraffic(event)) {
      const request = args[0] as IncomingMessage;
      const path = pathBelow(base, request.url);
      if (path !== undefined) {
        if (event === 'upgrade') upgrade(path, request, args[1] as Duplex, args[2] as Buffer);
        else routes.onRequest(path, request, args[1] as ServerResponse);
        return true;
      }
    }
    return Reflect.apply(emit, this, [event, ...args]) as boolean;
  };

  const upgrade = (path: string, request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    socket.on('error', () => socket.destroy());
    if (path !== '') refuseUpgrade(socket, '404 Not Found');
    else if (!routes.hasRoom()) refuseUpgrade(socket, '503 Service Unavailable');
    else sockets.handleUpgrade(request, socket, head, (webSocket) => routes.onSocket(webSocket, request));
  };

  // Node.js hands out upgrades only while somebody listens for them, and else takes them for plain requests. When
  // only we listen, those of others become plain requests again.
  const onForeignUpgrade = (request: IncomingMessage, socket: Duplex): void => {
    if (server.listenerCount('upgrade') > 1) return;
    const response = new ServerResponse(request);
    response.shouldKeepAlive = false;
    socket.on('error', () => socket.destroy());
    response.assignSocket(socket as Socket);
    response.on('finish', () => {
      response.detachSocket(socket as Socket);
      socket.end();
    });
    server.emit('request', request, response);
  };

  server.emit = intercept as typeof server.emit;
  server.on('upgrade', onForeignUpgrade);
  return () => {
    attached = false;
    server.off('upgrade', onForeignUpgrade);
    // Somebody may have wrapped it again; then ours only passes on.
    if (server.emit === (intercept as typeof server.emit)) server.emit = emit;
  };
}

function isTraffic(event: string | symbol): boolean {
  return event === 'request' || event === 'upgrade' || event === 'checkContinue';
}

/** @throws IsthmusError `usage/invalid` */
function normalizeBase(path: string): string {
  if (!/^(\/[A-Za-z0-9._~-]+)*\/?$/.test(path)) {
    throw new IsthmusError(
      'usage/invalid',
      `A receiver cannot be attached at "${path}"; use a path like /isthmus.`,
    );
  }
  return path.replace(/\/$/, '');
}

function pathBelow(base: string, url: string | undefined): string | undefined {
  const path = (url ?? '').split(/[?#]/, 1)[0]!;
  if (path === base || path === `${base}/`) return '';
  return path.startsWith(`${base}/`) ? path.slice(base.length + 1) : undefined;
}

function refuseUpgrade(socket: Duplex, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy());
}
