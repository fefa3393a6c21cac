import { readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { createReceiver, memoryBundle, type Receiver } from '@isthmus/cloud';
import { builtinCodecs, systemClock } from '@isthmus/core';
import { connect, createMemoryCache, type Plan } from '@isthmus/device';
import { importAdapted, pixelsEntries } from '@isthmus/graph';
import { createSharpCoder } from '@isthmus/runtime/pictures';
import { build } from 'esbuild';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { launchBrowser } from '../support/browser.js';
import { type Fixture, makeFixture, relativeDifference } from '../support/fixture.js';
import { squarePictures } from '../support/preprocess.js';
import { withManifest } from '../support/restartable.js';

const ortFolder = new URL('../../node_modules/onnxruntime-web/dist/', import.meta.url);
const side = 32;
const preprocess = squarePictures(side);
// Smooth, as photographs are, and opaque.
const pixels = Uint8Array.from({ length: 4 * side * side }, (_, i) => {
  const [x, y] = [(i >> 2) % side, Math.floor((i >> 2) / side)];
  return [x * 7, y * 7, 255 - x * 4 - y * 3, 255][i % 4]!;
});

const pageScript = `
  import { connect } from '@isthmus/device';
  import { createWebRuntime } from '@isthmus/runtime/web';
  const data = Uint8ClampedArray.from(${JSON.stringify([...pixels])});
  globalThis.runFrame = async (plan) => {
    const runtime = createWebRuntime({ executionProviders: ['wasm'], wasmPaths: '/ort/' });
    const session = await connect(location.origin + '/isthmus', { model: 'two-heads', runtime, plan });
    try {
      // Three different frames at the same time; the first is the one that Node runs too.
      const frames = [0, 1, 2].map((n) => new ImageData(data.map((v, i) => v ^ (i % 4 < n ? 255 : 0)), ${side}, ${side}));
      const alone = [];
      for (const frame of frames) alone.push(await session.run(frame));
      const results = await Promise.all(frames.map((frame) => session.run(frame)));
      if (results.some(({ bytes }, i) => bytes.payload !== alone[i].bytes.payload)) throw new Error('mixed up');
      return results.map(({ tensors, bytes }) => ({ scores: Array.from(tensors.scores.data), bytes }));
    } catch (error) {
      return { code: error.code, message: error.message };
    } finally {
      await session.close();
    }
  };`;

let fixture: Fixture;
let files: ReadonlyMap<string, Uint8Array>;
let receiver: Receiver;
let server: Server;
let origin: string;

beforeAll(async () => {
  fixture = await makeFixture(side);
  const { cuts, codecs } = fixture.manifest;
  // With weights that nobody tuned, the same answers from a picture that the receiver takes to a later cut.
  const manifest = { ...fixture.manifest, preprocess };
  const same = await importAdapted({
    ...{ bundle: { manifest, files: fixture.files }, runtime: fixture.runtime, clock: systemClock },
    ...{ pictures: createSharpCoder(), id: 'webp-on', format: 'webp', qualities: [95], to: 2 },
    ...{ tuned: { via: 0, weights: new Map() }, frames: [fixture.frame] },
  });
  const all = [...codecs, ...pixelsEntries({ preprocess, cuts }), same.entry];
  files = new Map([...withManifest(fixture, { preprocess, codecs: all }), ...same.files]);
  receiver = await createReceiver({ bundles: [memoryBundle(files)], runtime: fixture.runtime });
  server = createServer();
  receiver.attach(server, '/isthmus');
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  await receiver?.close();
  server?.close();
  await fixture?.runtime.close();
});

const plan = (codec: string, level: number): Plan => ({ kind: 'split', from: 0, codec, level, to: 0 });

function openSession(at: Plan | 'auto', url = `${origin}/isthmus`) {
  const { runtime } = fixture;
  return connect(url, { model: 'two-heads', runtime, cache: createMemoryCache(), plan: at });
}

async function runInNode(at: Plan): Promise<{ scores: Float32Array; numBytes: number }> {
  const session = await openSession(at);
  const { tensors, bytes } = await session.run({ data: pixels, width: side, height: side });
  await session.close();
  return { scores: tensors.scores!.data as Float32Array, numBytes: bytes.payload };
}

function scoreDifference(actual: ArrayLike<number>, expected: Float32Array): number {
  const tensor = (data: Float32Array) => ({ type: 'float32' as const, shape: [1, 5], data });
  return relativeDifference(tensor(Float32Array.from(actual)), tensor(expected));
}

test.each(['jpeg', 'webp', 'avif'])('a frame goes to the receiver as %s', async (codec) => {
  const exact = await runInNode(plan('raw', 0));
  const fine = await runInNode(plan(codec, 0));
  const rough = await runInNode(plan(codec, 9));
  expect(scoreDifference(fine.scores, exact.scores)).toBeLessThan(0.1);
  expect(fine.numBytes).toBeLessThan(exact.numBytes / 4);
  expect(rough.numBytes).toBeLessThan(fine.numBytes);
});

test('auto never takes a lossy picture for the frame', async () => {
  const session = await openSession('auto');
  const { plan: chosen } = await session.run({ data: pixels, width: side, height: side });
  await session.close();
  expect(chosen.kind === 'local' || ['raw', 'quantized'].includes(chosen.codec)).toBe(true);
});

test('a receiver without picture decoders serves everything else', async () => {
  const plain = await createReceiver({
    bundles: [memoryBundle(files)],
    runtime: fixture.runtime,
    codecs: builtinCodecs,
  });
  const { url } = await plain.listen(0);
  const session = await openSession(plan('raw', 0), url);
  await session.run({ data: pixels, width: side, height: side });
  const refused = session.run({ data: pixels, width: side, height: side }, { plan: plan('jpeg', 0) });
  await expect(refused).rejects.toMatchObject({ code: 'codec/unknown' });
  await session.close();
  await plain.close();
});

describe('a browser', () => {
  let browser: Browser;
  let page: Page;

  beforeAll(async () => {
    const { outputFiles } = await build({
      stdin: { contents: pageScript, resolveDir: fileURLToPath(new URL('.', import.meta.url)) },
      bundle: true,
      format: 'esm',
      write: false,
      logLevel: 'silent',
    });
    server.on('request', async (request, response) => {
      const path = request.url ?? '/';
      if (path === '/')
        response.setHeader('content-type', 'text/html').end('<script type="module" src="/page.js"></script>');
      else if (path === '/page.js')
        response.setHeader('content-type', 'text/javascript').end(outputFiles[0]!.text);
      else if (/^\/ort\/[\w.-]+$/.test(path)) {
        response.setHeader('content-type', path.endsWith('.wasm') ? 'application/wasm' : 'text/javascript');
        response.end(await readFile(new URL(path.slice(5), ortFolder)));
      } else if (!path.startsWith('/isthmus')) response.writeHead(404).end();
    });
    browser = await launchBrowser();
    page = await browser.newPage();
    await page.goto(origin);
    await page.waitForFunction('globalThis.runFrame !== undefined');
  });
  afterAll(() => browser?.close());

  const runFrame = (at: Plan): Promise<{ scores: number[]; bytes: { payload: number } }[]> =>
    page.evaluate(`runFrame(${JSON.stringify(at)})`);

  test.each(['jpeg', 'webp'])('sends %s that the receiver decodes', async (codec) => {
    const exact = await runInNode(plan('raw', 0));
    const fine = await runFrame(plan(codec, 0));
    expect(fine).toHaveLength(3);
    expect(scoreDifference(fine[0]!.scores, exact.scores)).toBeLessThan(0.1);
    const rough = await runFrame(plan(codec, 9));
    expect(rough[0]!.bytes.payload).toBeLessThan(fine[0]!.bytes.payload);
  });

  test('sends a picture that the receiver goes on with', async () => {
    const picture = await runFrame(plan('webp', 0));
    const further = await runFrame({ kind: 'split', from: 0, codec: 'webp-on', level: 0, to: 2 });
    for (const [i, { scores, bytes }] of further.entries()) {
      expect(bytes).toEqual(picture[i]!.bytes);
      expect(scoreDifference(scores, Float32Array.from(picture[i]!.scores))).toBeLessThan(1e-4);
    }
    expect(further).toHaveLength(3);
  });

  test('sends AVIF, or says that it cannot encode it', async () => {
    const result = (await runFrame(plan('avif', 0))) as {
      code?: string;
      message?: string;
    } & ArrayLike<unknown>;
    const cannot = { code: 'codec/unknown', message: expect.stringMatching(/cannot encode avif/) };
    if (result.length !== 3) expect(result).toMatchObject(cannot);
  });
});
