import { isIsthmusError, type Tensor } from '@isthmus/core';
import { float32Tensor } from '@isthmus/graph';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readSafetensors, writeSafetensors } from './safetensors.js';

const bits = (tensor: Tensor | undefined): Uint32Array =>
  new Uint32Array(new Float32Array((tensor?.data as Float32Array | undefined) ?? []).buffer);

const files = fc.record({
  tensors: fc
    .uniqueArray(
      fc.record({
        name: fc.string({ unit: 'grapheme', maxLength: 12 }).filter((name) => name !== '__metadata__'),
        values: fc.array(fc.float(), { maxLength: 9 }),
      }),
      { selector: ({ name }) => name, maxLength: 5 },
    )
    .map((list) => new Map(list.map(({ name, values }) => [name, float32Tensor(values)]))),
  metadata: fc
    .uniqueArray(fc.tuple(fc.string(), fc.string()), { selector: ([key]) => key, maxLength: 3 })
    .map((pairs) => new Map(pairs)),
});

// A file from its header, as others may write it.
function fileOf(header: unknown, numBytes: number): Uint8Array {
  const json = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + numBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

const invalid = expect.objectContaining({ code: 'train/state-invalid' });

describe('safetensors', () => {
  it('reads what a file system gives, a Buffer in a larger one', () => {
    const tensors = new Map([
      ['a', float32Tensor([1, 2, 3])],
      ['b', float32Tensor([4])],
    ]);
    const bytes = writeSafetensors({ tensors, metadata: new Map() });
    const pool = Buffer.concat([Buffer.alloc(5), bytes]);
    expect(readSafetensors(pool.subarray(5)).tensors).toEqual(tensors);
  });

  it('reads back what it wrote, bit for bit', () => {
    fc.assert(
      fc.property(files, (file) => {
        const read = readSafetensors(writeSafetensors(file));
        expect(new Map(read.metadata)).toEqual(file.metadata);
        expect([...read.tensors.keys()].sort()).toEqual([...file.tensors.keys()].sort());
        for (const [name, tensor] of file.tensors) {
          expect(read.tensors.get(name)?.shape).toEqual(tensor.shape);
          expect(bits(read.tensors.get(name))).toEqual(bits(tensor));
        }
      }),
    );
  });

  it('aligns tensors to eight bytes and fills with spaces', () => {
    const bytes = writeSafetensors({
      tensors: new Map([['w', float32Tensor([1, 2], [2, 1])]]),
      metadata: new Map([['step', '3']]),
    });
    const headerBytes = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    expect(headerBytes % 8).toBe(0);
    expect(JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + headerBytes)))).toEqual({
      __metadata__: { step: '3' },
      w: { dtype: 'F32', shape: [2, 1], data_offsets: [0, 8] },
    });
    expect(bytes.length).toBe(8 + headerBytes + 8);
  });

  it('refuses every file cut short', () => {
    const whole = writeSafetensors({
      tensors: new Map([['w', float32Tensor([1, 2, 3])]]),
      metadata: new Map(),
    });
    for (let length = 0; length < whole.length; length++) {
      expect(() => readSafetensors(whole.subarray(0, length))).toThrow(invalid);
    }
  });

  const entry = (shape: unknown, offsets: unknown, dtype = 'F32') => ({
    w: { dtype, shape, data_offsets: offsets },
  });
  it.each([
    ['a gap', { ...entry([1], [0, 4]), v: { dtype: 'F32', shape: [1], data_offsets: [8, 12] } }, 12],
    ['an overlap', { ...entry([2], [0, 8]), v: { dtype: 'F32', shape: [1], data_offsets: [4, 8] } }, 8],
    ['bytes that belong to nothing', entry([1], [0, 4]), 8],
    ['a tensor past the end', entry([4], [0, 16]), 8],
    ['a shape larger than memory', entry([2 ** 40, 2 ** 40], [0, 8]), 8],
    ['a shape whose product is not a safe number', entry([2 ** 52, 2 ** 52, 0.5], [0, 8]), 8],
    ['a negative size', entry([-1], [0, 4]), 4],
    ['offsets backwards', entry([1], [4, 0]), 4],
    ['another type', entry([1], [0, 8], 'F64'), 8],
    ['no shape', entry('4', [0, 4]), 4],
    ['a header that is no object', [1, 2], 0],
    ['a header that is no JSON', '{', 0],
    ['metadata that is no object', { __metadata__: 3 }, 0],
    ['metadata that is no text', { __metadata__: { a: 1 } }, 0],
  ])('refuses %s', (_, header, numBytes) => {
    expect(() => readSafetensors(fileOf(header, numBytes))).toThrow(invalid);
  });

  it('refuses a header longer than the file without reserving it', () => {
    const bytes = new Uint8Array(16);
    new DataView(bytes.buffer).setBigUint64(0, 2n ** 63n, true);
    expect(() => readSafetensors(bytes)).toThrow(invalid);
  });

  it('either reads a damaged file or refuses it', () => {
    const damages = fc.array(fc.record({ at: fc.nat(), value: fc.integer({ min: 0, max: 255 }) }), {
      minLength: 1,
      maxLength: 4,
    });
    let numRefused = 0;
    fc.assert(
      fc.property(files, damages, (file, changes) => {
        const bytes = writeSafetensors(file);
        for (const { at, value } of changes) bytes[at % bytes.length] = value;
        try {
          const { tensors } = readSafetensors(bytes);
          for (const tensor of tensors.values()) expect(tensor.data.byteLength).toBeLessThan(bytes.length);
        } catch (error) {
          if (!isIsthmusError(error, 'train/state-invalid')) throw error;
          numRefused += 1;
        }
      }),
      { numRuns: 500 },
    );
    expect(numRefused).toBeGreaterThan(50);
  });

  it('has no place for a tensor called like its metadata', () => {
    const tensors = new Map([['__metadata__', float32Tensor([1])]]);
    expect(() => writeSafetensors({ tensors, metadata: new Map() })).toThrow(/__metadata__/);
  });
});
