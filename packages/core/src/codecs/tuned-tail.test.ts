import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { IsthmusError } from '../errors.js';
import { type CodecEntry, type FileRef, type Manifest, manifestLimits } from '../manifest.js';
import type { RuntimeSession } from '../runtime.js';
import { createTensor, type NamedTensors } from '../tensor.js';
import { makeCalibratedTables } from '../testing/calibrated.js';
import { makeManifest } from '../testing/manifest.js';
import { createAdaptedCodec } from './adapted.js';
import { formatCalibratedTables } from './calibrated/model.js';
import type { CodecContext, DecodeWatch } from './codec.js';
import { formatTunedSegments } from './format-tuned-segments.js';
import { learnedFiles, tunedLearnedCodec } from './learned.js';
import type { PictureCoder } from './picture-frame.js';

// A decoder that passes on what it gets, and one segment behind it that multiplies by the number it is made of: three, and
// half of one more where it is tuned.
const factor = new Uint8Array(Float32Array.of(3).buffer);
const segment: FileRef = {
  path: 'segments/1.onnx',
  numBytes: 4,
  sha256: createHash('sha256').update(factor).digest('hex'),
};
const tunedBytes = formatTunedSegments({
  via: 1,
  to: 2,
  files: [segment.sha256],
  tensors: [{ file: 0, offset: 0, steps: Float32Array.of(0.5), differences: Int8Array.of(1) }],
});
const tables = makeCalibratedTables(
  [{ name: 'latent', height: 5, width: 4, scales: [170, 150, 128] }],
  32,
  0,
);
const shape = [1, 60];

interface Setup {
  files?: string[];
  tunedRef?: Partial<FileRef>;
  tuned?: Uint8Array;
  kind?: string;
}

const ownFiles = [
  learnedFiles.tables('l'),
  learnedFiles.encoder('l'),
  learnedFiles.decoder('l'),
  learnedFiles.tuned('l'),
];

function makeContext({ files = ownFiles, tunedRef = {}, tuned = tunedBytes, kind = 'learned' }: Setup = {}) {
  const hash = '0'.repeat(64);
  const entry: CodecEntry = {
    id: 'l',
    kind,
    version: 2,
    paths: [{ from: 0, to: 2 }],
    levels: [0, 1].map((level) => ({ name: `level-${level}`, params: {} })),
    tablesSha256: hash,
    files: files.map((path) => ({ path, numBytes: 1, sha256: hash, ...(path.endsWith('.bin') && tunedRef) })),
  };
  const plain = makeManifest([{ shape }, { shape }, { shape }], [entry]);
  const manifest: Manifest = {
    ...plain,
    segments: plain.segments.map((one) => (one.index === 1 ? { ...one, file: segment } : one)),
  };
  const read: string[] = [];
  const context: CodecContext = {
    manifest,
    entry,
    async readFile({ path }) {
      read.push(path);
      if (path === segment.path) return factor;
      if (path.endsWith('.bin')) return tuned;
      return new TextEncoder().encode(path.endsWith('.json') ? formatCalibratedTables(tables) : path);
    },
    runtime: {
      description: 'a test',
      async load(model) {
        const isNetwork = model.byteLength > 4;
        const by = isNetwork ? 1 : new DataView(model.buffer, model.byteOffset).getFloat32(0, true);
        const [takes, gives] = isNetwork
          ? new TextDecoder().decode(model).includes('encoder')
            ? ['t0', 'latent']
            : ['latent', 't1']
          : ['t1', 't2'];
        const session: RuntimeSession = {
          inputNames: [takes!],
          outputNames: [gives!],
          async run(feeds: NamedTensors) {
            const data = (feeds[takes!]!.data as Float32Array<ArrayBuffer>).map((value) => by * value);
            const outputs = {
              [gives!]: createTensor('float32', gives === 'latent' ? [1, 3, 5, 4] : shape, data),
            };
            return { outputs, durationMs: by };
          },
          release: async () => {},
        };
        return session;
      },
      close: async () => {},
    },
  };
  return { context, read };
}

const path = { from: 0, to: 2, level: 0 };
const frame = {
  t0: createTensor(
    'float32',
    shape,
    Float32Array.from({ length: 60 }, (_, i) => 40 * Math.sin(i)),
  ),
};
const refusal = (message: RegExp) =>
  expect.objectContaining({ code: 'bundle/invalid', message: expect.stringMatching(message) });

