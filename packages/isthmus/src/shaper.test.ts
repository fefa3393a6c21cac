import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { createManualClock } from '@isthmus/core';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { createLinkTrace } from './link-bench/trace.js';
import { createShaper, followTrace, type Shaper, type ShaperOptions } from './shaper.js';

const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

// A server that counts what it gets and sends it back.
async function startEcho(): Promise<{ port: number; received: () => number }> {
  let numBytes = 0;
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('data', (data) => {
      numBytes += data.length;
      socket.write(data);
    });
    socket.on('error', () => socket.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  open.push({
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  });
  return { port: (server.address() as AddressInfo).port, received: () => numBytes };
}

async function startShaper(options: Omit<ShaperOptions, 'target'>) {
  const echo = await startEcho();
  const shaper: Shaper = await createShaper({ ...options, target: { host: '127.0.0.1', port: echo.port } });
  open.push(shaper);
  const client = connect(shaper.port, '127.0.0.1');
  client.on('error', () => {});
  await once(client, 'connect');
  open.push({ close: () => client.destroy() });
  return { echo, shaper, client };
}

describe('shaper', () => {
  it('lets through what the rate allows, after the delay, and not more', async () => {
    const clock = createManualClock();
    const { echo, shaper, client } = await startShaper({ uplink: { rateBps: 800_000, delayMs: 50 }, clock });
    client.write(new Uint8Array(10_000));
    await vi.waitFor(() => expect(shaper.numBytes.up).toBe(10_000));
    expect(echo.received()).toBe(0);
    // 100 bytes a millisecond: the first piece of 1448 has left after 14.48 ms and arrives 50 ms later.
    clock.advance(64);
    expect(echo.received()).toBe(0);
    clock.advance(1);
    await vi.waitFor(() => expect(echo.received()).toBe(1448));
    clock.advance(30);
    await vi.waitFor(() => expect(echo.received()).toBe(3 * 1448));
    clock.advance(55);
    await vi.waitFor(() => expect(echo.received()).toBe(10_000));
  });

  it('holds no more than its queue, and everything comes out in order', async () => {
    const clock = createManualClock();
    const { shaper, client } = await startShaper({
      uplink: { rateBps: 8e6, delayMs: 0 },
      downlink: { rateBps: Infinity, delayMs: 0 },
      queueBytes: 20_000,
      clock,
    });
    const sent = Uint8Array.from({ length: 500_000 }, (_, i) => (i * 31) >> 3);
    const back: Buffer[] = [];
    client.on('data', (data) => back.push(data));
    client.write(sent);
    await vi.waitFor(() => expect(shaper.numBytes.up).toBeGreaterThan(0));
    // One read may overshoot; the rest waits in the sender.
    expect(shaper.numBytes.up).toBeLessThan(20_000 + 65_536 + 1);
    await vi.waitFor(
      () => {
        clock.advance(5);
        expect(Buffer.concat(back).length).toBe(sent.length);
      },
      { interval: 1, timeout: 20_000 },
    );
    expect(Buffer.compare(Buffer.concat(back), sent)).toBe(0);
  });

  it('changes its rate while data is under way', async () => {
    const clock = createManualClock();
    const { echo, shaper, client } = await startShaper({ uplink: { rateBps: 8, delayMs: 0 }, clock });
    client.write(new Uint8Array(100));
    await vi.waitFor(() => expect(shaper.numBytes.up).toBe(100));
    shaper.setUplink({ rateBps: 8e6, delayMs: 0 });
    client.write(new Uint8Array(1000));
    await vi.waitFor(() => expect(shaper.numBytes.up).toBe(1100));
    clock.advance(2);
    // All of it, and in order: what waits goes on at the new rate.
    await vi.waitFor(() => expect(echo.received()).toBe(1100));
  });

  it('stands still at a rate of nothing, and goes on where it was', async () => {
    const clock = createManualClock();
    const { shaper, client } = await startShaper({
      uplink: { rateBps: 0, delayMs: 20 },
      downlink: { rateBps: Infinity, delayMs: 0 },
      clock,
    });
    const sent = Uint8Array.from({ length: 20_000 }, (_, i) => (i * 31) >> 3);
    const back: Buffer[] = [];
    client.on('data', (data) => back.push(data));
    client.write(sent);
    await vi.waitFor(() => expect(shaper.numBytes.up).toBe(20_000));
    clock.advance(10_000);
    for (const [rateBps, delayMs] of [
      [8e5, 500],
      [0, 0],
      [8e6, 0],
    ] as const) {
      shaper.setUplink({ rateBps, delayMs });
      clock.advance(30);
    }
    expect(back).toEqual([]);
    clock.advance(500);
    await vi.waitFor(() => expect(Buffer.concat(back).length).toBe(sent.length));
    expect(Buffer.compare(Buffer.concat(back), sent)).toBe(0);
  });

  it('follows a trace', async () => {
    const clock = createManualClock();
    const { echo, shaper, client } = await startShaper({ uplink: { rateBps: 8, delayMs: 0 }, clock });
    clock.advance(1000);
    const segments = [
      { durationMs: 100, rateBps: 0 },
      { durationMs: 100, rateBps: 1448 * 80 },
    ];
    followTrace(shaper, createLinkTrace({ name: 'on and off', kind: 'test', segments, delayMs: 5 }), clock);
    client.write(new Uint8Array(2 * 1448));
    await vi.waitFor(() => expect(shaper.numBytes.up).toBe(2 * 1448));
    clock.advance(204);
    expect(echo.received()).toBe(0);
    clock.advance(1);
    await vi.waitFor(() => expect(echo.received()).toBe(1448));
    clock.advance(199);
    expect(echo.received()).toBe(1448);
    clock.advance(1);
    await vi.waitFor(() => expect(echo.received()).toBe(2 * 1448));
  });

  it('cuts every connection, refuses new ones, and can be restored', async () => {
    const { shaper, client } = await startShaper({ uplink: { rateBps: Infinity, delayMs: 0 } });
    shaper.cut();
    await once(client, 'close');
    const refused = connect(shaper.port, '127.0.0.1');
    refused.on('error', () => {});
    await once(refused, 'close');
    shaper.restore();
    const again = connect(shaper.port, '127.0.0.1');
    open.push({ close: () => again.destroy() });
    again.write('hello');
    const [data] = (await once(again, 'data')) as [Buffer];
    expect(data.toString()).toBe('hello');
  });

  it('does not lose the end of what was sent before the sender hung up', async () => {
    const { echo, client } = await startShaper({ uplink: { rateBps: 8e6, delayMs: 20 } });
    client.end(new Uint8Array(50_000));
    await vi.waitFor(() => expect(echo.received()).toBe(50_000), { timeout: 10_000 });
  });
});
