import type { NamedTensors, Tensor } from '@isthmus/core';
import { type BuiltCodec, importAdapted, importCodec, type TunedWeights } from '@isthmus/graph';
import { asHalf, exportAdapter, exportCodec, tunedWeights } from '@isthmus/train';
import type { Evaluator } from './evaluate.js';
import type { OpenTraining } from './open-training.js';
import { evaluateLevels } from './run-training.js';
import type { Sample } from './samples.js';
import type { TrainCodecOptions, TrainedCodec } from './train-codec.js';

export interface ImportTrainedOptions {
  evaluator: Evaluator;
  /** Pictures that were not trained on. */
  heldOut: readonly Sample[];
  /** By parameter. */
  weights: ReadonlyMap<string, Tensor<'float32'>>;
}

const comparedLevels = [0, 0.2, 0.5, 0.8];
/** A loss on pictures held out that is larger by no more than this is the same. */
const sameShare = 1e-3;

/** Exports what was trained, and has tables fitted and levels measured on pictures held out. */
export async function importTrained(
  options: TrainCodecOptions,
  opened: OpenTraining,
  given: ImportTrainedOptions,
): Promise<Pick<TrainedCodec, 'codec' | 'encoderFlops' | 'isHalf'>> {
  const { setup, graph } = opened;
  const { weights } = given;
  const isHalf = await isHalfEnough(opened, given);
  const frames = await readFrames(options, setup.pictures.heldOut);
  const changed = tunedWeights(weights, graph.initializers);
  const tuned = changed.size === 0 ? undefined : { via: setup.to, weights: changed };
  if (graph.architecture === undefined) {
    const codec = await importPictures(options, opened, { ...given, frames, tuned, isHalf });
    return { codec, encoderFlops: 0, isHalf };
  }
  const { encoderFlops, ...networks } = exportCodec(graph.architecture, weights, { halves: isHalf });
  const { bundle, runtime, clock, tuning } = options;
  const codec = await importCodec({
    ...{ bundle, runtime, clock, frames, id: setup.id, from: setup.from, to: setup.tuneTo },
    ...networks,
    steps: opened.target.steps,
    ...(tuned !== undefined && { tuned }),
    ...(tuning !== undefined && { tuning }),
  });
  return { codec, encoderFlops, isHalf };
}

function importPictures(
  { bundle, runtime, clock, coder }: TrainCodecOptions,
  { setup, graph }: OpenTraining,
  given: Pick<ImportTrainedOptions, 'weights'> & {
    frames: readonly NamedTensors[];
    tuned: TunedWeights | undefined;
    isHalf: boolean;
  },
): Promise<BuiltCodec> {
  const { id, format, qualities, tuneTo } = setup;
  const { weights, frames, tuned, isHalf } = given;
  if (format === undefined) throw new TypeError('A training without a latent is of pictures.');
  const adapter = graph.adapter && exportAdapter(graph.adapter, weights, { halves: isHalf });
  return importAdapted({
    ...{ bundle, runtime, clock, pictures: coder, id, format, qualities, to: tuneTo, frames },
    ...(adapter !== undefined && { adapter }),
    ...(tuned !== undefined && { tuned }),
  });
}

async function isHalfEnough(
  { target }: OpenTraining,
  { evaluator, heldOut, weights }: ImportTrainedOptions,
): Promise<boolean> {
  const halves = new Map([...weights].map(([name, tensor]) => [name, asHalf(tensor)]));
  const [whole, half] = [
    await evaluateLevels(evaluator, target, heldOut, weights, comparedLevels),
    await evaluateLevels(evaluator, target, heldOut, halves, comparedLevels),
  ];
  return half.heldOutLoss <= (1 + sameShare) * whole.heldOutLoss;
}

async function readFrames(
  { readFrame, signal }: TrainCodecOptions,
  names: readonly string[],
): Promise<NamedTensors[]> {
  const frames: NamedTensors[] = [];
  for (const name of names) {
    signal.throwIfAborted();
    // Those that cannot be read were counted before.
    const frame = await readFrame(name).catch(() => undefined);
    if (frame !== undefined) frames.push(frame.tensors);
  }
  return frames;
}
