import { elementCount, learnedTensors, type Tensor } from '@isthmus/core';
import type { ModelProto } from '@isthmus/graph';
import { Draft } from '../draft.js';
import type { Adapter } from './adapter.js';
import type { CodecArchitecture } from './architecture.js';
import { storeHalves } from './halves.js';

/** A trained codec as the two models that `importCodec` takes. */
export interface CodecNetworks {
  encoder: ModelProto;
  decoder: ModelProto;
  /** Operations of the encoder's convolutions for one frame; a multiply-add counts as two. */
  encoderFlops: number;
}

export interface ExportOptions {
  /** Whether weights are stored in half precision, to be cast when a network is loaded. @default false */
  halves?: boolean;
}

/**
 * The networks of a codec for single frames, with their weights as constants.
 *
 * @param weights By parameter, as `stateTensors` gives them; those that are missing are as they were before training.
 *
 * @example
 * ```ts
 * const { encoder, decoder } = exportCodec(architecture, stateTensors(trainer.state, 'average'));
 * const codec = await importCodec({ bundle, runtime, clock: systemClock, id, from, to, encoder, decoder, steps, frames });
 * ```
 */
export function exportCodec(
  architecture: CodecArchitecture,
  weights: ReadonlyMap<string, Tensor>,
  options: ExportOptions = {},
): CodecNetworks {
  const { input, output, latentShape } = architecture;
  const encoder = new Draft();
  const x = encoder.input(input.name, 'float32', input.shape);
  encoder.node('Identity', [architecture.addEncoder(encoder, x)], {}, { output: learnedTensors.latent });
  // A model that was made here, too, may have names like those a draft gives.
  const decoder = new Draft({ reserved: [output.name] });
  const latent = decoder.input(learnedTensors.latent, 'float32', latentShape);
  const decoded = architecture.addDecoder(decoder, latent, addLevel(decoder));
  decoder.node('Identity', [decoded], {}, { output: output.name });
  return {
    encoderFlops: countFlops(encoder),
    encoder: finish(encoder, learnedTensors.latent, weights, options),
    decoder: finish(decoder, output.name, weights, options),
  };
}

/** The adapter of a picture codec for single frames. */
export function exportAdapter(
  adapter: Adapter,
  weights: ReadonlyMap<string, Tensor>,
  options: ExportOptions = {},
): ModelProto {
  const { name, shape } = adapter.input;
  // An adapter gives what it takes, under the same name, which a graph has only once.
  const draft = new Draft();
  const picture = draft.input(name, 'float32', shape);
  const output = adapter.add(draft, picture, addLevel(draft));
  return finish(draft, output, weights, options);
}

function countFlops(draft: Draft): number {
  let flops = 0;
  for (const { of, inputs, outputs } of draft.steps) {
    const [, kernel] = inputs;
    const [output] = outputs;
    if (!('opType' in of) || of.opType !== 'Conv' || kernel === undefined || output === undefined) continue;
    flops += elementCount(draft.shapeOf(output)) * 2 * elementCount(draft.shapeOf(kernel).slice(1));
  }
  return flops;
}

function addLevel(draft: Draft): string {
  const level = draft.input(learnedTensors.level, 'float32', [1]);
  return draft.node('Reshape', [level, draft.integers([1, 1, 1, 1])]);
}

function finish(
  draft: Draft,
  output: string,
  weights: ReadonlyMap<string, Tensor>,
  { halves = false }: ExportOptions,
): ModelProto {
  const all = draft.parameters.map(({ name, tensor }): [string, Tensor] => [
    name,
    weights.get(name) ?? tensor,
  ]);
  const model = draft.build([output], new Map(all));
  const names = new Set(all.map(([name]) => name));
  return halves ? storeHalves(model, (name) => names.has(name)) : model;
}
