import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import {
  builtinCodecs,
  type CodecPath,
  type CutTensor,
  type Decoder,
  elementCount,
  findCodecKind,
  isIsthmusError,
  type NamedTensors,
} from '@isthmus/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CalibratedFixture } from './support/calibrated.js';
import { makeLearnedFixture } from './support/learned.js';
import { mutate, randomFrom } from './support/mutate.js';

// What a receiver's decoders make of bytes that no encoder wrote: they say so, or give tensors of the size that the
// manifest declares, and they never take more memory than sound payloads do.
const numPayloads = { raw: 20_000, quantized: 40_000, calibrated: 40_000, learned: 40_000 } as const;
const cuts = [1, 2, 4];
const seed = 20_261_121;
/** Codes, integers, floats: what a decoder holds of a tensor and of a payload at a time, generously. */
const workingCopies = 8;
/** Decoding tables of eight contexts, which `quantized` makes for every payload. */
const tableBytes = 1_048_576;
/** Beyond noise, nothing stays. */
const keptBytes = 4_194_304;

/** A sound payload and who decodes it. */
interface Sound {
  codec: string;
  path: CodecPath;
  decoder: Decoder;
  payload: Uint8Array;
  declared: readonly CutTensor[];
  declaredBytes: number;
}

let fixture: CalibratedFixture;
let sound: Map<string, Sound[]>;
let collectGarbage: () => void;

beforeAll(async () => {
  setFlagsFromString('--expose-gc');
  collectGarbage = runInNewContext('gc') as () => void;
  fixture = await makeLearnedFixture();
  const { manifest, files, runtime, frames } = fixture;
  sound = new Map(Object.keys(numPayloads).map((kind) => [kind, []]));
  for (const entry of manifest.codecs) {
    const kind = findCodecKind(builtinCodecs, entry);
    const context = {
      manifest,
      entry,
      runtime,
      readFile: async ({ path }: { path: string }) => files.get(path)!,
    };
    const [encoder, decoder] = [await kind.createEncoder(context), await kind.createDecoder(context)];
    for (const { from, to } of entry.paths.filter(({ from }) => cuts.includes(from))) {
      const tensors = await fixture.tensorsAt(from, frames[1]);
      const { tensors: declared, numBytes: declaredBytes } = manifest.cuts[to]!;
      for (const level of entry.levels.keys()) {
        const path = { from, to, level };
        const payload = await encoder.encode(tensors, path);
        // What is made once, like tables for decoding, is there before anything is counted.
        expect(findFault(await decoder.decode(payload, path), declared)).toBeUndefined();
        sound.get(entry.kind)!.push({ codec: entry.id, path, decoder, payload, declared, declaredBytes });
      }
    }
  }
}, 60_000);
afterAll(() => fixture.runtime.close());

/** How what was decoded differs from what was declared. */
function findFault(decoded: NamedTensors, declared: readonly CutTensor[]): string | undefined {
  if (Object.keys(decoded).length !== declared.length) return `${Object.keys(decoded).length} tensors`;
  for (const { name, type, shape } of declared) {
    const tensor = decoded[name];
    if (tensor?.type !== type) return `${name} is ${tensor?.type}`;
    if (tensor.shape.join() !== shape.join()) return `${name} has shape ${tensor.shape}`;
    if (tensor.data.length !== elementCount(shape)) return `${name} has ${tensor.data.length} values`;
  }
  return undefined;
}

/** Bytes that are still in use; buffers are given back a little after they were collected. */
async function measureKept(): Promise<number> {
  for (let times = 0; times < 3; times++) {
    collectGarbage();
    await sleep(20);
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

describe('the decoders', () => {
  it.each(Object.entries(numPayloads))(
    'of %s answer %i damaged payloads with codec/corrupt or with the tensors declared',
    async (kind, count) => {
      const random = randomFrom(seed);
      const cases = sound.get(kind)!;
      const all = [...sound.values()].flat();
      expect(new Set(cases.map(({ path }) => path.from))).toEqual(new Set(cuts));
      const pick = <Item>(items: readonly Item[]): Item => items[Math.floor(random() * items.length)]!;
      const faults: string[] = [];
      let numCorrupt = 0;
      let largestExcessBytes = 0;
      const before = await measureKept();
      for (let i = 0; i < count && faults.length < 10; i++) {
        const { codec, path, decoder, payload, declared, declaredBytes } = pick(cases);
        const damaged = mutate(payload, pick(random() < 0.5 ? cases : all).payload, random);
        const startBytes = process.memoryUsage().arrayBuffers;
        let fault: string | undefined;
        try {
          fault = findFault(await decoder.decode(damaged, path), declared);
        } catch (error) {
          if (isIsthmusError(error, 'codec/corrupt')) numCorrupt++;
          else fault = String(error);
        }
        // Collecting garbage on the way only makes this less; it does not do so in most of so many.
        const taken = process.memoryUsage().arrayBuffers - startBytes;
        largestExcessBytes = Math.max(
          largestExcessBytes,
          taken - workingCopies * (declaredBytes + damaged.length),
        );
        if (fault !== undefined) {
          faults.push(`${codec} cut ${path.from} level ${path.level}, payload ${i}: ${fault}`);
        }
      }
      expect(faults).toEqual([]);
      expect(largestExcessBytes).toBeLessThan(tableBytes);
      expect((await measureKept()) - before).toBeLessThan(keptBytes);
      // Both ends of the road were seen: most are refused, some happen to be sound.
      expect(numCorrupt).toBeGreaterThan(count / 2);
      expect(numCorrupt).toBeLessThan(count);
    },
    120_000,
  );
});
