import {
  type CodecKind,
  type Encoder,
  findCodecKind,
  IsthmusError,
  type Manifest,
  manifestLimits,
  parseManifest,
  type Runtime,
  sha256Hex,
} from '@isthmus/core';
import { createPrepareFrame, type PrepareFrame } from './frame.js';
import type { HttpGet } from './http.js';
import type { ReadFile } from './segments.js';
import { createSpans, type Spans } from './spans.js';

/** A model as the device holds it: what may change when a receiver comes back with a new bundle. */
export interface Bundle {
  readonly manifest: Manifest;
  /** Of the manifest's bytes: the bundle's identity. */
  readonly sha256: string;
  readonly spans: Spans;
  readonly prepareFrame: PrepareFrame;
  /** The encoder of that codec, made when first wanted. */
  encoder(codec: string): Promise<Encoder>;
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
  codecs: readonly CodecKind[];
  maxDeviceBytes: number;
  /** A span of this bundle has become ready to run, or is no longer. */
  onSpan: (to: number, isReady: boolean) => void;
}

export function createBundle(options: BundleOptions): Bundle {
  const { manifest, sha256, readFile, runtime, codecs } = options;
  const encoders = new Map<string, Promise<Encoder>>();

  const createEncoder = async (codec: string): Promise<Encoder> => {
    const entry = manifest.codecs.find(({ id }) => id === codec);
    if (entry === undefined) throw new IsthmusError('codec/unknown', `There is no codec ${codec}.`);
    return findCodecKind(codecs, entry).createEncoder({ manifest, entry, readFile, runtime });
  };

  return {
    manifest,
    sha256,
    spans: createSpans({ ...options, onChange: options.onSpan }),
    prepareFrame: createPrepareFrame(manifest),
    encoder(codec) {
      const existing = encoders.get(codec);
      if (existing !== undefined) return existing;
      const created = createEncoder(codec);
      encoders.set(codec, created);
      created.catch(() => encoders.delete(codec));
      return created;
    },
  };
}
