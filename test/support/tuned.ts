import { createTensor, type NamedTensors, systemClock, type Tensor } from '@isthmus/core';
import {
  addCodec,
  type Bundle,
  bundleSpan,
  createGraphBuilder,
  float32Tensor,
  importAdapted,
  importCodec,
  type ModelProto,
  readModel,
  readTensor,
  tensorProto,
  writeModel,
} from '@isthmus/graph';
import { createSharpCoder } from '@isthmus/runtime/pictures';
import { type Fixture, makeFixture, withBundle } from './fixture.js';
import { squarePictures } from './preprocess.js';

/**
 * A {@link Fixture} with codecs that go on through tuned segments: `learned-tuned` leaves from cut 2, its decoder lands there
 * and the tuned segments lead to the model's end; `webp-tuned` is a picture with them; `webp-adapted` has an adapter, too,
 * that brightens the picture.
 */
export interface TunedFixture extends Fixture {
  frames: NamedTensors[];
  /** What the segments from cut 0 or 2 to the end, as tuned, make of that cut's tensors. */
  runTuned(from: number, tensors: NamedTensors): Promise<NamedTensors>;
}

const side = 32;
const preprocess = squarePictures(side);
/** What the adapter adds. */
export const brightness = 0.5;

export async function makeTunedFixture(): Promise<TunedFixture> {
  const plain = await makeFixture(side);
  const last = plain.manifest.cuts.length - 1;
  const { runtime } = plain;
  const frames = Array.from({ length: 8 }, (_, seed) => {
    const data = Float32Array.from({ length: 3 * side * side }, (_, i) => {
      const [channel, y, x] = [Math.floor(i / side ** 2), Math.floor(i / side) % side, i % side];
      return 0.9 * Math.sin((seed + 2) * 0.13 * x + channel) * Math.cos((seed % 5) * 0.2 * y);
    });
    return { image: createTensor('float32', [1, 3, side, side], data) };
  });
  let bundle: Bundle = { manifest: { ...plain.manifest, preprocess }, files: plain.files };
  const span = async (from: number): Promise<ModelProto> => readModel(bundleSpan(bundle, from, last));
  const { initializer } = (await span(2)).graph!;
  const { shape, data } = readTensor(initializer.find(({ name }) => name === 'features.weight')!);
  const moved = Float32Array.from(data as Float32Array, (value, i) => value * (1 + 0.3 * Math.sin(5 * i)));
  const weights = new Map<string, Tensor<'float32'>>([['features.weight', float32Tensor(moved, shape)]]);

  const options = { runtime, clock: systemClock, frames, to: last };
  const learned = await importCodec({
    ...{ bundle, ...options, id: 'learned-tuned', from: 2, steps: [0.02, 0.3], tuned: { via: 2, weights } },
    encoder: passOn('middle', 'latent'),
    decoder: passOn('latent', 'middle'),
  });
  const webp = {
    pictures: createSharpCoder(),
    format: 'webp',
    qualities: [90, 20],
    tuned: { via: 0, weights },
  } as const;
  const pictures = await importAdapted({ bundle, ...options, ...webp, id: 'webp-tuned' });
  const adapted = await importAdapted({
    bundle,
    ...options,
    ...webp,
    id: 'webp-adapted',
    adapter: brighten(),
  });
  for (const codec of [learned, pictures, adapted]) bundle = addCodec(bundle, codec);
  return {
    ...(await withBundle(plain, bundle)),
    frames,
    async runTuned(from, tensors) {
      const model = await span(from);
      const graph = model.graph!;
      graph.initializer = graph.initializer.map((proto) => {
        const tuned = weights.get(proto.name);
        return tuned === undefined ? proto : tensorProto(proto.name, tuned);
      });
      const session = await runtime.load(writeModel(model));
      const { outputs } = await session.run(tensors);
      await session.release();
      return outputs;
    },
  };
}

function passOn(from: string, to: string): ModelProto {
  const graph = createGraphBuilder({ name: 'pass', opset: 17 });
  graph.node('Identity', [graph.input(from, 'float32', [1, 16, 16, 16])], {}, { output: to });
  graph.output(to, 'float32', [1, 16, 16, 16]);
  return graph.build();
}

function brighten(): ModelProto {
  const graph = createGraphBuilder({ name: 'brighten', opset: 17 });
  const image = graph.input('image', 'float32', [1, 3, side, side]);
  graph.node('Add', [image, graph.constant('by', float32Tensor([brightness]))], {}, { output: 'adapted' });
  graph.output('adapted', 'float32', [1, 3, side, side]);
  return graph.build();
}
