import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
// Chromium, its driver and the bundler are tools of the whole repository, which its own package.json declares.
// @boundaries-ignore declared by the repository
// biome-ignore lint/correctness/noUndeclaredDependencies: declared by the repository
import chromium from '@sparticuz/chromium';
// @boundaries-ignore declared by the repository
// biome-ignore lint/correctness/noUndeclaredDependencies: declared by the repository
import { build } from 'esbuild';
// @boundaries-ignore declared by the repository
// biome-ignore lint/correctness/noUndeclaredDependencies: declared by the repository
import { type Page, chromium as playwright } from 'playwright-core';

const ortFolder = new URL('../../node_modules/onnxruntime-web/dist/', import.meta.url);

// No server stands behind it; `localhost` makes it a secure context.
const origin = 'http://localhost';

export interface OpenPage {
  page: Page;
  /** As in "HeadlessChrome/143.0". */
  browser: string;
  close(): Promise<void>;
}

/**
 * Opens a headless Chromium on a page that runs a module of this folder, and waits until it has set `readyName`. The
 * page is isolated from others, so that its clock is as fine as a browser's gets. Files are found below `/bundle/`,
 * those of onnxruntime-web below `/ort/`.
 */
export async function openChromium(
  script: string,
  files: ReadonlyMap<string, Uint8Array>,
  readyName: string,
): Promise<OpenPage> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL(script, import.meta.url))],
    bundle: true,
    format: 'esm',
    write: false,
    logLevel: 'silent',
  });
  const browser = await playwright.launch({
    executablePath: await chromium.executablePath(),
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update'],
    headless: true,
  });
  const page = await browser.newPage();
  const failures: string[] = [];
  page.on('pageerror', (error) => failures.push(String(error)));
  await page.route(`${origin}/**`, async (route) => {
    const path = new URL(route.request().url()).pathname;
    const answer = (contentType: string, body: string | Uint8Array) =>
      route.fulfill({
        contentType,
        body: typeof body === 'string' ? body : Buffer.from(body),
        headers: {
          'cross-origin-opener-policy': 'same-origin',
          'cross-origin-embedder-policy': 'require-corp',
        },
      });
    const file = files.get(path.slice('/bundle/'.length));
    if (path === '/') await answer('text/html', '<script type="module" src="/page.js"></script>');
    else if (path === '/page.js') await answer('text/javascript', outputFiles[0]!.contents);
    else if (path.startsWith('/bundle/') && file !== undefined)
      await answer('application/octet-stream', file);
    else if (/^\/ort\/[\w.-]+$/.test(path)) {
      const type = path.endsWith('.wasm') ? 'application/wasm' : 'text/javascript';
      await answer(type, await readFile(new URL(path.slice('/ort/'.length), ortFolder)));
    } else await route.fulfill({ status: 404 });
  });
  await page.goto(`${origin}/`);
  await page.waitForFunction(`globalThis.${readyName} !== undefined`).catch((cause) => {
    throw new Error(`The page did not get ready. ${failures.join('\n')}`, { cause });
  });
  return { page, browser: browser.version(), close: () => browser.close() };
}
