import { parseManifest } from '@isthmus/core';
import { createWebRuntime } from '@isthmus/runtime/web';
import { type CodecEnd, createCodecEnd } from './codec-end.js';

// What the page of test/browser/codecs.test.ts runs. Wasm, which every browser has; one thread, which every page may.
const runtime = createWebRuntime({ executionProviders: ['wasm'], threads: 1, wasmPaths: '/ort/' });

async function readFile(path: string): Promise<Uint8Array> {
  return new Uint8Array(await (await fetch(`/bundle/${path}`)).arrayBuffer());
}

const manifest = parseManifest(new TextDecoder().decode(await readFile('manifest.json')));
(globalThis as { codecEnd?: CodecEnd }).codecEnd = createCodecEnd(manifest, readFile, runtime);
