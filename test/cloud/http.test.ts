import { createServer, request as httpRequest, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { memoryBundle } from '@isthmus/cloud';
import { parseManifest, sha256Hex } from '@isthmus/core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { type Fixture, makeFixture } from '../support/fixture.js';
import { createStage } from '../support/receivers.js';
import { connectWire, encodeRequest, request } from '../support/wire-client.js';

let fixture: Fixture;
const stage = createStage();

beforeAll(async () => {
  fixture = await makeFixture();
});
afterEach(() => stage.clear());
afterAll(() => fixture.runtime.close());

// fetch() tidies paths up; this sends them as they are.
function rawStatus(base: string, path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(base);
    httpRequest({ hostname, port, path }, (response) => {
      response.resume();
      resolve(response.statusCode!);
    })
      .on('error', reject)
      .end();
  });
}

describe('HTTP resources', () => {
  it('are the bundle, byte for byte', async () => {
    const { http } = await stage.open(fixture);
    const { models } = (await (await fetch(`${http}/models`)).json()) as {
      models: { id: string; bundle: string; numBytes: number }[];
    };
    const numBytes = [...fixture.files].reduce(
      (sum, [path, bytes]) => sum + (path === 'manifest.json' ? 0 : bytes.byteLength),
      0,
    );
    expect(models).toEqual([{ id: 'two-heads', bundle: fixture.sha256, numBytes }]);
    const base = `${http}/models/two-heads`;
    const manifestText = await (await fetch(`${base}/manifest.json`)).text();
    expect(parseManifest(manifestText)).toEqual(fixture.manifest);
    for (const [path, bytes] of fixture.files) {
      const response = await fetch(`${base}/${path}`);
      const body = new Uint8Array(await response.arrayBuffer());
      expect(response.status).toBe(200);
      expect(body).toEqual(new Uint8Array(bytes));
      expect(response.headers.get('etag')).toBe(`"${await sha256Hex(body)}"`);
    }
  });

  it('come in parts, and not again when they are known', async () => {
    const { http } = await stage.open(fixture);
    const { path } = fixture.manifest.segments[1]!.file;
    const bytes = fixture.files.get(path)!;
    const url = `${http}/models/two-heads/${path}`;
    const whole = await fetch(url);
    await whole.arrayBuffer();
    const etag = whole.headers.get('etag')!;
    const length = bytes.byteLength;
    const parts: [Record<string, string>, number, number, number][] = [
      [{ range: 'bytes=10-19' }, 206, 10, 20],
      [{ range: 'bytes=10-' }, 206, 10, length],
      [{ range: 'bytes=-5' }, 206, length - 5, length],
      [{ range: `bytes=0-${length * 2}` }, 206, 0, length],
      [{ range: 'bytes=5-1' }, 200, 0, length],
      [{ range: 'bytes=0-1,4-5' }, 200, 0, length],
      [{ range: 'bytes=10-19', 'if-range': etag }, 206, 10, 20],
      [{ range: 'bytes=10-19', 'if-range': '"other"' }, 200, 0, length],
      [{ 'if-none-match': '"other"' }, 200, 0, length],
    ];
    for (const [headers, status, start, end] of parts) {
      const response = await fetch(url, { headers });
      expect(response.status).toBe(status);
      expect(new Uint8Array(await response.arrayBuffer())).toEqual(new Uint8Array(bytes.slice(start, end)));
      const range = status === 206 ? `bytes ${start}-${end - 1}/${length}` : null;
      expect(response.headers.get('content-range')).toBe(range);
    }
    for (const tags of [etag, `W/${etag}`, `"x", ${etag}`, '*']) {
      const response = await fetch(url, { headers: { 'if-none-match': tags } });
      expect([response.status, await response.text()]).toEqual([304, '']);
      expect(response.headers.get('etag')).toBe(etag);
    }
    const beyond = await fetch(url, { headers: { range: `bytes=${length}-` } });
    expect(beyond.status).toBe(416);
    expect(beyond.headers.get('content-range')).toBe(`bytes */${length}`);
    expect(await beyond.json()).toMatchObject({ code: 'usage/invalid' });
    const head = await fetch(url, { method: 'HEAD' });
    expect([head.status, await head.text(), head.headers.get('content-length')]).toEqual([
      200,
      '',
      `${length}`,
    ]);
  });

  it('are only what the manifest lists, by no other spelling', async () => {
    const { http } = await stage.open(fixture);
    for (const path of [
      '/models/two-heads/../two-heads/manifest.json',
      '/models/two-heads/%2e%2e/%2e%2e/etc/passwd',
      '/models/two-heads/segments/..%2f..%2fpackage.json',
      '/models/two-heads//etc/passwd',
      '/models/two-heads/segments',
      '/models/two-heads/segments%2f0.onnx',
      '/models/two-heads/',
      '/models/two-heads',
      '/models/',
      '/models/__proto__/manifest.json',
      '/metrics',
      '/elsewhere',
    ]) {
      expect([path, await rawStatus(http, path)]).toEqual([path, 404]);
    }
    const missing = await fetch(`${http}/models/other/manifest.json`);
    expect([missing.status, await missing.json()]).toMatchObject([404, { code: 'bundle/no-such-model' }]);
    const posted = await fetch(`${http}/models`, { method: 'POST', body: 'x' });
    expect([posted.status, posted.headers.get('allow')]).toEqual([405, 'GET, HEAD, OPTIONS']);
    expect((await fetch(http)).status).toBe(426);
  });

  it('ask for the token, except health', async () => {
    const { http } = await stage.open(fixture, { auth: ['secret'] });
    const url = `${http}/models/two-heads/manifest.json`;
    for (const headers of [{}, { authorization: 'Bearer wrong' }, { authorization: 'Basic secret' }]) {
      const response = await fetch(url, { headers });
      expect([response.status, response.headers.get('www-authenticate')]).toEqual([401, 'Bearer']);
      expect(await response.json()).toMatchObject({ code: 'auth/denied' });
    }
    expect((await fetch(url, { headers: { authorization: 'Bearer secret' } })).status).toBe(200);
    expect((await fetch(`${http}/health/live`)).status).toBe(200);
    expect((await fetch(`${http}/health/ready`)).status).toBe(200);
  });

  it('can be read by pages of allowed origins', async () => {
    const { http } = await stage.open(fixture, { allowedOrigins: ['https://shop.example.com'] });
    const url = `${http}/models`;
    const origin = 'https://shop.example.com';
    const allowed = await fetch(url, { headers: { origin } });
    expect([allowed.status, allowed.headers.get('access-control-allow-origin')]).toEqual([200, origin]);
    expect(allowed.headers.get('vary')).toBe('Origin');
    const preflight = await fetch(url, {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-headers': 'authorization' },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-headers')).toContain('Authorization');
    for (const method of ['GET', 'OPTIONS']) {
      const foreign = await fetch(url, { method, headers: { origin: 'https://evil.example' } });
      expect([foreign.status, await foreign.json()]).toMatchObject([403, { code: 'auth/origin' }]);
      expect(foreign.headers.get('access-control-allow-origin')).toBeNull();
    }
  });

  it('include metrics when asked to', async () => {
    const { http, connect } = await stage.open(fixture, { metrics: true });
    const client = await connect();
    await client.hello();
    await request(client, 1, await encodeRequest(fixture, 1), fixture.manifest);
    const response = await fetch(`${http}/metrics`);
    expect(response.headers.get('content-type')).toContain('text/plain');
    const text = await response.text();
    expect(text).toContain('isthmus_requests_total{model="two-heads",code="ok"} 1');
    expect(text).toContain('isthmus_connections 1');
  });

  it('that change under way are cut short, not passed off as whole', async () => {
    const files = new Map(fixture.files);
    const { path } = fixture.manifest.segments[0]!.file;
    const { http } = await stage.open(fixture, { bundles: [memoryBundle(files)] });
    files.set(path, files.get(path)!.subarray(1));
    await expect(
      fetch(`${http}/models/two-heads/${path}`).then((response) => response.arrayBuffer()),
    ).rejects.toThrow();
    files.delete(path);
    const gone = await fetch(`${http}/models/two-heads/${path}`);
    expect([gone.status, await gone.json()]).toMatchObject([500, { code: 'internal' }]);
  });
});

