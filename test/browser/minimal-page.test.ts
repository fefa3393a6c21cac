import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  decodeRequestHeader,
  decodeResultPacket,
  type Manifest,
  requestHeaderBytes,
  type Tensor,
} from '@isthmus/core';
import { connect, createMemoryCache, type WebSocketLike } from '@isthmus/device';
import { pullPhotos, readManifest } from 'isthmus';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { launchBrowser } from '../support/browser.js';
import { type ExampleProcess, startExample } from '../support/example.js';
import { relativeDifference } from '../support/fixture.js';
import { type HttpProxy, startHttpProxy } from '../support/http-proxy.js';
import { isthmus, type ReceiverProcess, serve } from '../support/process.js';
import { packetsIn } from '../support/traffic.js';

// The page of examples/browser-minimal in a real browser, a receiver in a process of its own with the weights of
// mobilenet-v1, a photograph: what a user would do, held against the same in Node.
const model = 'mobilenet-v1';
const scoresName = 'MobilenetV1/Predictions/Reshape_1';
const files = { jpeg: 'boats.jpg', png: 'boats.png' };

let folder: string;
let manifest: Manifest;
let site: ExampleProcess;
let origin: string;
let receiver: ReceiverProcess;
let proxy: HttpProxy;
let browser: Browser;
let context: BrowserContext;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'isthmus-page-'));
  const { exitCode, stderr } = await isthmus(['split', model, '--out', join(folder, model)]);
  expect(exitCode, stderr).toBe(0);
  manifest = await readManifest(join(folder, model));
  const photos = await pullPhotos();
  const { bytes } = photos.find(({ name }) => name === 'nagasaki-boats.jpg')!;
  await writeFile(join(folder, files.jpeg), bytes);
  await sharp(bytes)
    .rotate()
    .toColourspace('srgb')
    .png({ compressionLevel: 1 })
    .toFile(join(folder, files.png));
  site = await startExample('browser-minimal', [], { PORT: '0' });
  origin = await site.line();
  receiver = await serve([join(folder, model), '--port', '0', '--origin', origin]);
  proxy = await startHttpProxy(receiver.port);
  browser = await launchBrowser();
});

beforeEach(async () => {
  context = await browser.newContext();
});

afterEach(async () => {
  await context?.close();
  proxy.damage = undefined;
  proxy.paths.length = 0;
});

afterAll(async () => {
  await browser?.close();
  await proxy?.close();
  await receiver?.stop();
  await site?.stop();
  await rm(folder, { recursive: true, force: true });
});

interface OpenPage {
  page: Page;
  /** What went over its WebSocket. */
  sent: Uint8Array[];
  received: Uint8Array[];
  /** Paths of what it fetched, from wherever. */
  fetched: string[];
}

async function openPage(from: string = origin): Promise<OpenPage> {
  const page = await context.newPage();
  const opened: OpenPage = { page, sent: [], received: [], fetched: [] };
  page.on('websocket', (socket) => {
    socket.on('framesent', ({ payload }) => opened.sent.push(payload as Buffer));
    socket.on('framereceived', ({ payload }) => opened.received.push(payload as Buffer));
  });
  page.on('request', (request) => opened.fetched.push(new URL(request.url()).pathname));
  await page.goto(`${from}/?receiver=ws://127.0.0.1:${proxy.port}&model=${model}`);
  await waitForOutput(page, /^(?!Connecting)/);
  return opened;
}

async function waitForOutput(page: Page, pattern: RegExp): Promise<string> {
  return (await page.locator('#output', { hasText: pattern }).textContent()) ?? '';
}

// Chooses a plan and a picture, as a hand would; gives what the page says. The page clears what it said before.
async function classify(page: Page, plan: string, file: string): Promise<string> {
  await page.locator('#picture').setInputFiles([]);
  await page.locator('#plan').selectOption(plan);
  await page.locator('#picture').setInputFiles(join(folder, file));
  return waitForOutput(page, new RegExp(`^${file}, ${plan}: `));
}

/** What one frame came to, in the page or in Node. */
interface Answer {
  label: string;
  payload: Uint8Array;
  scores: Tensor;
}

