import { create } from '@bufbuild/protobuf';
import { IsthmusError, isIsthmusError, type NamedTensors, type Runtime } from '@isthmus/core';
import type { FlowGraph } from './flow.js';
import { seededFrame } from './frames.js';
import { GraphProtoSchema, type ModelProto, ModelProtoSchema, ValueInfoProtoSchema } from './onnx_pb.js';
import { completeShapes, type TensorInfo, type TensorInfos } from './shapes.js';
import { toOnnxType } from './tensors.js';
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
  const frames = [seededFrame(inputs, 1), seededFrame(inputs, 2)] as const;
  const first = await runFor(flow.model, runtime, wanted, frames[0]);
  const second = await runFor(flow.model, runtime, Object.keys(first), frames[1]);
  for (const [name, tensor] of Object.entries(first)) {
    const again = second[name];
    if (again === undefined || again.shape.join() !== tensor.shape.join()) continue;
    infos.set(name, { elementType: toOnnxType(tensor.type), shape: [...tensor.shape] });
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

// The runtime may be unable to hand over a single tensor, for its type say; halving finds the others.
async function runFor(
  model: ModelProto,
  runtime: Runtime,
  names: readonly string[],
  frame: NamedTensors,
): Promise<NamedTensors> {
  if (names.length === 0) return {};
  try {
    const [outputs] = await runForTensors(model, runtime, names, [frame]);
    return outputs!;
  } catch (cause) {
    if (isIsthmusError(cause, 'runtime/unavailable') || isIsthmusError(cause, 'runtime/crashed')) throw cause;
    if (names.length === 1) return {};
    await requireRunnable(model, runtime, frame);
    const middle = names.length >> 1;
    return {
      ...(await runFor(model, runtime, names.slice(0, middle), frame)),
      ...(await runFor(model, runtime, names.slice(middle), frame)),
    };
  }
}

async function requireRunnable(model: ModelProto, runtime: Runtime, frame: NamedTensors): Promise<void> {
  const outputs = model.graph!.output.map(({ name }) => name);
  try {
    await runForTensors(model, runtime, outputs, [frame]);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new IsthmusError('model/invalid', `The whole model does not run: ${reason}`, { cause });
  }
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
