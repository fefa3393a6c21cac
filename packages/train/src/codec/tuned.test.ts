import { createTensor, float16ToFloat32, float32ToFloat16 } from '@isthmus/core';
import { createGraphBuilder, float32Tensor, readTensor } from '@isthmus/graph';
import { describe, expect, it } from 'vitest';
import { Draft } from '../draft.js';
import { addGradients } from '../gradients.js';
import { seededRandom } from '../testing/random.js';
import { loadModel } from '../testing/run.js';
import { pictureAdapter } from './adapter.js';
import { pictureFront } from './fronts.js';
import { asHalf } from './halves.js';
import { exportAdapter } from './networks.js';
import { draftCodecTraining } from './training-draft.js';
import { trainingInputs } from './training-inputs.js';
import { addTuned, tunedWeights } from './tuned.js';

function span() {
  const builder = createGraphBuilder({ name: 'span', opset: 17 });
  const x = builder.input('frame', 'float32', ['batch', 2]);
  const weight = builder.constant('w', float32Tensor([3, 0, 0, 4], [2, 2]));
  builder.node('MatMul', [x, weight], {}, { output: 'inner' });
  builder.node('Clip', ['inner', builder.constant('low', float32Tensor([0], []))], {}, { output: 'y' });
  builder.output('y', 'float32', ['batch', 2]);
  return builder.build();
}

describe('tuned segments', () => {
  it('answer as before at first, and are moved in units of their own size', async () => {
    const draft = new Draft();
    const x = draft.input('x', 'float32', [1, 2]);
    const { outputs, nameOf } = addTuned(draft, span(), { frame: x });
    expect(draft.has(nameOf('inner'))).toBe(true);
    // A limit is no weight.
    expect(draft.parameters.map(({ name }) => name)).toEqual([nameOf('w/change')]);
    const y = outputs.get('y') ?? '';
    const change = float32Tensor([0.1, 0, 0, -0.2], [2, 2]);
    const weights = new Map([[nameOf('w/change'), change]]);
    const feeds = { x: float32Tensor([1, 1], [1, 2]) };
    const before = await loadModel(
      draft.build([y], new Map(draft.parameters.map(({ name, tensor }) => [name, tensor]))),
    );
    expect([...((await before(feeds))[y] ?? [])]).toEqual([3, 4]);
    const after = await loadModel(draft.build([y], weights));
    const initial = new Map(span().graph?.initializer.map((proto) => [proto.name, readTensor(proto)]));
    const tuned = tunedWeights(weights, initial);
    expect([...tuned.keys()]).toEqual(['w']);
    const [a = 0, , , d = 0] = tuned.get('w')?.data ?? [];
    // The root mean square is 2.5: 0.15 of a weight's size and of a tenth of that.
    expect([a, d]).toEqual([
      expect.closeTo(3 + 0.1 * 0.15 * 3.25, 5),
      expect.closeTo(4 - 0.2 * 0.15 * 4.25, 5),
    ]);
    expect([...((await after(feeds))[y] ?? [])]).toEqual([expect.closeTo(a, 5), expect.closeTo(d, 5)]);
  });
});

