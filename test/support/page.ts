import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const ortFolder = new URL('../../node_modules/onnxruntime-web/dist/', import.meta.url);

export interface ServedPage {
  /** Of the page, which runs the script and shows nothing. */
  url: string;
  close(): Promise<void>;
}

/**
 * Bundles a script of this folder as a page would have it, and serves it with onnxruntime-web's files below `/ort/`
 * and those given below `/bundle/`.
 */
export async function servePage(script: string, files: ReadonlyMap<string, Uint8Array>): Promise<ServedPage> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL(script, import.meta.url))],
    bundle: true,
    format: 'esm',
    write: false,
    logLevel: 'silent',
  });
  const page = outputFiles[0]!.contents;
  const server = createServer(async (request, response) => {
    const path = request.url ?? '/';
    const answer = (type: string, body: string | Uint8Array) => {
      response.setHeader('content-type', type);
      response.end(body);
    };
    const file = files.get(path.slice('/bundle/'.length));
    if (path === '/') answer('text/html', '<script type="module" src="/page.js"></script>');
    else if (path === '/page.js') answer('text/javascript', page);
    else if (path.startsWith('/bundle/') && file !== undefined) answer('application/octet-stream', file);
    else if (/^\/ort\/[\w.-]+$/.test(path)) {
      const type = path.endsWith('.wasm') ? 'application/wasm' : 'text/javascript';
      answer(type, await readFile(new URL(path.slice('/ort/'.length), ortFolder)));
    } else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
