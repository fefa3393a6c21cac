import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createManualClock } from '@isthmus/core';
import { expect, test } from 'vitest';
import { createEnding } from './ending.js';
import { createHttpGet, receiverUrls } from './http.js';

test.each([
  ['wss://edge.example.com', 'wss://edge.example.com/', 'https://edge.example.com/'],
  ['ws://localhost:8787/', 'ws://localhost:8787/', 'http://localhost:8787/'],
  ['https://example.com/isthmus', 'wss://example.com/isthmus', 'https://example.com/isthmus/'],
  ['http://example.com/a/b/#x', 'ws://example.com/a/b/', 'http://example.com/a/b/'],
])('%s is the socket %s and the resources %s', (url, socketUrl, baseUrl) => {
  expect(receiverUrls(url)).toEqual({ socketUrl, baseUrl });
});

test.each(['', 'localhost:8787', '//x', 'file:///etc'])('%j is not an address', (url) => {
  expect(() => receiverUrls(url)).toThrowError(expect.objectContaining({ code: 'usage/invalid' }));
});

test('a transfer that stands still is given up; one that goes on is not', async () => {
  const clock = createManualClock();
  let socket: ServerResponse | undefined;
  const server = createServer((_, response) => {
    socket = response;
    response.write('x');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const get = createHttpGet({
    baseUrl,
    token: null,
    fetch,
    clock,
    stallTimeoutMs: 1000,
    ending: createEnding(),
  });
  const fetchUntil = async (numBytes: number): Promise<Promise<Uint8Array>[]> => {
    let transfer: Promise<Uint8Array> | undefined;
    await new Promise<void>((resolve) => {
      transfer = get('', { maxBytes: 100, onProgress: (received) => received === numBytes && resolve() });
      transfer.catch(() => {});
    });
    return [transfer!];
  };
  const [slow] = await fetchUntil(1);
  clock.advance(999);
  socket!.end('y');
  expect(await slow).toEqual(new TextEncoder().encode('xy'));

  const [stuck] = await fetchUntil(1);
  clock.advance(1000);
  await expect(stuck).rejects.toMatchObject({ code: 'link/connect-failed' });
  await expect(get('', { maxBytes: 0 })).rejects.toMatchObject({ code: 'wire/too-large' });
  server.closeAllConnections();
  server.close();
});
