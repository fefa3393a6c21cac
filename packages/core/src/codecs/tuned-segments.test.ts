import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isIsthmusError } from '../errors.js';
import { type FileRef, type Manifest, manifestLimits } from '../manifest.js';
import { makeManifest } from '../testing/manifest.js';
import { formatTunedSegments, type TunedTensor } from './format-tuned-segments.js';
import { parseTunedSegments } from './tuned-segments.js';

// Two segments of which the first and a shared fragment are changed, at offsets that are no multiples of four.
const sizes = [200, 90, 61];
const bodies = sizes.map((size, file) => {
  const bytes = Uint8Array.from({ length: size }, (_, i) => (i * 37 + file) % 256);
  for (let at = 3; at + 4 <= size; at += 4) new DataView(bytes.buffer).setFloat32(at, at / 8 - 5, true);
  return bytes;
});
const refs: FileRef[] = bodies.map((bytes, index) => ({
  path: `segments/${index}`,
  numBytes: bytes.byteLength,
  sha256: createHash('sha256').update(bytes).digest('hex'),
}));
const plain = makeManifest([{ shape: [1] }, { shape: [1] }, { shape: [1] }, { shape: [1] }]);
const manifest: Manifest = {
  ...plain,
  shared: [refs[2]!],
  segments: plain.segments.map((segment, index) => ({
    ...segment,
    file: index === 0 ? segment.file : refs[index - 1]!,
    shared: index === 2 ? [0] : [],
  })),
};
const path = { from: 0, to: 3 };
const files = [refs[0]!.sha256, refs[2]!.sha256];
const tensor = (
  file: number,
  offset: number,
  steps: readonly number[],
  differences: readonly number[],
): TunedTensor => ({
  file,
  offset,
  steps: Float32Array.from(steps),
  differences: Int8Array.from(differences),
});
const tensors = [
  tensor(0, 3, [0.5, 0], [1, -2, 0, 127, 0, 0, 0, 0]),
  tensor(0, 39, [0.25], [-127]),
  tensor(1, 7, [2 ** -10, 3], [0, 5, -9, 9, 1, 1]),
];
const sound = formatTunedSegments({ via: 1, to: 3, files, tensors });
const refusal = (message: RegExp) =>
  expect.objectContaining({ code: 'bundle/invalid', message: expect.stringMatching(message) });

function floatsAt(bytes: Uint8Array, offset: number, count: number): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return Array.from({ length: count }, (_, i) => view.getFloat32(offset + 4 * i, true));
}

/** The bytes with a 32-bit field set. */
function changed(at: number, value: number, length = sound.byteLength): Uint8Array {
  const bytes = Uint8Array.from({ length }, (_, i) => sound[i] ?? 0);
  new DataView(bytes.buffer).setUint32(at, value, true);
  return bytes;
}

