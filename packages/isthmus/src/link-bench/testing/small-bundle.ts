import type { Manifest } from '@isthmus/core';
import type { Scenario } from '../scenario.js';
import type { LinkTrace } from '../trace.js';
import { createLinkTrace } from '../trace.js';
import { createWorkload, type Workload, type WorkloadOptions } from '../workload.js';

const sha256 = '0'.repeat(64);

/** Three cuts, 10 ms and 30 ms of computation, two codecs with measured sizes, qualities and times. */
export const smallManifest: Manifest = {
  format: 'isthmus-bundle',
  version: 1,
  model: 'small',
  provenance: { source: 'test', licence: 'Apache-2.0', sha256 },
  dynamicBatch: false,
  preprocess: null,
  task: { kind: 'tensor' },
  header: '',
  cuts: [20_000, 5_000, 100].map((size, index) => ({
    index,
    tensors: [
      { name: `t${index}`, type: 'float32', shape: [1, size], batched: true, asInput: '', asOutput: '' },
    ],
    numBytes: 4 * size,
  })),
  segments: [10, 30].map((durationMs, index) => ({
    index,
    numNodes: 1,
    file: { path: `segments/${index}`, numBytes: 250_000, sha256 },
    shared: [],
    profile: {
      flops: 0,
      parameters: 0,
      weightBytes: 0,
      activationBytes: 0,
      peakActivationBytes: 1000,
      durationMs,
    },
  })),
  shared: [],
  codecs: [
    {
      id: 'raw',
      kind: 'raw',
      version: 1,
      paths: [0, 1].map((cut) => ({ from: cut, to: cut })),
      levels: [{ name: 'float32', params: { dtype: 'float32' } }],
      measured: [80_000, 20_000].map((numBytes) => [
        { numBytes, numBytesDeviation: 0, quality: 1, encodeMs: 1, decodeMs: 1 },
      ]),
      tablesSha256: null,
      files: [],
    },
    {
      id: 'quantized',
      kind: 'quantized',
      version: 1,
      paths: [0, 1].map((cut) => ({ from: cut, to: cut })),
      levels: [8, 2].map((bits) => ({ name: `${bits}-bit`, params: { bits } })),
      measured: [20_000, 5_000].map((numBytes) => [
        { numBytes, numBytesDeviation: 0, quality: 0.95, encodeMs: 2, decodeMs: 2 },
        { numBytes: numBytes / 5, numBytesDeviation: 0, quality: 0.6, encodeMs: 2, decodeMs: 2 },
      ]),
      tablesSha256: null,
      files: [],
    },
  ],
  profiledOn: 'test',
};

/** All plans of that bundle. */
export function smallWorkload(options: Partial<WorkloadOptions> = {}): Workload {
  return createWorkload({ manifest: smallManifest, deviceSlowdown: 1, cloudSlowdown: 1, ...options });
}

/** A link whose rate never changes. */
export function constantTrace(bytesPerMs: number, delayMs = 10): LinkTrace {
  const segments = [{ durationMs: 1000, rateBps: 8000 * bytesPerMs }];
  return createLinkTrace({ name: 'constant', kind: 'test', segments, delayMs });
}

/** Frames without noise, so that times can be worked out by hand. */
export function quietScenario(options: Partial<Scenario> & Pick<Scenario, 'trace'>): Scenario {
  const { numFrames = 2 } = options;
  return {
    workload: smallWorkload(),
    deadlineMs: 100,
    intervalMs: 100,
    numFrames,
    deviceNoise: new Float64Array(numFrames).fill(1),
    cloudNoise: new Float64Array(numFrames).fill(1),
    ...options,
  };
}
