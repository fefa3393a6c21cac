import {
  calibratedFiles,
  learnedTensors,
  type NamedTensors,
  parseCalibratedTables,
  systemClock,
} from '@isthmus/core';
import {
  addCodec,
  type Bundle,
  bundleSpan,
  createGraphBuilder,
  importCodec,
  int64Tensor,
  type ModelProto,
  readModel,
} from '@isthmus/graph';
import { chainModels, renameTensors } from '../../packages/graph/src/testing/networks.js';
import { type CalibratedFixture, makeCalibratedFixture } from './calibrated.js';
import { withBundle } from './fixture.js';

/**
 * A {@link CalibratedFixture} with learned codecs that needed no training: `learned-1` and `learned-2-4` are the networks
 * and tables of `calibrated` at cuts 1 and 2, the second landing at cut 4 by way of the segments between; `learned-4` has
 * both tensors of that cut in one latent.
 */
export async function makeLearnedFixture(): Promise<CalibratedFixture> {
  const plain = await makeCalibratedFixture([1, 2, 4]);
  let bundle: Bundle = plain;
  for (const { from, to } of [
    { from: 1, to: 1 },
    { from: 2, to: 4 },
  ]) {
    const options = await asLearned(bundle, from, to);
    bundle = await importInto(plain, bundle, { ...options, from, to });
  }
  bundle = await importInto(plain, bundle, { ...bothInOne(), from: 4, to: 4, frames: plain.frames });
  return withBundle(plain, bundle);
}

async function importInto(
  { runtime }: CalibratedFixture,
  bundle: Bundle,
  options: {
    from: number;
    to: number;
    encoder: ModelProto;
    decoder: ModelProto;
    tables?: ReturnType<typeof parseCalibratedTables>;
    frames?: readonly NamedTensors[];
  },
): Promise<Bundle> {
  const { from, to } = options;
  const id = from === to ? `learned-${from}` : `learned-${from}-${to}`;
  const tuning = { maxValues: 10_000 };
  return addCodec(bundle, await importCodec({ bundle, runtime, clock: systemClock, id, tuning, ...options }));
}

/** The first calibrated codec of a cut, of one tensor, as a learned one that may land later. */
async function asLearned(bundle: Bundle, from: number, to: number) {
  const { manifest, files } = bundle;
  const { id } = manifest.codecs.find(({ kind, paths }) => kind === 'calibrated' && paths[0]!.from === from)!;
  const names = { x: manifest.cuts[from]!.tensors[0]!.name, y: learnedTensors.latent };
  const encoder = await readModel(files.get(calibratedFiles.encoder(id, 0))!);
  const decoder = renameTensors(await readModel(files.get(calibratedFiles.decoder(id, 0))!), names, 'd/');
  const tables = parseCalibratedTables(new TextDecoder().decode(files.get(calibratedFiles.tables(id))));
  return {
    encoder: renameTensors(encoder, names, 'e/'),
    decoder: from === to ? decoder : chainModels(decoder, await readModel(bundleSpan(bundle, from, to))),
    tables: {
      ...tables,
      tensors: tables.tensors.map((tensor) => ({ ...tensor, name: learnedTensors.latent })),
    },
  };
}

/** From [1, 16, 8, 8] and [1, 16, 1, 1] to a latent of 32 channels, and back. */
function bothInOne(): { encoder: ModelProto; decoder: ModelProto } {
  const encoder = createGraphBuilder({ name: 'encoder', opset: 17 });
  const features = encoder.input('features', 'float32', [1, 16, 8, 8]);
  const pooled = encoder.input('pooled', 'float32', [1, 16, 1, 1]);
  const spread = encoder.node('Expand', [pooled, encoder.constant('shape', int64Tensor([1, 16, 8, 8]))]);
  encoder.node('Concat', [features, spread], { axis: 1 }, { output: learnedTensors.latent });
  encoder.output(learnedTensors.latent, 'float32', [1, 32, 8, 8]);
  const decoder = createGraphBuilder({ name: 'decoder', opset: 17 });
  const latent = decoder.input(learnedTensors.latent, 'float32', [1, 32, 8, 8]);
  const sizes = decoder.constant('sizes', int64Tensor([16, 16]));
  const [, wide] = decoder.multiNode('Split', [latent, sizes], ['features', 'wide'], { axis: 1 });
  decoder.node('GlobalAveragePool', [wide!], {}, { output: 'pooled' });
  decoder.output('features', 'float32', [1, 16, 8, 8]);
  decoder.output('pooled', 'float32', [1, 16, 1, 1]);
  return { encoder: encoder.build(), decoder: decoder.build() };
}