describe('an adapter', () => {
  const input = { name: 'image', shape: [1, 3, 8, 6] };
  const adapter = pictureAdapter({ input, deviation: 50, random: seededRandom(3), width: 4 });
  const picture = Float32Array.from({ length: 144 }, (_, at) => 100 * Math.sin(at));

  it('leaves pictures as they are until it is trained', async () => {
    const model = exportAdapter(adapter, new Map());
    const [output = ''] = model.graph?.output.map(({ name }) => name) ?? [];
    expect(output).not.toBe('image');
    const run = await loadModel(model);
    const { [output]: mended = [] } = await run({
      image: createTensor('float32', [1, 3, 8, 6], picture),
      level: float32Tensor([1]),
    });
    picture.forEach((value, at) => {
      expect(mended[at]).toBeCloseTo(value, 3);
    });
  });

  it('has gradients for all that it and the segments behind it are made of', async () => {
    const builder = createGraphBuilder({ name: 'model', opset: 17 });
    const x = builder.input('image', 'float32', ['batch', 3, 8, 6]);
    const pooled = builder.node('Flatten', [builder.node('GlobalAveragePool', [builder.node('Relu', [x])])]);
    const weight = builder.constant('w', float32Tensor([0.1, 0.2, 0.3, 0.4, -0.1, 0.2], [3, 2]));
    builder.node('MatMul', [pooled, weight], {}, { output: 'scores' });
    builder.output('scores', 'float32', ['batch', 2]);
    const { draft, loss, terms } = draftCodecTraining({
      ...{ front: pictureFront(input, adapter), batchSize: 1, tuned: builder.build(), later: [] },
      decoded: { name: 'image', shape: [1, 3, 8, 6], power: 2500 },
      outputs: [{ name: 'scores', shape: [1, 2], power: 1, kind: 'logits' }],
    });
    const names = draft.parameters.map(({ name }) => name);
    expect(names).toContain('tuned/w/change');
    const gradients = addGradients(draft, { loss, of: names });
    const run = await loadModel(draft.build([loss, terms.rate, ...gradients.values()]));
    const results = await run({
      ...Object.fromEntries(draft.parameters.map(({ name, tensor }) => [name, tensor])),
      [trainingInputs.features]: createTensor('float32', [1, 3, 8, 6], picture),
      [trainingInputs.level]: float32Tensor([0.5], [1, 1, 1, 1]),
      [trainingInputs.bits]: float32Tensor([808]),
      [trainingInputs.weights]: float32Tensor([0, 0, 0, 1], [1, 4]),
      [trainingInputs.target('image')]: createTensor('float32', [1, 3, 8, 6], picture),
      [trainingInputs.target('scores')]: float32Tensor([3, -3], [1, 2]),
    });
    expect([...(results[terms.rate] ?? [])]).toEqual([808]);
    const moved = names.filter((name) => results[gradients.get(name) ?? '']?.some((value) => value !== 0));
    expect(moved).toContain('adapter.last.weight');
    expect(moved).toContain('tuned/w/change');
  });
});

describe('half precision', () => {
  it('is what large weights are stored in, if asked, and leaves the rest', async () => {
    const input = { name: 'image', shape: [1, 3, 8, 6] };
    const adapter = pictureAdapter({ input, deviation: 1, random: seededRandom(3), width: 16 });
    const random = seededRandom(9);
    const weights = new Map([
      [
        'adapter.last.weight',
        float32Tensor(Float32Array.from({ length: 12 * 16 * 9 }, random), [12, 16, 3, 3]),
      ],
    ]);
    const picture = createTensor(
      'float32',
      [1, 3, 8, 6],
      Float32Array.from({ length: 144 }, () => random()),
    );
    const outputOf = async (model: ReturnType<typeof exportAdapter>): Promise<Float32Array> => {
      const [output = ''] = model.graph?.output.map(({ name }) => name) ?? [];
      const results = await (await loadModel(model))({ image: picture, level: float32Tensor([0]) });
      return (results[output] ?? new Float32Array()) as Float32Array;
    };
    const half = exportAdapter(adapter, weights, { halves: true });
    expect(half.graph?.initializer.map(({ name }) => name)).toContain('adapter.last.weight/half');
    const names = [...(exportAdapter(adapter, weights).graph?.initializer ?? [])].map(({ name }) => name);
    const all = new Map([...weights].map(([name, tensor]) => [name, asHalf(tensor)]));
    expect(names).toContain('adapter.last.weight');
    const [stored, rounded] = [await outputOf(half), await outputOf(exportAdapter(adapter, all))];
    // First and second layer are rounded as well.
    rounded.forEach((value, at) => {
      expect(Math.abs((stored[at] ?? 0) - value)).toBeLessThan(0.02);
    });
    const value = all.get('adapter.last.weight')?.data[5] ?? 0;
    expect(float16ToFloat32(float32ToFloat16(Float32Array.of(value)))[0]).toBe(value);
    // What half precision cannot hold stays.
    const huge = float32Tensor(new Float32Array(300).fill(1e6), [300]);
    expect(asHalf(huge)).toBe(huge);
  });
});
