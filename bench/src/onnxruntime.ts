import type { NamedTensors } from '@isthmus/core';
import ort from 'onnxruntime-node';

export type OrtFeeds = ort.InferenceSession.OnnxValueMapType;

/** A session as one has it without Isthmus: onnxruntime-node on this thread, with the options its runtime uses. */
export async function loadAlone(
  model: Uint8Array,
  threads: number | undefined,
): Promise<ort.InferenceSession> {
  return ort.InferenceSession.create(model, {
    graphOptimizationLevel: 'all',
    executionMode: 'sequential',
    extra: { session: { force_spinning_stop: '1' } },
    ...(threads !== undefined && { intraOpNumThreads: threads }),
  });
}

export function toFeeds(tensors: NamedTensors): OrtFeeds {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { type, data, shape }]) => [
      name,
      new ort.Tensor(type as 'float32', data as Float32Array, [...shape]),
    ]),
  );
}

export const ortVersion: string = ort.env.versions.node ?? ort.env.versions.common;
