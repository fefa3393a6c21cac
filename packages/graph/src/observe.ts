import { create } from '@bufbuild/protobuf';
import { IsthmusError, isIsthmusError, type NamedTensors, type Runtime } from '@isthmus/core';
import type { FlowGraph } from './flow.js';
import { seededFrame } from './frames.js';
import { describeNode } from './normalize.js';
import { GraphProtoSchema, type ModelProto, ModelProtoSchema, ValueInfoProtoSchema } from './onnx_pb.js';
import { completeShapes, type TensorInfo, type TensorInfos } from './shapes.js';
import { fromOnnxType, toOnnxType } from './tensors.js';
import { writeModel } from './write.js';

// Operators whose output's shape depends on what is in the frame.
const dataDependent: ReadonlySet<string> = new Set(['NonZero', 'NonMaxSuppression', 'Unique', 'Compress']);

/**
 * Fills in types and shapes that inference could not tell, by running the model on two different frames with
 * the tensors in question as outputs. What then still has no shape cannot be part of a cut: its shape depends on
 * the frame's content, or it is not a tensor.
 *
 * @throws IsthmusError `model/invalid` if the model does not run at all; the runtime's errors.
 */
export async function observeShapes(flow: FlowGraph, infos: TensorInfos, runtime: Runtime): Promise<void> {
  const unknown = flow.nodes
    .flatMap((node) => node.outputs)
    .filter((name) => flow.flowTensors.has(name) || flow.outputNames.includes(name))
    .filter((name) => !isKnown(infos.get(name)));
  if (unknown.length === 0) return;
  const fluid = fluidTensors(flow, infos);
  const wanted = unknown.filter((name) => infos.get(name)?.elementType !== 'none' && !fluid.has(name));
  const inputs = new Map(flow.inputNames.map((name) => [name, infos.get(name)!]));
  const frames = [seededFrame(inputs, 1), seededFrame(inputs, 2)];
  const results = await runForAny(flow.model, runtime, wanted, frames, () =>
    requireRunnable(flow, infos, runtime, frames),
  );
  for (const [first, second] of results) {
    for (const [name, { type, shape }] of Object.entries(first!)) {
      if (second![name]!.shape.join() !== shape.join()) continue;
      infos.set(name, { elementType: toOnnxType(type), shape: [...shape] });
    }
  }
  completeShapes(flow, infos);
}

/**
 * Runs a model once and returns the tensors of these names, inner ones included.
 *
 * @throws IsthmusError the runtime's.
 */
export async function runForTensors(
  model: ModelProto,
  runtime: Runtime,
  names: readonly string[],
  frames: readonly NamedTensors[],
): Promise<NamedTensors[]> {
  const session = await runtime.load(writeModel(withOutputs(model, names)));
  try {
    const results: NamedTensors[] = [];
    for (const frame of frames) results.push((await session.run(frame, names)).outputs);
    return results;
  } finally {
    await session.release();
  }
}

// What of `names` the runtime gives for the frames, in pieces. It may be unable to hand over a single tensor, for
// its type say, and then refuses them all; halving finds the others.
async function runForAny(
  model: ModelProto,
  runtime: Runtime,
  names: readonly string[],
  frames: readonly NamedTensors[],
  onFirstFailure: () => Promise<void>,
): Promise<NamedTensors[][]> {
  if (names.length === 0) return [];
  try {
    return [await runForTensors(model, runtime, names, frames)];
  } catch (cause) {
    if (isIsthmusError(cause, 'runtime/unavailable') || isIsthmusError(cause, 'runtime/crashed')) throw cause;
    await onFirstFailure();
    if (names.length === 1) return [];
    const middle = names.length >> 1;
    const halves = [names.slice(0, middle), names.slice(middle)];
    const results: NamedTensors[][] = [];
    for (const half of halves) {
      results.push(...(await runForAny(model, runtime, half, frames, async () => undefined)));
    }
    return results;
  }
}

// A model that does not even give its own outputs is to blame, not one of its tensors.
async function requireRunnable(
  flow: FlowGraph,
  infos: TensorInfos,
  runtime: Runtime,
  frames: readonly NamedTensors[],
): Promise<void> {
  const outputs = flow.outputNames.filter((name) => {
    const type = infos.get(name)?.elementType;
    return type === undefined || (type !== 'none' && fromOnnxType(type) !== undefined);
  });
  if (outputs.length === 0) return;
  try {
    await runForTensors(flow.model, runtime, outputs, frames);
  } catch (cause) {
    throw explainFailure(flow, cause);
  }
}

/**
 * Why the whole model does not run: `model/unsupported-operator` with the node if the runtime lacks an operator,
 * else `model/invalid` with the runtime's reason. Errors that are not about the model stay as they are.
 */
export function explainFailure(flow: FlowGraph, cause: unknown): unknown {
  if (!isIsthmusError(cause, 'runtime/load-failed') && !isIsthmusError(cause, 'runtime/run-failed'))
    return cause;
  // ONNX Runtime's wordings; the operator's name follows or precedes.
  const lacksOperator = /not a registered function\/op|No Op registered for|Could not find an implementation/;
  const words = new Set(cause.message.split(/\W+/));
  const node = lacksOperator.test(cause.message)
    ? flow.nodes.find(({ proto }) => words.has(proto.opType))
    : undefined;
  if (node === undefined) {
    return new IsthmusError('model/invalid', `The whole model does not run: ${cause.message}`, { cause });
  }
  return new IsthmusError(
    'model/unsupported-operator',
    `The runtime cannot run the ${describeNode(node.proto)}: ${cause.message}`,
    { cause, details: { node: node.proto.name, operator: node.proto.opType } },
  );
}

// ONNX Runtime infers the type of an output that is declared by name only.
function withOutputs(model: ModelProto, names: readonly string[]): ModelProto {
  const declared = new Map(model.graph!.output.map((output) => [output.name, output]));
  return Object.assign(create(ModelProtoSchema), model, {
    graph: Object.assign(create(GraphProtoSchema), model.graph, {
      output: names.map((name) => declared.get(name) ?? create(ValueInfoProtoSchema, { name })),
    }),
  });
}

function fluidTensors(flow: FlowGraph, infos: TensorInfos): Set<string> {
  const fluid = new Set<string>();
  for (const { proto, inputs, outputs } of flow.nodes) {
    if (!dataDependent.has(proto.opType) && !inputs.some((name) => fluid.has(name))) continue;
    for (const name of outputs) if (infos.get(name)?.shape === undefined) fluid.add(name);
  }
  return fluid;
}

function isKnown(info: TensorInfo | undefined): boolean {
  return info?.elementType === 'none' || (info?.elementType !== undefined && info.shape !== undefined);
}
