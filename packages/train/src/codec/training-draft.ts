import type { ModelProto } from '@isthmus/graph';
import { Draft } from '../draft.js';
import { graft } from '../graft.js';
import { Ops } from '../ops.js';
import type { CodecArchitecture } from './architecture.js';
import { addDivergence, addSquaredError, type OutputKind } from './distortion.js';
import { addQuantizer } from './quantizer.js';
import { addRate } from './rate.js';

/** A tensor of the uncompressed model that training compares with. */
export interface Target {
  name: string;
  /** Of one frame: [1, …]. */
  shape: readonly number[];
  /** Its variance over frames, or its mean square. Not used for classes. */
  power: number;
}

export interface CodecTrainingOptions {
  architecture: CodecArchitecture;
  /** Frames a batch. */
  batchSize: number;
  /** The frozen model from the cut where the codec lands to its end. */
  tail: ModelProto;
  /** At the cut where the codec lands. */
  decoded: Target;
  /** At later cuts. */
  later: readonly Target[];
  outputs: readonly (Target & { kind: OutputKind })[];
}

/** Inputs of a training draft. */
export const trainingInputs = {
  /** The tensor that the encoder takes. */
  features: 'train/features',
  /** Of each frame, [batch, 1, 1, 1]. */
  step: 'train/step',
  level: 'train/level',
  /** Like the latent: uniform from −½ to ½. */
  noise: 'train/noise',
  /** [1] */
  hardness: 'train/hardness',
  /** [batch, terms]: what each term counts for each frame. */
  weights: 'train/weights',
  target: (name: string): string => `train/target/${name}`,
} as const;

/** Of each frame: rate in bits; relative errors at the cut and at later ones; divergence or error of the outputs. */
export const trainingTerms = ['rate', 'features', 'later', 'outputs'] as const;
export type TrainingTerm = (typeof trainingTerms)[number];

/** What a codec is trained with, as a graph. */
export interface CodecTraining {
  draft: Draft;
  /** The weighted sum of the terms, averaged over the batch. */
  loss: string;
  /** Names of the terms: [batch] each. */
  terms: Readonly<Record<TrainingTerm, string>>;
  /** What the outputs are called in the draft, by their names in the model. */
  outputs: ReadonlyMap<string, string>;
  latentShape: readonly number[];
}

/**
 * The graph in which a codec is trained: encoder, quantizer, decoder, the frozen rest of the model, and how far from
 * the uncompressed model all that comes, in bits and in errors.
 *
 * @throws IsthmusError as {@link graft}
 */
export function draftCodecTraining(options: CodecTrainingOptions): CodecTraining {
  const { architecture, batchSize, tail, decoded, later } = options;
  const opset = Number(tail.opsetImport.find(({ domain }) => domain === '')?.version ?? 17);
  const draft = new Draft({ opset: Math.max(17, opset) });
  const ops = new Ops(draft);
  const batched = (shape: readonly number[]): number[] => [
    ...(shape.length > 0 ? [batchSize * (shape[0] ?? 1)] : []),
    ...shape.slice(1),
  ];
  const perFrame = [batchSize, 1, 1, 1];
  const features = draft.input(trainingInputs.features, 'float32', batched(architecture.input.shape));
  const step = draft.input(trainingInputs.step, 'float32', perFrame);
  const level = draft.input(trainingInputs.level, 'float32', perFrame);
  const latentShape = batched(architecture.latentShape);
  const quantized = addQuantizer(draft, architecture.addEncoder(draft, features), {
    step,
    noise: draft.input(trainingInputs.noise, 'float32', latentShape),
    hardness: draft.input(trainingInputs.hardness, 'float32', [1]),
  });
  const output = architecture.addDecoder(draft, quantized.decoded, level);
  const targetOf = ({ name, shape }: Target): string => {
    const input = trainingInputs.target(name);
    return draft.has(input) ? input : draft.input(input, 'float32', batched(shape));
  };
  const prefix = 'tail/';
  const outputs = graft(draft, tail, { inputs: { [decoded.name]: output }, prefix });
  const mean = (names: readonly string[]): string =>
    names.length === 0 ? ops.zeros([batchSize]) : ops.scale(ops.sum(names), 1 / names.length);
  const isSame = decoded.name === architecture.input.name;
  const terms = {
    rate: addRate(draft, quantized, step, architecture.deviations),
    features: addSquaredError(draft, output, isSame ? features : targetOf(decoded), decoded.power),
    later: mean(
      later.map((target) =>
        addSquaredError(draft, `${prefix}${target.name}`, targetOf(target), target.power),
      ),
    ),
    outputs: mean(
      options.outputs.map((target) => {
        const actual = outputs.get(target.name) ?? '';
        return target.kind === 'values'
          ? addSquaredError(draft, actual, targetOf(target), target.power)
          : addDivergence(draft, target.kind, targetOf(target), actual);
      }),
    ),
  };
  const weights = draft.input(trainingInputs.weights, 'float32', [batchSize, trainingTerms.length]);
  const columns = trainingTerms.map((term) => ops.reshape(terms[term], [batchSize, 1]));
  const weighted = ops.mul(ops.concat(columns, 1), weights);
  const loss = ops.scale(draft.node('ReduceSum', [weighted], { keepdims: 0 }), 1 / batchSize);
  return { draft, loss, terms, outputs, latentShape };
}
