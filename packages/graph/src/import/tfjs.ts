import { IsthmusError, toIsthmusError } from '@isthmus/core';
import type { ModelProto } from '../onnx_pb.js';
import { Emitter } from './emitter.js';
import { type Constant, storedShape, type Value, writtenValue } from './nchw.js';
import { type LayerSite, tfjsLayers } from './tfjs-layers.js';
import { readNormalization } from './tfjs-normalization.js';
import { type LayerCall, readTopology, type Topology } from './tfjs-topology.js';
import { asArray, asRecord, readTfjsWeights, type TfjsWeightFiles } from './tfjs-weights.js';

/**
 * A TensorFlow.js layers model (Keras) as ONNX (opset 17), laid out NCHW throughout. Batch normalization right
 * after a convolution becomes part of it. A layer's result has the layer's name, with `_ACTIVATION` behind it if
 * the layer has one; input tensors keep theirs and are float32 NCHW, batch size 1.
 *
 * @param source.modelJson model.json, as text or parsed.
 * @param source.weights Its binary files by their path in model.json, or all of them concatenated in its order.
 * Stored as float32, or quantized to float16, uint8 or uint16.
 * @throws IsthmusError `model/invalid`, `model/truncated` where weights are missing or too short,
 * `model/unsupported-operator` with the layer's class and name, `model/unsupported` for graph models and inputs
 * of open size.
 *
 * @example
 * ```ts
 * const modelJson = await readFile('ResNet50/model.json', 'utf8');
 * const weights = new Map([['weights.bin', await readFile('ResNet50/weights.bin')]]);
 * await writeFile('resnet-50.onnx', writeModel(importTfjsLayers({ modelJson, weights })));
 * ```
 */
export function importTfjsLayers(source: { modelJson: unknown; weights: TfjsWeightFiles }): ModelProto {
  const json = typeof source.modelJson === 'string' ? parseJson(source.modelJson) : source.modelJson;
  const topology = readTopology(json);
  const manifest = (json as { weightsManifest?: unknown }).weightsManifest;
  const weights = readTfjsWeights(manifest, source.weights);
  const emitter = new Emitter(topology.name);
  const results = new Map<string, { value: Value; name: string }>();
  const normalizations = foldableNormalizations(topology);
  const folded = new Set([...normalizations.values()].map((call) => call.key));
  for (const call of topology.calls) {
    if (folded.has(call.key)) {
      results.set(call.key, results.get(call.inputs[0]!)!);
      continue;
    }
    const inputs = call.inputs.map((key) => results.get(key)!.value);
    const place = `Layer ${call.name} (${call.className})`;
    try {
      results.set(call.key, translate(call, inputs, emitter, weights, normalizations.get(call.key)));
    } catch (error) {
      const known = toIsthmusError(error, 'model/invalid', 'The layer is malformed');
      throw new IsthmusError(known.code, `${place}: ${known.message}`, {
        cause: error,
        details: { ...known.details, layer: call.name, className: call.className },
      });
    }
  }
  for (const key of topology.outputs) {
    const result = results.get(key);
    if (result === undefined) throw new IsthmusError('model/invalid', `The output ${key} is not a layer.`);
    const actual = result.value.name();
    if (actual !== result.name) emitter.node('Identity', [actual], [result.name]);
    emitter.output(result.name, storedShape(result.value.shape));
  }
  return emitter.build();
}

/**
 * Paths of the binary files that a model.json refers to, relative to it and as they stand there.
 *
 * @throws IsthmusError `model/invalid`
 */
export function listTfjsFiles(modelJson: unknown): string[] {
  const json = typeof modelJson === 'string' ? parseJson(modelJson) : modelJson;
  return asArray(asRecord(json, 'the whole').weightsManifest, 'weightsManifest').flatMap((group) =>
    asArray(asRecord(group, 'weightsManifest').paths, 'paths').map(String),
  );
}

function translate(
  call: LayerCall,
  inputs: readonly Value[],
  emitter: Emitter,
  weights: ReadonlyMap<string, Constant>,
  normalizedBy: LayerCall | undefined,
): { value: Value; name: string } {
  if (call.className === 'InputLayer') {
    const shape = inputShape(call.config.batch_input_shape ?? call.config.batch_shape);
    const name = emitter.unique(call.name);
    emitter.input(name, storedShape(shape));
    return { value: writtenValue(name, shape), name };
  }
  const layer = tfjsLayers[call.className];
  if (layer === undefined) {
    throw new IsthmusError('model/unsupported-operator', 'layers of this class are not supported.');
  }
  if (call.config.data_format === 'channels_first') {
    throw new IsthmusError('model/unsupported-operator', 'only channels_last is supported.');
  }
  const base = normalizedBy?.name ?? call.name;
  let name: string | undefined;
  const site: LayerSite = {
    emitter,
    inputs,
    config: call.config,
    normalization:
      normalizedBy && readNormalization(normalizedBy.config, (kind) => findWeight(weights, base, kind), 4),
    weight: (kind) => findWeight(weights, call.name, kind),
    name(suffix) {
      name = emitter.unique(suffix === undefined ? base : `${base}_${suffix}`);
      return name;
    },
  };
  const value = layer(site);
  // A layer that passes its input on, such as a Dropout, has a name only for the case that it is an output.
  return { value, name: name ?? emitter.unique(base) };
}

/** Batch normalizations that are all that follows a convolution, by the convolution's key. */
function foldableNormalizations({ calls, outputs }: Topology): Map<string, LayerCall> {
  const found = new Map<string, LayerCall>();
  for (const call of calls) {
    const [consumer, ...others] = calls.filter((other) => other.inputs.includes(call.key));
    const linear = (call.config.activation ?? 'linear') === 'linear';
    if (
      consumer?.className === 'BatchNormalization' &&
      others.length === 0 &&
      ['Conv2D', 'DepthwiseConv2D', 'SeparableConv2D'].includes(call.className) &&
      linear &&
      !outputs.includes(call.key)
    ) {
      found.set(call.key, consumer);
    }
  }
  return found;
}

function findWeight(
  weights: ReadonlyMap<string, Constant>,
  layer: string,
  kind: string,
): Constant | undefined {
  const exact = weights.get(`${layer}/${kind}`);
  if (exact !== undefined) return exact;
  for (const [name, weight] of weights) if (name.endsWith(`/${layer}/${kind}`)) return weight;
  return undefined;
}

function inputShape(shape: unknown): number[] {
  if (!Array.isArray(shape) || shape.length < 2) {
    throw new IsthmusError('model/invalid', 'it does not say which shape its input has.');
  }
  const [, ...sizes] = shape as unknown[];
  if (!sizes.every((size): size is number => Number.isSafeInteger(size) && (size as number) > 0)) {
    throw new IsthmusError(
      'model/unsupported',
      `its shape ${JSON.stringify(shape)} is open. Save the model with a fixed height and width.`,
    );
  }
  return [1, ...sizes];
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new IsthmusError('model/invalid', 'model.json is not JSON. Was it copied whole?', { cause });
  }
}