describe('attached to a server that has other things to do', () => {
  let server: Server;
  let base: string;
  afterEach(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  async function start(add: (server: Server) => void, attach: (server: Server) => void, first: boolean) {
    server = createServer();
    if (first) attach(server);
    add(server);
    if (!first) attach(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    base = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  for (const first of [true, false]) {
    it(`takes its own path and leaves the rest, attached ${first ? 'first' : 'last'}`, async () => {
      const { receiver } = await stage.open(fixture);
      const seen: string[] = [];
      const add = (target: Server): void => {
        // As express does: whatever is not known is answered with 404.
        target.on('request', (incoming, response) => {
          seen.push(incoming.url!);
          response.statusCode = incoming.url === '/app' ? 200 : 404;
          response.end('the app');
        });
        new WebSocketServer({ server: target, path: '/chat' }).on('connection', (socket) =>
          socket.send('welcome'),
        );
      };
      await start(add, (target) => receiver.attach(target, '/isthmus'), first);
      expect(await (await fetch(`http://${base}/app`)).text()).toBe('the app');
      expect((await fetch(`http://${base}/isthmusness`)).status).toBe(404);
      expect((await fetch(`http://${base}/isthmus/models`)).status).toBe(200);
      expect((await fetch(`http://${base}/isthmus/nothing`)).status).toBe(404);
      expect(seen).toEqual(['/app', '/isthmusness']);
      const client = await connectWire(`ws://${base}/isthmus`);
      await client.hello();
      await request(client, 1, await encodeRequest(fixture, 2), fixture.manifest);
      const chat = new WebSocket(`ws://${base}/chat`);
      expect(await new Promise((resolve) => chat.once('message', (data) => resolve(String(data))))).toBe(
        'welcome',
      );
      await expect(connectWire(`ws://${base}/isthmus/elsewhere`)).rejects.toThrow('404');
      await receiver.close();
      expect(await client.wait('closed')).toBeDefined();
      expect((await fetch(`http://${base}/app`)).status).toBe(200);
      expect((await fetch(`http://${base}/isthmus/models`)).status).toBe(404);
      expect(chat.readyState).toBe(WebSocket.OPEN);
      chat.terminate();
    });
  }

  it('leaves upgrades that only it listens for to the request handlers', async () => {
    const { receiver } = await stage.open(fixture);
    const add = (target: Server): void => {
      target.on('request', (incoming, response) => {
        response.statusCode = 418;
        response.end(incoming.headers.upgrade);
      });
    };
    await start(add, (target) => receiver.attach(target, '/isthmus'), true);
    await expect(connectWire(`ws://${base}/else`)).rejects.toThrow('418');
    const answer = await new Promise<string>((resolve) => {
      const headers = { connection: 'upgrade', upgrade: 'h2c' };
      httpRequest(`http://${base}/app`, { headers }, (response) => {
        response.once('data', (data) => resolve(`${response.statusCode} ${data}`));
      }).end();
    });
    expect(answer).toBe('418 h2c');
    expect(() => receiver.attach(server, 'isthmus/?x')).toThrow(
      expect.objectContaining({ code: 'usage/invalid' }),
    );
  });
});
