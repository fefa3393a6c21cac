import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** A real HTTP server on loopback that answers request after request by the given script, then by its last entry. */
export interface FileServer {
  url: string;
  /** Path and range of every request so far. */
  requests: { path: string; range: string | undefined }[];
  /** Breaks every connection; the server goes on listening. */
  breakConnections(): void;
  close(): Promise<void>;
}

export async function startFileServer(...script: readonly Answer[]): Promise<FileServer> {
  const requests: FileServer['requests'] = [];
  const server = createServer((request, response) => {
    const answer = script[Math.min(requests.length, script.length - 1)]!;
    requests.push({ path: request.url ?? '', range: request.headers.range });
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    breakConnections: () => server.closeAllConnections(),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** The file, or the part of it that the request asks for. */
export function whole(content: Uint8Array, { ranges = true } = {}): Answer {
  return (request, response) => {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    if (ranges && from > 0) {
      response.writeHead(206, {
        'content-length': content.length - from,
        'content-range': `bytes ${from}-${content.length - 1}/${content.length}`,
      });
      response.end(content.subarray(from));
    } else {
      response.writeHead(200, {
        'content-length': content.length,
        ...(ranges && { 'accept-ranges': 'bytes' }),
      });
      response.end(content);
    }
  };
}

/** Announces all of the file, sends the next `numBytes` and then nothing more. */
export function hanging(content: Uint8Array, numBytes: number, { ranges = true } = {}): Answer {
  return (request, response) => {
    const from = ranges ? Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0) : 0;
    response.writeHead(from > 0 ? 206 : 200, {
      'content-length': content.length - from,
      ...(ranges && { 'accept-ranges': 'bytes' }),
      ...(from > 0 && { 'content-range': `bytes ${from}-${content.length - 1}/${content.length}` }),
    });
    response.write(content.subarray(from, from + numBytes));
  };
}

/** Breaks the connection before any answer. */
export const reset: Answer = (request) => {
  request.socket.resetAndDestroy();
};

export function status(code: number): Answer {
  return (_request, response) => {
    response.writeHead(code).end();
  };
}
