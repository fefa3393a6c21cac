import type { Manifest, PictureCoder, Runtime, Tensor } from '@isthmus/core';
import { type Bundle, bundleSpan, readModel, readTensor } from '@isthmus/graph';
import {
  type Adapter,
  bottleneck,
  bottleneckPhases,
  buildTrainingStep,
  type CodecArchitecture,
  type CodecTraining,
  draftCodecTraining,
  encoderBranches,
  landing,
  landingDecoders,
  landingGeometry,
  landingPhases,
  landingStages,
  latentFront,
  mapsOf,
  type OutputKind,
  type Phase,
  pictureAdapter,
  pictureFront,
  type Stages,
  singleStage,
  type Target,
  type TrainingPlan,
} from '@isthmus/train';
import { type BatchMaker, latentBatches, pictureBatches } from './batch.js';
import { type ComparedCuts, comparedCuts } from './choice.js';
import { openCodedPictures } from './coded-pictures.js';
import { type TrainingSetup, tensorOf } from './setup.js';
import { randomFor } from './shuffle.js';

/** Frames that a step of the optimizer sees, in one batch where the model takes several. */
export const framesPerStep = 8;

/** What is compared: at first features only, where a training has such a stage. */
export type TrainingStage = 'features' | 'outputs';

export interface TrainingGraph {
  /** Of a codec with a latent. */
  architecture?: CodecArchitecture;
  /** Of a picture codec. */
  adapter?: Adapter;
  /** Of the tuned segments, as they were before. */
  initializers: ReadonlyMap<string, Tensor>;
  training: CodecTraining;
  makeBatch: BatchMaker;
  stages: Stages;
  phases: readonly Phase[];
  /** Steps of the optimizer, of which there will be so many; made only where training is to go on. */
  buildPlan(numSteps: number, stage: TrainingStage): TrainingPlan;
}

export interface GraphOptions {
  bundle: Bundle;
  runtime: Runtime;
  /** For codecs of pictures. */
  coder: PictureCoder;
}

/**
 * @param powers Variances of the compared tensors, by name.
 * @param compared @default by what is trained
 */
export async function buildGraph(
  options: GraphOptions,
  setup: TrainingSetup,
  powers: Readonly<Record<string, number>>,
  compared: ComparedCuts = comparedCuts(options.bundle.manifest, setup),
): Promise<TrainingGraph> {
  const { bundle } = options;
  const { manifest } = bundle;
  const { tuneTo } = setup;
  const { at, later, last } = compared;
  const batchSize = manifest.dynamicBatch ? framesPerStep : 1;
  const targetsAt = (cut: number): Target[] =>
    (manifest.cuts[cut]?.tensors ?? [])
      .filter(({ type }) => type === 'float32')
      .map(({ name, shape }) => ({ name, shape, power: powers[name] ?? 1 }));
  const tuned = tuneTo > at ? await readModel(bundleSpan(bundle, at, tuneTo)) : undefined;
  const tail = tuneTo < last ? await readModel(bundleSpan(bundle, tuneTo, last)) : undefined;
  const ends = await openEnds(options, setup, powers, batchSize);
  const landed = tensorOf(manifest, at);
  const training = draftCodecTraining({
    ...{ front: ends.front, batchSize, tuned, tail },
    decoded: { name: landed.name, shape: landed.shape, power: powers[landed.name] ?? 1 },
    later: later.flatMap(targetsAt),
    outputs: targetsAt(last).map((target) => ({ ...target, kind: kindOf(manifest, target.name) })),
  });
  const { architecture, adapter, makeBatch } = ends;
  const { rate, features, later: laterTerm } = training.terms;
  return {
    ...(architecture !== undefined && { architecture }),
    ...(adapter !== undefined && { adapter }),
    ...{ training, makeBatch },
    initializers: new Map(tuned?.graph?.initializer.map((proto) => [proto.name, readTensor(proto)])),
    ...(setup.to > setup.from
      ? { stages: landingStages, phases: landingPhases }
      : { stages: singleStage, phases: bottleneckPhases }),
    buildPlan: (numSteps, stage) =>
      buildTrainingStep(training.draft, {
        loss: stage === 'outputs' ? training.loss : training.featureLoss,
        metrics: stage === 'outputs' ? training.terms : { rate, features, later: laterTerm },
        optimizer: { clipNorm: 1, averageDecay: averageDecayFor(numSteps) },
        accumulates: batchSize < framesPerStep,
      }),
  };
}

type Ends = Pick<TrainingGraph, 'architecture' | 'adapter' | 'makeBatch'> & {
  front: ReturnType<typeof latentFront>;
};

// What is before the cut where the codec lands.
async function openEnds(
  { bundle: { manifest }, runtime, coder }: GraphOptions,
  setup: TrainingSetup,
  powers: Readonly<Record<string, number>>,
  batchSize: number,
): Promise<Ends> {
  const { latent, format, qualities, hasAdapter, seed } = setup;
  if (latent !== undefined) {
    const architecture = architectureOf(manifest, setup, latent);
    const latentShape = [batchSize, ...architecture.latentShape.slice(1)];
    const makeBatch = latentBatches(architecture.input.name, latentShape);
    return { architecture, makeBatch, front: latentFront(architecture) };
  }
  if (format === undefined) throw new TypeError('A training without a latent is of pictures.');
  const input = tensorOf(manifest, 0);
  const deviation = Math.sqrt(powers[input.name] ?? 1);
  const random = randomFor(seed, 'weights');
  const adapter = hasAdapter ? pictureAdapter({ input, deviation, random }) : undefined;
  const coded = await openCodedPictures({ manifest, runtime, coder, format, qualities });
  return {
    ...(adapter !== undefined && { adapter }),
    ...{ makeBatch: pictureBatches(coded), front: pictureFront(input, adapter) },
  };
}

function architectureOf(
  manifest: Manifest,
  { to, network, decoder, seed }: TrainingSetup,
  { start, numComponents, landing: linear }: NonNullable<TrainingSetup['latent']>,
): CodecArchitecture {
  const random = randomFor(seed, 'weights');
  const given = { start, numComponents, random, branch: encoderBranches[network] };
  if (linear === undefined) return bottleneck(given);
  const output = tensorOf(manifest, to);
  const maps = mapsOf(output.shape);
  const { height, width, block } = start.layout;
  const geometry = landingGeometry({ rows: height / block, columns: width / block }, maps);
  return landing({ ...given, output, maps, geometry, linear, decoder: landingDecoders[decoder] });
}

// The average reaches back over a twentieth of the training.
function averageDecayFor(numSteps: number): number {
  return Math.min(0.9995, Math.max(0.5, 1 - 20 / numSteps));
}

function kindOf({ task }: Manifest, name: string): OutputKind {
  if (task.kind !== 'classification' || task.output !== name) return 'values';
  return task.activation === 'softmax' ? 'logits' : 'probabilities';
}
