import type { ModelProto } from '@isthmus/graph';
import { Draft } from '../draft.js';
import { graft } from '../graft.js';
import { Ops } from '../ops.js';
import { addDivergence, addSquaredError, type OutputKind } from './distortion.js';
import type { TrainingFront } from './fronts.js';
import { type TrainingTerm, trainingInputs, trainingTerms } from './training-inputs.js';
import { addTuned } from './tuned.js';

/** A tensor of the uncompressed model that training compares with. */
export interface Target {
  name: string;
  /** Of one frame: [1, …]. */
  shape: readonly number[];
  /** Its variance over frames, or its mean square. Not used for classes. */
  power: number;
}

export interface CodecTrainingOptions {
  front: TrainingFront;
  /** Frames a batch. */
  batchSize: number;
  /** Segments behind the cut where the codec lands whose weights are trained as well. */
  tuned?: ModelProto | undefined;
  /** The frozen rest of the model; none where the tuned segments go on to its end. */
  tail?: ModelProto | undefined;
  /** At the cut where the codec lands. */
  decoded: Target;
  /** At later cuts. */
  later: readonly Target[];
  outputs: readonly (Target & { kind: OutputKind })[];
}

/** What a codec is trained with, as a graph. */
export interface CodecTraining {
  draft: Draft;
  /** The weighted sum of the terms, averaged over the batch. */
  loss: string;
  /** The same without the outputs: its graph ends at the last of the later cuts. */
  featureLoss: string;
  /** Names of the terms: [batch] each. */
  terms: Readonly<Record<TrainingTerm, string>>;
  /** What the outputs are called in the draft, by their names in the model. */
  outputs: ReadonlyMap<string, string>;
  batchSize: number;
  /** Of a batch; undefined where nothing is quantized. */
  latentShape: readonly number[] | undefined;
}

/**
 * The graph in which a codec is trained: what becomes of frames up to the cut where it lands, the rest of the model, and
 * how far from the uncompressed model all that comes, in bits and in errors.
 *
 * @throws IsthmusError as {@link graft}
 */
export function draftCodecTraining(options: CodecTrainingOptions): CodecTraining {
  const { front, batchSize, tuned, tail, decoded, later } = options;
  const opsets = [tuned, tail].flatMap((model) => model?.opsetImport ?? []);
  const opset = Number(opsets.find(({ domain }) => domain === '')?.version ?? 17);
  const draft = new Draft({ opset: Math.max(17, opset) });
  const ops = new Ops(draft);
  const batched = (shape: readonly number[]): number[] => [
    ...(shape.length > 0 ? [batchSize * (shape[0] ?? 1)] : []),
    ...shape.slice(1),
  ];
  const features = draft.input(trainingInputs.features, 'float32', batched(front.input.shape));
  const { output, rate } = front.add(draft, features, batchSize);
  const targetOf = ({ name, shape }: Target): string => {
    const input = trainingInputs.target(name);
    return draft.has(input) ? input : draft.input(input, 'float32', batched(shape));
  };
  let outputs: ReadonlyMap<string, string> = new Map([[decoded.name, output]]);
  const tunedNames = new Map<string, string>();
  if (tuned !== undefined) {
    const added = addTuned(draft, tuned, Object.fromEntries(outputs));
    for (const { name } of later) {
      if (draft.has(added.nameOf(name))) tunedNames.set(name, added.nameOf(name));
    }
    outputs = added.outputs;
  }
  const prefix = 'tail/';
  if (tail !== undefined) outputs = graft(draft, tail, { inputs: Object.fromEntries(outputs), prefix });
  const mean = (names: readonly string[]): string =>
    names.length === 0 ? ops.zeros([batchSize]) : ops.scale(ops.sum(names), 1 / names.length);
  // A codec that lands where it leaves is compared with what it took; a picture with what it was before.
  const isSame = front.latentShape !== undefined && decoded.name === front.input.name;
  const terms = {
    rate,
    features: addSquaredError(draft, output, isSame ? features : targetOf(decoded), decoded.power),
    later: mean(
      later.map((target) => {
        const actual = tunedNames.get(target.name) ?? `${prefix}${target.name}`;
        return addSquaredError(draft, actual, targetOf(target), target.power);
      }),
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
  const weighted = (wanted: readonly TrainingTerm[]): string => {
    const columns = wanted.map((term) => ops.reshape(terms[term], [batchSize, 1]));
    // The outputs come last.
    const theirs = ops.slice(weights, { starts: [0], ends: [wanted.length], axes: [1] });
    const products = ops.mul(ops.concat(columns, 1), theirs);
    return ops.scale(draft.node('ReduceSum', [products], { keepdims: 0 }), 1 / batchSize);
  };
  return {
    ...{ draft, terms, outputs, batchSize },
    loss: weighted(trainingTerms),
    featureLoss: weighted(trainingTerms.slice(0, -1)),
    latentShape: front.latentShape && batched(front.latentShape),
  };
}
