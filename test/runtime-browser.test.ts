import { readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { createTensor } from '@isthmus/core';
import { createNodeRuntime } from '@isthmus/runtime/node';
import chromium from '@sparticuz/chromium';
import { build } from 'esbuild';
import { type Browser, chromium as playwright } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convModel } from './support/runtime-models.js';

const ortFolder = new URL('../node_modules/onnxruntime-web/dist/', import.meta.url);

// What a page would write; the results land where the test can read them.
const pageScript = `
  import { createWebRuntime } from '@isthmus/runtime/web';
  globalThis.runModel = async (options) => {
    const runtime = createWebRuntime({ ...options, wasmPaths: '/ort/' });
    const session = await runtime.load(new Uint8Array(await (await fetch('/model.onnx')).arrayBuffer()));
    const data = Float32Array.from({ length: 768 }, (_, i) => Math.cos(i));
    const { outputs } = await session.run({ x: { type: 'float32', shape: [1, 3, 16, 16], data } });
    const { description } = runtime;
    await runtime.close();
    return { description, scores: Array.from(outputs.scores.data) };
  };`;

async function bundlePage(): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents: pageScript, resolveDir: fileURLToPath(new URL('.', import.meta.url)) },
    bundle: true,
    format: 'esm',
    write: false,
    logLevel: 'silent',
  });
  return outputFiles[0]!.text;
}

// The same page twice: /isolated/ may have threads (shared memory), /plain/ may not.
async function startServer(script: string): Promise<Server> {
  const types = {
    html: 'text/html',
    js: 'text/javascript',
    mjs: 'text/javascript',
    wasm: 'application/wasm',
  };
  const server = createServer(async (request, response) => {
    const path = request.url ?? '/';
    const type = types[path.split('.').at(-1) as keyof typeof types] ?? 'application/octet-stream';
    response.setHeader('content-type', path.endsWith('/') ? 'text/html' : type);
    if (!path.startsWith('/plain/')) {
      response.setHeader('cross-origin-opener-policy', 'same-origin');
      response.setHeader('cross-origin-embedder-policy', 'require-corp');
    }
    if (path.endsWith('/')) response.end('<script type="module" src="/page.js"></script>');
    else if (path === '/page.js') response.end(script);
    else if (path === '/model.onnx') response.end(convModel());
    else if (/^\/ort\/[\w.-]+$/.test(path)) response.end(await readFile(new URL(path.slice(5), ortFolder)));
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

describe('the web runtime in a browser', () => {
  let browser: Browser;
  let server: Server;
  let expected: number[];

  beforeAll(async () => {
    server = await startServer(await bundlePage());
    browser = await playwright.launch({
      executablePath: await chromium.executablePath(),
      // Not the package's own arguments, whose single process ends with its first page. WebGPU runs on
      // SwiftShader, which computes on the CPU: slow, but the real path through the browser.
      args: [
        '--no-sandbox',
        '--enable-unsafe-webgpu',
        '--enable-features=Vulkan',
        '--use-vulkan=swiftshader',
        '--use-webgpu-adapter=swiftshader',
      ],
      headless: true,
    });
    const node = createNodeRuntime({ threads: 1 });
    const data = Float32Array.from({ length: 768 }, (_, i) => Math.cos(i));
    const session = await node.load(convModel());
    const { outputs } = await session.run({ x: createTensor('float32', [1, 3, 16, 16], data) });
    expected = Array.from(outputs.scores!.data as Float32Array);
    await node.close();
  });
  afterAll(async () => {
    await browser?.close();
    server?.close();
  });

  async function runIn(folder: string, options: object): Promise<{ description: string; scores: number[] }> {
    const page = await browser.newPage();
    try {
      await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/${folder}/`);
      await page.waitForFunction('globalThis.runModel !== undefined');
      return await page.evaluate(`runModel(${JSON.stringify(options)})`);
    } finally {
      await page.close();
    }
  }

  it.each([
    ['plain', { executionProviders: ['wasm'], threads: 2 }, / wasm, 1 thread \(one thread: not cross-origin/],
    ['isolated', { executionProviders: ['wasm'], threads: 2 }, / wasm, 2 threads$/],
    ['plain', {}, / webgpu, 1 thread$/],
  ])('agrees with Node.js on a page that is %s, with %o', async (folder, options, description) => {
    const result = await runIn(folder, options);
    expect(result.description).toMatch(description);
    expect(result.scores).toHaveLength(5);
    result.scores.forEach((score, i) => {
      expect(score).toBeCloseTo(expected[i]!, 5);
    });
  });
});