/** Notes what is waited for, and how much of it was work. */
function makeWatch(stopAt = Infinity): DecodeWatch & { workMs: number[] } {
  const workMs: number[] = [];
  return {
    workMs,
    async wait(begin, workOf) {
      if (workMs.length === stopAt) throw new IsthmusError('request/deadline', 'Too late.');
      const value = await begin();
      workMs.push(workOf(value));
      return value;
    },
  };
}

describe('a codec with tuned segments', () => {
  it('goes on through them from where its decoder lands', async () => {
    const { context } = makeContext();
    const encoder = await tunedLearnedCodec.createEncoder(context);
    const decoder = await tunedLearnedCodec.createDecoder(context);
    expect(decoder.segmentBytes).toBe(4);
    // As it is, beyond what the coder holds, so that nothing is lost.
    const large = {
      t0: createTensor(
        'float32',
        shape,
        frame.t0.data.map((value) => 1e9 * value),
      ),
    };
    const decoded = await decoder.decode(await encoder.encode(large, path), path);
    expect(Object.keys(decoded)).toEqual(['t2']);
    expect(decoded.t2!.data).toEqual(large.t0.data.map((value) => 3.5 * value));
  });

  it('waits for each network to load and to run, and ends before any of them when told to', async () => {
    const { context } = makeContext();
    const payload = await (await tunedLearnedCodec.createEncoder(context)).encode(frame, path);
    const whole = makeWatch();
    await (await tunedLearnedCodec.createDecoder(context)).decode(payload, path, whole);
    // Loading is no work; the networks say how long they took.
    expect(whole.workMs).toEqual([0, 1, 0, 3.5]);
    for (const stopAt of [0, 1, 2, 3]) {
      const decoder = await tunedLearnedCodec.createDecoder(context);
      const watch = makeWatch(stopAt);
      await expect(decoder.decode(payload, path, watch)).rejects.toMatchObject({ code: 'request/deadline' });
      expect(watch.workMs).toHaveLength(stopAt);
      await expect(decoder.decode(payload, path)).resolves.toHaveProperty('t2');
    }
  });

  it.each<[string, Setup, RegExp]>([
    ['without its file', { files: ownFiles.slice(0, 3) }, /lacks its file codecs\/l\/tuned\.bin/],
    ['that is no such file', { tuned: new Uint8Array(40) }, /unsound: they are none/],
    ['of another bundle', { tuned: tunedBytes.slice().fill(7, 20, 52) }, /other segments/],
    [
      'that is too large',
      { tunedRef: { numBytes: manifestLimits.tunedBytes + 1 } },
      /more than 16777216 bytes/,
    ],
  ])('is refused %s', async (_, setup, message) => {
    const { context, read } = makeContext(setup);
    await expect(tunedLearnedCodec.createDecoder(context)).rejects.toThrow(refusal(message));
    if (setup.tunedRef !== undefined) expect(read).not.toContain(learnedFiles.tuned('l'));
    // The device needs nothing of it.
    await expect(tunedLearnedCodec.createEncoder(context)).resolves.toBeDefined();
  });
});

describe('an adapted codec', () => {
  const pictures: PictureCoder = {
    prepare: async () => {},
    encode: async () => new Uint8Array(),
    decode: async () => new Uint8Array(),
  };

  it.each<[string, Partial<CodecEntry>, RegExp]>([
    ['that has neither adapter nor tuned segments', { files: [] }, /neither an adapter nor tuned segments/],
    [
      'of two paths',
      {
        paths: [
          { from: 0, to: 0 },
          { from: 0, to: 2 },
        ],
      },
      /exactly one path/,
    ],
    [
      'whose levels are told as no number',
      { levels: [{ name: 'q', params: { level: 2 } }] },
      /number from 0 to 1/,
    ],
    [
      'of a model without pictures',
      { levels: [{ name: 'q', params: { format: 'webp', quality: 9 } }] },
      /does not take one/,
    ],
  ])('is refused %s', async (_, change, message) => {
    const { context } = makeContext({ kind: 'adapted' });
    const changed = { ...context, entry: { ...context.entry, ...change } };
    const kind = createAdaptedCodec(pictures);
    await expect(kind.createEncoder(changed)).rejects.toThrow(refusal(message));
    await expect(kind.createDecoder(changed)).rejects.toThrow(refusal(message));
  });
});
