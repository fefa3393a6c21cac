import type { Draft } from '../draft.js';
import type { Adapter } from './adapter.js';
import type { CodecArchitecture } from './architecture.js';
import { addQuantizer } from './quantizer.js';
import { addRate } from './rate.js';
import { trainingInputs } from './training-inputs.js';

/** What becomes of a frame on its way to the cut where its codec lands. */
export interface TrainingFront {
  /** What is fed as `trainingInputs.features`; of one frame. */
  readonly input: { readonly name: string; readonly shape: readonly number[] };
  /** Of one latent; undefined where there is none, and no noise is fed. */
  readonly latentShape?: readonly number[];
  /**
   * @param features The batch's input.
   * @returns The cut's tensor, decoded, and bits of each frame, [batch].
   */
  add(draft: Draft, features: string, batchSize: number): { output: string; rate: string };
}

/** A latent, quantized. */
export function latentFront(architecture: CodecArchitecture): TrainingFront {
  const { input, latentShape } = architecture;
  return {
    ...{ input, latentShape },
    add(draft, features, batchSize) {
      const perFrame = [batchSize, 1, 1, 1];
      const step = draft.input(trainingInputs.step, 'float32', perFrame);
      const level = draft.input(trainingInputs.level, 'float32', perFrame);
      const quantized = addQuantizer(draft, architecture.addEncoder(draft, features), {
        step,
        noise: draft.input(trainingInputs.noise, 'float32', [batchSize, ...latentShape.slice(1)]),
        hardness: draft.input(trainingInputs.hardness, 'float32', [1]),
      });
      return {
        output: architecture.addDecoder(draft, quantized.decoded, level),
        rate: addRate(draft, quantized, step, architecture.deviations),
      };
    },
  };
}

/** A picture that a picture codec has coded and decoded, mended by an adapter if there is one. */
export function pictureFront(input: Adapter['input'], adapter: Adapter | undefined): TrainingFront {
  return {
    input,
    add(draft, picture, batchSize) {
      const bits = draft.input(trainingInputs.bits, 'float32', [batchSize]);
      const level = draft.input(trainingInputs.level, 'float32', [batchSize, 1, 1, 1]);
      return {
        output: adapter?.add(draft, picture, level) ?? picture,
        // What was sent is sent: no gradient reaches it.
        rate: draft.node('Identity', [bits]),
      };
    },
  };
}
