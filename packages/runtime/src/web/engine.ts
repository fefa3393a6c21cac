import { IsthmusError } from '@isthmus/core';
import type * as OrtWeb from 'onnxruntime-web';
import { messageOf } from '../ort-values.js';

/** The module; its namespace, since onnxruntime-web has named exports. */
export type Ort = typeof OrtWeb;
export type WebExecutionProvider = 'webgpu' | 'wasm';

/** onnxruntime-web, and what it can do on this page. */
export interface WebEngine {
  ort: Ort;
  /** To be tried in this order; never empty. */
  providers: WebExecutionProvider[];
  threads: number;
  /** Why something that was asked for is not there; empty if all is. */
  notes: string[];
}

export interface EngineOptions {
  executionProviders: readonly WebExecutionProvider[];
  threads: number | undefined;
  wasmPaths: string | { wasm?: string; mjs?: string } | undefined;
}

/**
 * Looks for a WebGPU adapter and loads the matching build of onnxruntime-web: the one with WebGPU is a download
 * of 27 MB, the one without 14 MB.
 *
 * @throws IsthmusError `runtime/unavailable` if the package is missing, or WebGPU is and nothing else was allowed.
 */
export async function loadWebEngine(options: EngineOptions): Promise<WebEngine> {
  const notes: string[] = [];
  let providers = [...options.executionProviders];
  if (providers.includes('webgpu')) {
    const problem = await findWebGpuProblem();
    if (problem !== undefined) {
      notes.push(`no webgpu: ${problem}`);
      providers = providers.filter((provider) => provider !== 'webgpu');
    }
  }
  if (providers.length === 0) {
    throw new IsthmusError(
      'runtime/unavailable',
      `No execution provider is left (${notes.join('; ') || 'none was asked for'}). Allow 'wasm', which is always there.`,
    );
  }
  const ort = await importEngine(providers.includes('webgpu'));
  const threads = chooseThreads(options.threads, notes);
  // Errors come back as exceptions; the log would only say them twice.
  ort.env.logLevel = 'fatal';
  ort.env.wasm.numThreads = threads;
  if (options.wasmPaths !== undefined) ort.env.wasm.wasmPaths = options.wasmPaths;
  return { ort, providers, threads, notes };
}

async function importEngine(withWebGpu: boolean): Promise<Ort> {
  try {
    // Two literal imports, so that bundlers see both.
    return (await (withWebGpu ? import('onnxruntime-web/webgpu') : import('onnxruntime-web/wasm'))) as Ort;
  } catch (cause) {
    throw new IsthmusError(
      'runtime/unavailable',
      `onnxruntime-web could not be loaded. Install it next to @isthmus/runtime: npm install onnxruntime-web. (${messageOf(cause)})`,
      { cause },
    );
  }
}

async function findWebGpuProblem(): Promise<string | undefined> {
  const gpu = (globalThis.navigator as { gpu?: GPU } | undefined)?.gpu;
  if (gpu === undefined) return 'this platform has no navigator.gpu';
  try {
    return (await gpu.requestAdapter()) === null ? 'no adapter' : undefined;
  } catch (error) {
    return messageOf(error);
  }
}

// Threads of wasm need shared memory, which browsers only give to cross-origin isolated pages
// (https://developer.mozilla.org/docs/Web/API/Window/crossOriginIsolated).
function chooseThreads(wanted: number | undefined, notes: string[]): number {
  if (globalThis.crossOriginIsolated === true) {
    return wanted ?? Math.min(4, Math.ceil((globalThis.navigator?.hardwareConcurrency ?? 1) / 2));
  }
  if (wanted !== undefined && wanted > 1) notes.push('one thread: not cross-origin isolated');
  return 1;
}
