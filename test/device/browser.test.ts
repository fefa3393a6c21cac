import { readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { createReceiver, memoryBundle, type Receiver } from '@isthmus/cloud';
import { connect, createMemoryCache, type Plan } from '@isthmus/device';
import chromium from '@sparticuz/chromium';
import { build } from 'esbuild';
import { type Browser, type Page, chromium as playwright } from 'playwright-core';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Fixture, makeFixture, relativeDifference } from '../support/fixture.js';
import { withManifest } from '../support/restartable.js';

const ortFolder = new URL('../../node_modules/onnxruntime-web/dist/', import.meta.url);
const [width, height] = [40, 30];
// Opaque, since a canvas does not keep the colour of what is transparent.
const pixels = Uint8ClampedArray.from({ length: 4 * width * height }, (_, i) =>
  i % 4 === 3 ? 255 : (i * 41) % 256,
);

// What a page would write: every kind of picture there is, at the plan asked for.
const pageScript = `
  import { connect } from '@isthmus/device';
  import { createWebRuntime } from '@isthmus/runtime/web';
  const [width, height] = [${width}, ${height}];
  const image = new ImageData(Uint8ClampedArray.from(${JSON.stringify([...pixels])}), width, height);
  const canvas = Object.assign(document.createElement('canvas'), { width, height });
  canvas.getContext('2d').putImageData(image, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
  const element = new Image();
  element.src = URL.createObjectURL(blob);
  await element.decode();
  const offscreen = new OffscreenCanvas(width, height);
  offscreen.getContext('2d').drawImage(canvas, 0, 0);
  const frames = {
    ImageData: () => image,
    HTMLCanvasElement: () => canvas,
    OffscreenCanvas: () => offscreen,
    ImageBitmap: () => createImageBitmap(image),
    Blob: () => blob,
    HTMLImageElement: () => element,
    VideoFrame: () => new VideoFrame(canvas, { timestamp: 0 }),
    pixels: () => ({ data: image.data, width, height }),
    broken: () => blob.slice(0, 40),
    unloaded: () => new Image(),
  };
  globalThis.runFrame = async (kind, plan) => {
    const runtime = createWebRuntime({ executionProviders: ['wasm'], wasmPaths: '/ort/' });
    const session = await connect(location.origin + '/isthmus', { model: 'two-heads', runtime, plan });
    const sources = new Set();
    session.on('segment', ({ source }) => sources.add(source));
    try {
      const { tensors, plan } = await session.run(await frames[kind]());
      return { plan, scores: Array.from(tensors.scores.data), sources: [...sources] };
    } catch (error) {
      return { code: error.code };
    } finally {
      await session.close();
    }
  };`;

let fixture: Fixture;
let receiver: Receiver;
let server: Server;
let origin: string;
let browser: Browser;
let page: Page;

beforeAll(async () => {
  fixture = await makeFixture();
  const files = withManifest(fixture, {
    preprocess: {
      width: 32,
      height: 32,
      colorOrder: 'rgb',
      fit: 'cover',
      mean: [127, 127, 127],
      std: [128, 128, 128],
    },
  });
  receiver = await createReceiver({ bundles: [memoryBundle(files)], runtime: fixture.runtime });
  const { outputFiles } = await build({
    stdin: { contents: pageScript, resolveDir: fileURLToPath(new URL('.', import.meta.url)) },
    bundle: true,
    format: 'esm',
    write: false,
    logLevel: 'silent',
  });
  const script = outputFiles[0]!.text;
  server = createServer(async (request, response) => {
    const path = request.url ?? '/';
    if (path === '/')
      response.setHeader('content-type', 'text/html').end('<script type="module" src="/page.js"></script>');
    else if (path === '/page.js') response.setHeader('content-type', 'text/javascript').end(script);
    else if (/^\/ort\/[\w.-]+$/.test(path)) {
      response.setHeader('content-type', path.endsWith('.wasm') ? 'application/wasm' : 'text/javascript');
      response.end(await readFile(new URL(path.slice(5), ortFolder)));
    } else if (!path.startsWith('/isthmus')) response.writeHead(404).end();
  });
  receiver.attach(server, '/isthmus');
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  // Not the package's own arguments, whose single process ends with its first page.
  const executablePath = await chromium.executablePath();
  browser = await playwright.launch({ executablePath, args: ['--no-sandbox'], headless: true });
  page = await browser.newPage();
  await page.goto(origin);
  await page.waitForFunction('globalThis.runFrame !== undefined');
});
afterAll(async () => {
  await browser?.close();
  await receiver?.close();
  server?.close();
  await fixture?.runtime.close();
});

const raw = (cut: number): Plan => ({ kind: 'split', from: cut, codec: 'raw', level: 0, to: cut });

interface PageResult {
  code?: string;
  plan?: Plan;
  scores: number[];
  sources: string[];
}

function runFrame(kind: string, plan: Plan): Promise<PageResult> {
  return page.evaluate(`runFrame(${JSON.stringify(kind)}, ${JSON.stringify(plan)})`);
}

async function runInNode(plan: Plan): Promise<Float32Array> {
  const session = await connect(`${origin}/isthmus`, {
    model: 'two-heads',
    runtime: fixture.runtime,
    cache: createMemoryCache(),
    plan,
  });
  const file = await sharp(pixels, { raw: { width, height, channels: 4 } })
    .png()
    .toBuffer();
  const { tensors } = await session.run(file);
  await session.close();
  return tensors.scores!.data as Float32Array;
}

test.each<[string, Plan]>([
  ['ImageData', raw(0)],
  ['ImageData', raw(2)],
  ['ImageData', raw(4)],
  ['HTMLCanvasElement', raw(1)],
  ['OffscreenCanvas', raw(1)],
  ['ImageBitmap', raw(1)],
  ['Blob', raw(3)],
  ['HTMLImageElement', raw(1)],
  ['VideoFrame', raw(1)],
  ['pixels', raw(1)],
  ['Blob', { kind: 'local' }],
])('a browser agrees with Node on %s by plan %j', async (kind, plan) => {
  const { scores, plan: used, code } = await runFrame(kind, plan);
  expect(code).toBeUndefined();
  expect(used).toMatchObject(plan);
  const expected = await runInNode(plan);
  const tensor = (data: Float32Array) => ({ type: 'float32' as const, shape: [1, 5], data });
  expect(relativeDifference(tensor(Float32Array.from(scores)), tensor(expected))).toBeLessThan(1e-4);
});

test('a page that is loaded again has its segments', async () => {
  await runFrame('ImageData', raw(2));
  await page.reload();
  await page.waitForFunction('globalThis.runFrame !== undefined');
  expect((await runFrame('ImageData', raw(2))).sources).toEqual(['cache']);
});

test('pictures that are broken or not there yet are refused', async () => {
  expect((await runFrame('broken', raw(1))).code).toBe('image/decode-failed');
  expect((await runFrame('unloaded', raw(1))).code).toBe('image/unsupported');
});