describe('tuned segments', () => {
  it('have exactly these bytes', () => {
    expect(Buffer.from(sound).toString('hex')).toBe(
      '4953544e01010300020000000300000037000000317191920125698f65e2e6b0c3d2ec849f7403e07a061d25ff1ac500' +
        'c51ef4f2382eefdc4355886036b8632bd907d5e7290de1c7139058b7b5fe2381a6970718010c0300a0c081830aca1f0e' +
        '2a47056938a8a00c2715022880031e0a1cf0c343f9ffffffffffffffffffffffffffff7f38e101fac304000000000003' +
        '000000080000000200000008000000000000002700000001000000010000000800000001000000070000000600000002' +
        '000000080000000000003f00000000010059980800ff8008000000803e0200800000008000000000803a000040400000' +
        '20033700414d3700',
    );
  });

  it('add differences to the numbers where they lie, and change nothing else', () => {
    const packed = parseTunedSegments(sound, manifest, path);
    expect(packed).toMatchObject({ via: 1, to: 3 });
    const [first, second, shared] = bodies.map((bytes, index) => packed.apply(refs[index]!, bytes));
    expect(second).toBe(bodies[1]);
    for (const [file, after] of [
      [0, first],
      [2, shared],
    ] as const) {
      const before = bodies[file]!;
      const untouched = new Set(Array.from(before, (_, i) => i));
      for (const { file: index, offset, steps, differences } of tensors) {
        if (files[index] !== refs[file]!.sha256) continue;
        const size = differences.length / steps.length;
        const expected = floatsAt(before, offset, differences.length).map((value, i) =>
          Math.fround(value + differences[i]! * steps[Math.floor(i / size)]!),
        );
        expect(floatsAt(after!, offset, differences.length)).toEqual(expected);
        for (let i = 0; i < 4 * differences.length; i++) untouched.delete(offset + i);
      }
      for (const at of untouched) expect(after![at]).toBe(before[at]);
    }
  });

  it('may change nothing', () => {
    const bytes = formatTunedSegments({ via: 2, to: 3, files: [], tensors: [] });
    expect(bytes).toHaveLength(20);
    const packed = parseTunedSegments(bytes, manifest, path);
    expect(packed.apply(refs[1]!, bodies[1]!)).toBe(bodies[1]);
    const zeros = [tensor(0, 3, [0, 0], new Array<number>(8).fill(0))];
    const same = parseTunedSegments(
      formatTunedSegments({ via: 1, to: 3, files, tensors: zeros }),
      manifest,
      path,
    );
    expect(same.apply(refs[0]!, bodies[0]!)).toEqual(bodies[0]);
  });

  it('come back as they were, whatever they are', () => {
    const group = fc.record({
      step: fc.float({ min: 0, max: 8, noNaN: true }),
      values: fc.array(fc.integer({ min: -127, max: 127 }), { minLength: 5, maxLength: 5 }),
    });
    fc.assert(
      fc.property(fc.array(group, { minLength: 1, maxLength: 8 }), fc.nat(30), (groups, offset) => {
        const steps = groups.map(({ step }) => step);
        const differences = groups.flatMap(({ step, values }) =>
          values.map((value) => (step > 0 ? value : 0)),
        );
        const bytes = formatTunedSegments({
          via: 1,
          to: 3,
          files,
          tensors: [tensor(0, offset, steps, differences)],
        });
        const zeroed = Uint8Array.from(bodies[0]!).fill(0, offset, offset + 4 * differences.length);
        const tuned = parseTunedSegments(bytes, manifest, path).apply(refs[0]!, zeroed);
        const found = floatsAt(tuned, offset, differences.length);
        differences.forEach((difference, i) => {
          expect(found[i]).toBe(Math.fround(difference * Math.fround(steps[Math.floor(i / 5)]!)) + 0);
        });
      }),
    );
  });

  it('take less where differences are small', () => {
    const body = { path: 'segments/large', numBytes: 40_000, sha256: refs[0]!.sha256 };
    const bytesOf = (size: number): number => {
      const differences = Array.from({ length: 8_000 }, (_, i) => Math.round(size * Math.sin(i * i)));
      return formatTunedSegments({
        via: 1,
        to: 3,
        files: [body.sha256],
        tensors: [tensor(0, 0, [1], differences)],
      }).byteLength;
    };
    expect(bytesOf(2)).toBeLessThan(8_000 * 0.4);
    expect(bytesOf(2)).toBeLessThan(bytesOf(100) / 2);
  });

  const records = 20 + 2 * 32 + new DataView(sound.buffer).getUint32(16, true);
  it.each<[string, () => Uint8Array, RegExp]>([
    ['nothing', () => new Uint8Array(), /none/],
    ['something else', () => changed(0, 1), /none/],
    ['another version', () => changed(4, 2), /version 2/],
    ['a reserved byte', () => changed(4, 0x01_03_01_01), /zero/],
    ['another cut at the end', () => changed(4, 0x00_02_01_01), /from cut 1 to 2, and the codec from 0 to 3/],
    ['no segment at all', () => changed(4, 0x00_03_03_01), /from cut 3 to 3/],
    ['segments without the files', () => changed(4, 0x00_03_02_01), /other segments/],
    ['four billion files', () => changed(8, 0xffffffff), /too early/],
    ['four billion tensors', () => changed(12, 0xffffffff), /too early/],
    ['tables without an end', () => changed(16, 0xffffffff), /too early/],
    ['a file that is not the bundle’s', () => changed(24, 1), /other segments/],
    ['a file that is not listed', () => changed(records, 2), /order|inside its file/],
    ['a tensor before another', () => changed(records + 20 + 4, 34), /overlap/],
    ['a tensor beyond its file', () => changed(records + 24, 197), /inside its file/],
    ['four billion elements', () => changed(records + 8, 0xfffffffe), /inside its file/],
    ['no elements', () => changed(records + 20 + 8, 0), /0 elements/],
    ['groups that do not divide', () => changed(records + 12, 3), /3 groups cannot have 8/],
    ['no groups', () => changed(records + 12, 0), /0 groups/],
    ['a stream without an end', () => changed(records + 16, 0xffffffff), /too early/],
    ['a negative step', () => changed(records + 60, 0xbf800000), /step/],
    ['an infinite step', () => changed(records + 60, 0x7f800000), /step/],
    ['a stream of nothing', () => changed(records + 60, 0), /missing, or of nothing/],
    ['more than its end', () => changed(0, 0x4e545349, sound.byteLength + 1), /follows/],
    ['less than its end', () => sound.slice(0, -1), /too early/],
    ['too much', () => new Uint8Array(manifestLimits.tunedBytes + 1), /more than 16777216/],
  ])('refuse %s', (_, make, message) => {
    expect(() => parseTunedSegments(make(), manifest, path)).toThrow(refusal(message));
  });

  it('refuse what no file holds', () => {
    const wide = { via: 1, to: 3, files, tensors: [tensor(0, 0, [1, 1], [1, 2, 3])] };
    expect(() => formatTunedSegments(wide)).toThrow(expect.objectContaining({ code: 'usage/invalid' }));
    expect(() => formatTunedSegments({ ...wide, tensors: [tensor(0, 0, [1], [-128])] })).toThrow(/±127/);
  });

  it('end in bundle/invalid or in as many bytes when damaged', () => {
    let numRefused = 0;
    fc.assert(
      fc.property(
        fc.array(fc.record({ at: fc.nat(sound.length - 1), value: fc.nat(255) }), { maxLength: 4 }),
        fc.integer({ min: sound.length - 8, max: sound.length }),
        (changes, length) => {
          const damaged = sound.slice(0, length);
          for (const { at, value } of changes) damaged[at] = value;
          try {
            const packed = parseTunedSegments(damaged, manifest, path);
            for (const [index, bytes] of bodies.entries()) {
              expect(packed.apply(refs[index]!, bytes)).toHaveLength(bytes.length);
            }
          } catch (error) {
            expect(isIsthmusError(error, 'bundle/invalid')).toBe(true);
            numRefused++;
          }
        },
      ),
      { numRuns: 2000 },
    );
    expect(numRefused).toBeGreaterThan(1000);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        expect(() => parseTunedSegments(bytes, manifest, path)).toThrow(refusal(/unsound/));
      }),
    );
  });
});
