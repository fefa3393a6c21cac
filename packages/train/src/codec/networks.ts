import { learnedTensors, type Tensor } from '@isthmus/core';
import type { ModelProto } from '@isthmus/graph';
import { Draft } from '../draft.js';
import type { CodecArchitecture } from './architecture.js';

/** A trained codec as the two models that `importCodec` takes. */
export interface CodecNetworks {
  encoder: ModelProto;
  decoder: ModelProto;
}

/**
 * The networks of a codec for single frames, with their weights as constants.
 *
 * @param weights By parameter, as `stateTensors` gives them; those that are missing are as they were before training.
 * @param outputName The cut's tensor that the decoder gives.
 *
 * @example
 * ```ts
 * const { encoder, decoder } = exportCodec(architecture, stateTensors(trainer.state, 'average'), 'conv4/relu');
 * const codec = await importCodec({ bundle, runtime, clock: systemClock, id, from, to, encoder, decoder, steps, frames });
 * ```
 */
export function exportCodec(
  architecture: CodecArchitecture,
  weights: ReadonlyMap<string, Tensor>,
  outputName: string,
): CodecNetworks {
  const { input, latentShape } = architecture;
  const encoder = new Draft();
  const x = encoder.input(input.name, 'float32', input.shape);
  encoder.node('Identity', [architecture.addEncoder(encoder, x)], {}, { output: learnedTensors.latent });
  const decoder = new Draft();
  const latent = decoder.input(learnedTensors.latent, 'float32', latentShape);
  const level = decoder.input(learnedTensors.level, 'float32', [1]);
  const broadcast = decoder.node('Reshape', [level, decoder.integers([1, 1, 1, 1])]);
  const decoded = architecture.addDecoder(decoder, latent, broadcast);
  decoder.node('Identity', [decoded], {}, { output: outputName });
  return {
    encoder: encoder.build([learnedTensors.latent], complete(encoder, weights)),
    decoder: decoder.build([outputName], complete(decoder, weights)),
  };
}

function complete(draft: Draft, weights: ReadonlyMap<string, Tensor>): ReadonlyMap<string, Tensor> {
  return new Map(draft.parameters.map(({ name, tensor }) => [name, weights.get(name) ?? tensor]));
}
