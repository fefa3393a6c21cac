import {
  type EncoderKind,
  type Manifest,
  manifestLimits,
  parseManifest,
  type Runtime,
  sha256Hex,
} from '@isthmus/core';
import { createEncoders, type Encoders } from './encoders.js';
import { createPrepareFrame, type PrepareFrame } from './frame.js';
import type { HttpGet } from './http.js';
import { createMemory } from './memory.js';
import type { ReadFile } from './segments.js';
import { createSpans, type Spans } from './spans.js';

/** A model as the device holds it: what may change when a receiver comes back with a new bundle. */
export interface Bundle {
  readonly manifest: Manifest;
  /** Of the manifest's bytes: the bundle's identity. */
  readonly sha256: string;
  readonly spans: Spans;
  readonly prepareFrame: PrepareFrame;
  readonly encoders: Encoders;
  /** Gives the memory of spans and encoders back, as soon as their runs have ended. */
  release(): Promise<void>;
}

/**
 * Fetches a manifest.
 *
 * @throws IsthmusError `bundle/invalid`, and as {@link HttpGet}
 */
export async function fetchManifest(
  get: HttpGet,
  bundlePath: string,
): Promise<{ manifest: Manifest; sha256: string }> {
  const bytes = await get(`${bundlePath}manifest.json`, { maxBytes: manifestLimits.numBytes });
  return { manifest: parseManifest(new TextDecoder().decode(bytes)), sha256: await sha256Hex(bytes) };
}

export interface BundleOptions {
  manifest: Manifest;
  sha256: string;
  readFile: ReadFile;
  runtime: Runtime;
  codecs: readonly EncoderKind[];
  /** Loaded spans and encoders together stay below this; what runs now is kept. */
  maxDeviceBytes: number;
  /** A span of this bundle has become ready to run, or is no longer. */
  onSpan: (to: number, isReady: boolean) => void;
}

export function createBundle(options: BundleOptions): Bundle {
  const { manifest, sha256, maxDeviceBytes } = options;
  const memory = createMemory(maxDeviceBytes);
  return {
    manifest,
    sha256,
    spans: createSpans({ ...options, memory, onChange: options.onSpan }),
    prepareFrame: createPrepareFrame(manifest),
    encoders: createEncoders({ ...options, memory }),
    release: memory.release,
  };
}
