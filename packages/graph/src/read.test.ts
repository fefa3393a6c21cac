import { isIsthmusError } from '@isthmus/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { indexFlow } from './flow.js';
import { normalizeModel } from './normalize.js';
import { readModel } from './read.js';
import { inferShapes, resolveInputShapes } from './shapes.js';
import { float32Tensor, int64Tensor, readTensor, tensorProto } from './tensors.js';
import { externalize } from './testing/external.js';
import { chainModel, inceptionModel } from './testing/models.js';
import { writeModel } from './write.js';

const small = writeModel(inceptionModel());

describe('readModel', () => {
  it('gives back what was written', async () => {
    expect(writeModel(await readModel(small))).toEqual(small);
  });

  it.each([
    ['nothing', new Uint8Array(), 'model/not-onnx'],
    ['text', new TextEncoder().encode('<!doctype html><title>404</title>'), 'model/not-onnx'],
    ['a TensorFlow Lite file', new TextEncoder().encode('\x1c\0\0\0TFL3\x14\0\x20\0'), 'model/not-onnx'],
    ['half a model', small.subarray(0, small.length >> 1), 'model/truncated'],
    ['all but a byte', small.subarray(0, small.length - 1), 'model/truncated'],
    [
      'a fragment without a header',
      writeModel({ ...chainModel(), opsetImport: [], irVersion: 0n }),
      'model/truncated',
    ],
  ])('refuses %s', async (_, bytes, code) => {
    await expect(readModel(bytes)).rejects.toMatchObject({ code });
  });

  it('refuses a model without a graph, an old operator set, a weight that is too short', async () => {
    const { graph: _, ...rest } = chainModel();
    await expect(readModel(writeModel(rest))).rejects.toMatchObject({ code: 'model/invalid' });
    const old = writeModel(chainModel(1, 8));
    await expect(readModel(old)).rejects.toMatchObject({ code: 'model/unsupported', details: { opset: 8 } });
    const model = chainModel();
    const weight = model.graph!.initializer[2]!;
    weight.rawData = weight.rawData.subarray(4);
    await expect(readModel(writeModel(model))).rejects.toMatchObject({
      code: 'model/invalid',
      message: expect.stringContaining(weight.name),
    });
  });

  it('answers damaged bytes with a model or a typed error', async () => {
    const damage = fc.record({
      length: fc.integer({ min: 0, max: small.length }),
      edits: fc.array(fc.tuple(fc.nat(small.length - 1), fc.nat(255)), { maxLength: 8 }),
    });
    await fc.assert(
      fc.asyncProperty(damage, async ({ length, edits }) => {
        const bytes = small.slice();
        for (const [position, value] of edits) bytes[position] = value;
        try {
          const model = await readModel(bytes.subarray(0, length));
          const flow = indexFlow(normalizeModel(model));
          inferShapes(flow, resolveInputShapes(flow.model.graph!.input));
        } catch (error) {
          if (!isIsthmusError(error)) throw error;
          expect(error.code).toMatch(/^(model|usage)\//);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('answers damage to the structure, too', async () => {
    // The first bytes hold the nodes: names, links and attributes, where most can go wrong.
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(1200), fc.nat(255)), { minLength: 1, maxLength: 3 }),
        async (edits) => {
          const bytes = small.slice();
          for (const [position, value] of edits) bytes[position] = value;
          try {
            const flow = indexFlow(normalizeModel(await readModel(bytes)));
            inferShapes(flow, resolveInputShapes(flow.model.graph!.input));
          } catch (error) {
            if (!isIsthmusError(error)) throw error;
          }
        },
      ),
      { numRuns: 2000 },
    );
  });
});

describe('readModel with weights in another file', () => {
  it('brings them in', async () => {
    const model = chainModel();
    const whole = writeModel(model);
    const weights = externalize(model, 'sub/weights.bin');
    const asked: string[] = [];
    const read = await readModel(writeModel(model), {
      readExternal: async (location) => {
        asked.push(location);
        return weights;
      },
    });
    expect(asked).toEqual(['sub/weights.bin']);
    const original = await readModel(whole);
    expect(read.graph!.initializer.map(readTensor)).toEqual(original.graph!.initializer.map(readTensor));
  });

  it.each(['../weights.bin', '/etc/passwd', 'a/../../b', 'C:\\weights', 'a\\..\\b', '', '.', 'a\0b', 'c:x'])(
    'does not leave the folder for %j',
    async (location) => {
      const model = chainModel();
      const weights = externalize(model, location);
      const reading = readModel(writeModel(model), { readExternal: async () => weights });
      await expect(reading).rejects.toMatchObject({ code: 'model/external-data' });
    },
  );

  it('refuses a file that is missing, too short, or not to be had', async () => {
    const model = chainModel();
    const weights = externalize(model, 'weights.bin');
    const bytes = writeModel(model);
    const missing = async (): Promise<Uint8Array> => {
      throw new Error('ENOENT');
    };
    for (const options of [
      { readExternal: missing },
      { readExternal: async () => weights.subarray(1) },
      {},
    ]) {
      await expect(readModel(bytes, options)).rejects.toMatchObject({ code: 'model/external-data' });
    }
  });

  it.each([
    ['offset', '-4'],
    ['offset', '99999999999999'],
    ['length', '1e9'],
    ['length', '3'],
  ])('refuses the %s %s', async (key, value) => {
    const model = chainModel();
    const weights = externalize(model, 'weights.bin');
    model.graph!.initializer[0]!.externalData.find((entry) => entry.key === key)!.value = value;
    const reading = readModel(writeModel(model), { readExternal: async () => weights });
    await expect(reading).rejects.toMatchObject({ code: 'model/external-data' });
  });
});

describe('readTensor', () => {
  it('reads typed fields like raw bytes', () => {
    const raw = tensorProto('t', int64Tensor([1, -2, 3]));
    const typed = tensorProto('t', int64Tensor([]));
    typed.dims = [3n];
    typed.int64Data = [1n, -2n, 3n];
    expect(readTensor(typed)).toEqual(readTensor(raw));
    const floats = tensorProto('f', float32Tensor([]));
    floats.dims = [2n];
    floats.floatData = [0.5, 2];
    expect(readTensor(floats)).toEqual(float32Tensor([0.5, 2]));
  });
});
