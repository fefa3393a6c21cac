import { IsthmusError } from '@isthmus/core';
import { asArray, asRecord } from './tfjs-weights.js';

/** One use of a layer. Layers that are used more than once have several. */
export interface LayerCall {
  name: string;
  className: string;
  config: Record<string, unknown>;
  /** Keys of the calls whose results it takes. */
  inputs: string[];
  key: string;
}

export interface Topology {
  name: string;
  calls: LayerCall[];
  /** Keys of calls. */
  outputs: string[];
}

/**
 * The layers of a Keras model in the form that TensorFlow.js saves, sequential or functional, as a list of calls
 * in an order in which each finds its inputs.
 *
 * @throws IsthmusError `model/invalid`, `model/unsupported`
 */
export function readTopology(modelJson: unknown): Topology {
  const root = asRecord(modelJson, 'the whole');
  if (root.format === 'graph-model') {
    throw new IsthmusError(
      'model/unsupported',
      'This is a TensorFlow.js graph model. Only layers models are imported; convert graph models elsewhere.',
    );
  }
  const topology = asRecord(root.modelTopology, 'modelTopology');
  const model = asRecord(topology.model_config ?? topology, 'model_config');
  if (model.class_name === 'Sequential') return readSequential(model.config);
  if (model.class_name === 'Model' || model.class_name === 'Functional') {
    return readFunctional(asRecord(model.config, 'config'));
  }
  throw new IsthmusError('model/unsupported', `Models of the class ${model.class_name} are not supported.`);
}

function readSequential(config: unknown): Topology {
  const layers = asArray(Array.isArray(config) ? config : asRecord(config, 'config').layers, 'layers');
  const calls: LayerCall[] = [];
  for (const layer of layers) {
    const call = readLayer(layer);
    const shape = call.config.batch_input_shape ?? call.config.batch_shape;
    if (calls.length === 0 && call.className !== 'InputLayer') {
      const name = `${call.name}_input`;
      calls.push({
        name,
        className: 'InputLayer',
        config: { batch_input_shape: shape },
        inputs: [],
        key: `${name}:0`,
      });
    }
    calls.push({ ...call, inputs: calls.length === 0 ? [] : [calls.at(-1)!.key], key: `${call.name}:0` });
  }
  const last = calls.at(-1);
  if (last === undefined) throw new IsthmusError('model/invalid', 'The model has no layers.');
  const name = Array.isArray(config) ? 'sequential' : asRecord(config, 'config').name;
  return { name: String(name), calls, outputs: [last.key] };
}

function readFunctional(config: Record<string, unknown>): Topology {
  const waiting = asArray(config.layers, 'layers').flatMap((value) => {
    const layer = readLayer(value);
    const nodes = asArray(asRecord(value, 'a layer').inbound_nodes ?? [], 'inbound_nodes');
    if (nodes.length === 0) return [{ ...layer, inputs: [] as string[], key: `${layer.name}:0` }];
    return nodes.map((node, index) => ({
      ...layer,
      inputs: readInbound(node, layer.name),
      key: `${layer.name}:${index}`,
    }));
  });
  // Keras lists layers in the order of their making, which need not be that of the data.
  const calls: LayerCall[] = [];
  const done = new Set<string>();
  let rest = waiting;
  while (rest.length > 0) {
    const ready = rest.filter((call) => call.inputs.every((input) => done.has(input)));
    if (ready.length === 0) {
      throw new IsthmusError('model/invalid', `Layer ${rest[0]!.name} waits for inputs that do not exist.`);
    }
    for (const call of ready) done.add(call.key);
    calls.push(...ready);
    rest = rest.filter((call) => !done.has(call.key));
  }
  const outputs = asArray(config.output_layers, 'output_layers');
  const list = typeof outputs[0] === 'string' ? [outputs] : outputs;
  return {
    name: String(config.name),
    calls,
    outputs: list.map((output) => readReference(output, 'outputs')),
  };
}

function readLayer(value: unknown): Pick<LayerCall, 'name' | 'className' | 'config'> {
  const layer = asRecord(value, 'a layer');
  const config = asRecord(layer.config, 'the config of a layer');
  const name = layer.name ?? config.name;
  if (typeof name !== 'string' || typeof layer.class_name !== 'string') {
    throw new IsthmusError('model/invalid', 'A layer in model.json lacks its name or class.');
  }
  return { name, className: layer.class_name, config };
}

function readInbound(node: unknown, layer: string): string[] {
  if (!Array.isArray(node)) {
    throw new IsthmusError(
      'model/unsupported',
      `Layer ${layer} is wired in the form of Keras 3. Save the model with Keras 2 (TF_USE_LEGACY_KERAS=1).`,
    );
  }
  return node.map((reference) => readReference(reference, layer));
}

function readReference(reference: unknown, where: string): string {
  const [name, node, tensor] = asArray(reference, `an input of ${where}`);
  if (typeof name !== 'string' || !Number.isSafeInteger(node) || tensor !== 0) {
    throw new IsthmusError('model/unsupported', `${where} refers to ${JSON.stringify(reference)}.`);
  }
  return `${name}:${node}`;
}
