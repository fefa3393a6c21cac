import type { CodecEntry, Manifest } from '../manifest.js';
import { type TensorType, tensorBytes } from '../tensor.js';

/** A consistent manifest with one tensor per cut, for tests that need no model behind it. */
export function makeManifest(
  cuts: readonly { type?: TensorType; shape: number[] }[],
  codecs: CodecEntry[] = [],
): Manifest {
  const hash = '0'.repeat(64);
  return {
    format: 'isthmus-bundle',
    version: 1,
    model: 'test',
    provenance: { source: 'test', licence: 'Apache-2.0', sha256: hash },
    dynamicBatch: false,
    preprocess: null,
    task: { kind: 'tensor' },
    header: '',
    cuts: cuts.map(({ type = 'float32', shape }, index) => ({
      index,
      tensors: [{ name: `t${index}`, type, shape, batched: true, asInput: '', asOutput: '' }],
      numBytes: tensorBytes(type, shape),
    })),
    segments: cuts.slice(1).map((_, index) => ({
      index,
      numNodes: 1,
      file: { path: `segments/${index}.onnx`, numBytes: 0, sha256: hash },
      shared: [],
      profile: {
        flops: 0,
        parameters: 0,
        weightBytes: 0,
        activationBytes: 0,
        peakActivationBytes: 0,
        durationMs: 0,
      },
    })),
    shared: [],
    codecs,
    profiledOn: 'nowhere',
  };
}

/** The two codecs every bundle has, for the cuts given. */
export function makeCodecs(froms: readonly number[]): CodecEntry[] {
  const paths = froms.map((from) => ({ from, to: from }));
  const entry = { version: 1, paths, tablesSha256: null, files: [] };
  return [
    {
      ...entry,
      id: 'raw',
      kind: 'raw',
      levels: ['float32', 'float16'].map((dtype) => ({ name: dtype, params: { dtype } })),
    },
    {
      ...entry,
      id: 'quantized',
      kind: 'quantized',
      levels: [8, 6, 4, 3, 2].map((bits) => ({ name: `${bits}-bit`, params: { bits } })),
    },
  ];
}