async function inPage({ page, sent, received }: OpenPage, plan: PlanCase, file: string): Promise<Answer> {
  const text = await classify(page, plan.name, file);
  const packet = packetsIn(sent, 'request').at(-1)!;
  const { from, to } = decodeRequestHeader(packet);
  expect({ from, to }, 'what the packet says').toEqual({ from: plan.cut, to: plan.cut });
  return {
    label: /: (.*) \(\d/.exec(text)?.[1] ?? text,
    payload: packet.subarray(requestHeaderBytes),
    scores: decodeResultPacket(packetsIn(received, 'result').at(-1)!, manifest)[scoresName]!,
  };
}

async function inNode({ codec, level, cut }: PlanCase, file: string): Promise<Answer> {
  const sent: Uint8Array[] = [];
  const session = await connect(receiver.url, {
    model,
    plan: { kind: 'split', from: cut, codec, level, to: cut },
    cache: createMemoryCache(),
    webSocket: (url) => recordSent(new WebSocket(url, { perMessageDeflate: false }), sent),
  });
  try {
    const { output, tensors } = await session.run(await readFile(join(folder, file)));
    if (output.kind !== 'classification') throw new Error(`Not a classification: ${output.kind}`);
    return {
      label: output.classes[0]!.label,
      payload: packetsIn(sent, 'request')[0]!.subarray(requestHeaderBytes),
      scores: tensors[scoresName]!,
    };
  } finally {
    await session.close();
  }
}

function recordSent(socket: WebSocket, sent: Uint8Array[]): WebSocketLike {
  const send = socket.send.bind(socket);
  return Object.assign(socket, {
    send(message: Uint8Array) {
      sent.push(message.slice());
      send(message);
    },
  }) as unknown as WebSocketLike;
}

interface PlanCase {
  name: string;
  cut: number;
  codec: string;
  level: number;
}

const wholePicture: PlanCase = { name: 'cut 0 · raw float32', cut: 0, codec: 'raw', level: 0 };
const rawFeatures: PlanCase = { name: 'cut 2 · raw float32', cut: 2, codec: 'raw', level: 0 };
const quantizedFeatures: PlanCase = { name: 'cut 4 · quantized 8-bit', cut: 4, codec: 'quantized', level: 0 };

const segmentPaths = (paths: readonly string[]): string[] =>
  paths.filter((path) => path.includes('/segments/'));

describe('a page in a browser', () => {
  it.each([
    ['JPEG', rawFeatures, files.jpeg],
    ['JPEG', quantizedFeatures, files.jpeg],
    ['PNG', rawFeatures, files.png],
    ['PNG', quantizedFeatures, files.png],
  ])('classifies a %s at $name as Node does', async (_, plan, file) => {
    const opened = await openPage();
    const page = await inPage(opened, plan, file);
    const node = await inNode(plan, file);
    expect(page.label).toBe(node.label);
    expect(relativeDifference(page.scores, node.scores)).toBeLessThan(1e-3);
    expect(opened.fetched).toContain('/ort-wasm-simd-threaded.wasm');
    expect(segmentPaths(proxy.paths)).toHaveLength(plan.cut);
  });

  it('sends the same bytes of a PNG as Node, where the cut is the picture itself', async () => {
    const page = await inPage(await openPage(), wholePicture, files.png);
    const node = await inNode(wholePicture, files.png);
    expect(Buffer.compare(page.payload, node.payload)).toBe(0);
    expect(page).toMatchObject({ label: node.label, scores: { data: node.scores.data } });
  });

  it('keeps segments for its next visit', async () => {
    const first = await inPage(await openPage(), rawFeatures, files.jpeg);
    expect(segmentPaths(proxy.paths)).toHaveLength(rawFeatures.cut);
    proxy.paths.length = 0;
    const second = await inPage(await openPage(), rawFeatures, files.jpeg);
    expect(segmentPaths(proxy.paths)).toEqual([]);
    expect(second.label).toBe(first.label);
  });

  it('refuses a segment that was changed on its way, and takes the right one afterwards', async () => {
    const { page, sent } = await openPage();
    proxy.damage = /\/segments\//;
    expect(await classify(page, rawFeatures.name, files.jpeg)).toContain('[bundle/hash-mismatch]');
    expect(packetsIn(sent, 'request')).toEqual([]);
    proxy.damage = undefined;
    expect(await classify(page, rawFeatures.name, files.jpeg)).toMatch(/ bytes, \d+ ms$/);
  });

  it('is not let in from an origin the receiver does not know', async () => {
    const { page } = await openPage(origin.replace('localhost', '127.0.0.1'));
    expect(await page.locator('#output').textContent()).toContain('[link/connect-failed]');
    expect(await page.locator('#picture').isDisabled()).toBe(true);
  });
});
