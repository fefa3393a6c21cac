import { parseManifest } from '@isthmus/core';
import { createWebRuntime } from '@isthmus/runtime/web';
import { createTrials, type Trial } from './codec-trials.js';

// What the page of the benchmark codec-browser runs.
const runtime = createWebRuntime({ executionProviders: ['wasm'], threads: 1, wasmPaths: '/ort/' });

async function readFile(path: string): Promise<Uint8Array<ArrayBuffer>> {
  const response = await fetch(`/bundle/${path}`);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

const manifest = parseManifest(new TextDecoder().decode(await readFile('manifest.json')));
const features = new Float32Array((await readFile('features')).buffer);
const cut = Number(new TextDecoder().decode(await readFile('cut')));
const trials = await createTrials({ manifest, cut, features, readFile, runtime });

const page = globalThis as { runTrial?: (name: string, times: number) => Promise<number> };
page.runTrial = (name, times) => (trials.get(name) as Trial)(times);
