import { cpus, loadavg } from 'node:os';
import { IsthmusError, type Runtime } from '@isthmus/core';
import type { BundleFiles } from '../rd/measure.js';
import { codedCuts, computeFeatures, quantizeChannels } from './features.js';
import { type FramesOptions, readFrames } from './frames.js';
import { missingCoders } from './general-coders.js';
import { measureCut, type RoundsOptions } from './measure-cut.js';
import type { CodecBenchResult, CodecCutResult } from './result.js';

export interface CodecBenchOptions extends FramesOptions, RoundsOptions {
  bundle: BundleFiles;
  runtime: Runtime;
  /** Of each code, from 1 to 8; one measurement each. */
  bits: readonly number[];
  /** What is measured so far, of how much. */
  onProgress(done: number, total: number): void;
}

/**
 * Measures every entropy coder of this version on what crosses the cuts of a model: bytes and symbols per second,
 * against the empirical entropy and what Node has.
 *
 * @throws IsthmusError `usage/invalid` for pictures that are not there, or a bundle without a cut to measure; the
 * runtime's
 */
export async function runCodecBench(options: CodecBenchOptions): Promise<CodecBenchResult> {
  const { bundle, runtime, bits, rounds, onProgress } = options;
  const { manifest } = bundle;
  const loadBefore = loadavg()[0]!;
  const cuts = codedCuts(manifest);
  if (cuts.length === 0) {
    throw new IsthmusError(
      'usage/invalid',
      `No cut of ${manifest.model} is one float32 tensor of channels × height × width.`,
    );
  }
  const frames = await readFrames(manifest, options);
  const results: CodecCutResult[] = [];
  for (const cut of cuts) {
    const features = await computeFeatures(bundle, cut, frames, runtime);
    const { channels, perChannel, width } = features;
    for (const numBits of bits) {
      const photos = features.frames.map((frame) => quantizeChannels(features, numBits, frame));
      const measured = await measureCut(
        { channels, perChannel, width, top: 2 ** numBits - 1, photos },
        options,
      );
      results.push({ cut, channels, perChannel, bits: numBits, ...measured });
      onProgress(results.length, cuts.length * bits.length);
    }
  }
  return {
    model: manifest.model,
    images: frames.length,
    rounds,
    missing: missingCoders(),
    results,
    machine: `${cpus()[0]?.model.trim() ?? 'unknown processor'}, ${cpus().length} cores, Node ${process.version}`,
    load: { before: loadBefore, after: loadavg()[0]! },
    date: new Date().toISOString().slice(0, 10),
  };
}
