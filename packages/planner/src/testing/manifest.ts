import type { CodecEntry, Manifest, MeasuredLevel } from '@isthmus/core';

const sha256 = '0'.repeat(64);

const tensor = (name: string, shape: number[]) => ({
  name,
  type: 'float32' as const,
  shape,
  batched: true,
  asInput: '',
  asOutput: '',
});

const level = (numBytes: number, quality: number, codingMs = 1): MeasuredLevel => ({
  numBytes,
  numBytesDeviation: quality < 1 ? numBytes / 10 : 0,
  quality,
  encodeMs: codingMs,
  decodeMs: codingMs,
});

const entry = (id: string, kind: string, cut: number, measured: MeasuredLevel[]): CodecEntry => ({
  id,
  kind,
  version: 1,
  paths: [{ from: cut, to: cut }],
  levels: measured.map((_, at) => ({ name: `level-${at}`, params: {} })),
  measured: [measured],
  tablesSha256: null,
  files: [],
});

/**
 * Three segments of 10, 20 and 30 ms and one megabyte each; pictures at cut 0, features of falling size after it.
 * 600 kB raw at cut 0, and 100 kB and 10 kB at the others.
 */
export const smallManifest: Manifest = {
  format: 'isthmus-bundle',
  version: 1,
  model: 'small',
  provenance: { source: 'test', licence: 'none', sha256 },
  dynamicBatch: false,
  preprocess: null,
  task: { kind: 'tensor' },
  header: '',
  cuts: [150_000, 25_000, 2_500, 1_000].map((size, index) => ({
    index,
    tensors: [tensor(`t${index}`, [1, size])],
    numBytes: 4 * size,
  })),
  segments: [10, 20, 30].map((durationMs, index) => ({
    index,
    numNodes: 1,
    file: { path: `segments/${index}`, numBytes: 1_000_000, sha256 },
    shared: [],
    profile: {
      flops: 1e8,
      parameters: 0,
      weightBytes: 1_000_000,
      activationBytes: 0,
      peakActivationBytes: 1000,
      durationMs,
    },
  })),
  shared: [],
  codecs: [
    entry('raw-0', 'raw', 0, [level(600_000, 1, 0.1)]),
    entry('webp', 'pixels', 0, [
      level(18_000, 0.94),
      level(8_000, 0.8),
      level(4_000, 0.6),
      level(1_500, 0.3),
    ]),
    entry('features-1', 'calibrated', 1, [level(20_000, 0.99), level(10_000, 0.92), level(5_000, 0.8)]),
    entry('features-2', 'calibrated', 2, [level(3_000, 0.99), level(1_000, 0.95), level(300, 0.7)]),
  ],
  profiledOn: 'test',
};

/**
 * {@link smallManifest} with learned codecs: from cut 1 one codec to the same cut and one that lands at cut 2, in place
 * of the 20 ms between; its decoder takes 5 ms. The encoders take 500 kB and 50 kB.
 */
export const deepManifest: Manifest = {
  ...smallManifest,
  codecs: [
    ...smallManifest.codecs,
    {
      ...entry('learned', 'learned', 1, [level(2_000, 0.97, 2)]),
      files: [
        { path: 'codecs/learned/encoder.onnx', numBytes: 500_000, sha256 },
        { path: 'codecs/learned/decoder.onnx', numBytes: 5_000_000, sha256 },
      ],
    },
    {
      ...entry('deep', 'learned', 1, []),
      // The same level on two paths, at other prices.
      paths: [
        { from: 1, to: 1 },
        { from: 1, to: 2 },
      ],
      levels: [{ name: 'level-0', params: {} }],
      measured: [
        [{ ...level(4_000, 0.9), encodeMs: 3, decodeMs: 1 }],
        [{ ...level(1_000, 0.98), encodeMs: 1, decodeMs: 5 }],
      ],
      files: [
        { path: 'codecs/deep/encoder.onnx', numBytes: 50_000, sha256 },
        { path: 'codecs/deep/decoder.onnx', numBytes: 9_000_000, sha256 },
      ],
    },
  ],
};
