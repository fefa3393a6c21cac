import { create } from '@bufbuild/protobuf';
import { isIsthmusError, type NamedTensors, type Runtime, type Tensor } from '@isthmus/core';
import { intsAttribute } from './attributes.js';
import { valueInfo } from './build.js';
import { type FlowGraph, type FlowNode, indexFlow } from './flow.js';
import { relativeDifference, seededFrame, stackFrames } from './frames.js';
import { copyNode, isOnnx, normalizeModel } from './normalize.js';
import { explainFailure, runForTensors } from './observe.js';
import { GraphProtoSchema, ModelProtoSchema, type NodeProto, type TensorProto } from './onnx_pb.js';
import { declaredShape, type TensorInfo, type TensorInfos } from './shapes.js';
import {
  float32Tensor,
  fromOnnxType,
  int64Tensor,
  readIntegers,
  tensorProto,
  toOnnxType,
} from './tensors.js';

/** A model that takes any number of frames at once. */
export interface BatchedModel {
  flow: FlowGraph;
  /** Those of the wanted tensors whose first axis counts frames; the others are the same for every batch. */
  batched: ReadonlySet<string>;
}

// Frames computed together may differ from frames computed alone by the order of additions.
const tolerance = 1e-4;

/**
 * Makes the first axis of a model's inputs open, rewrites what fixes it to one inside (the target shapes of
 * Reshape and the sizes of Resize), and then proves it: two different frames run together must give what each
 * gives alone, in every wanted tensor.
 *
 * @param wanted The tensors of all cuts.
 * @returns undefined if the graph does not allow it: no input with a first axis of one, a wanted tensor
 * whose first axis is something else, or results that differ.
 *
 * @throws IsthmusError `model/unsupported-operator`, `model/invalid` if the model does not run as it is;
 * `runtime/unavailable`, `runtime/crashed`. That it does not run with an open batch only means "no".
 */
export async function openBatch(
  flow: FlowGraph,
  infos: TensorInfos,
  wanted: readonly string[],
  runtime: Runtime,
): Promise<BatchedModel | undefined> {
  const inputs = batchedInputs(flow, infos);
  if (inputs.size === 0) return undefined;
  const open = indexFlow(rewrite(flow, infos, inputs));
  const inputInfos = new Map(flow.inputNames.map((name) => [name, infos.get(name)!]));
  const one = seededFrame(inputInfos, 1);
  // Whatever is not batched has to be the same for all frames of a batch.
  const two: NamedTensors = { ...one, ...pick(seededFrame(inputInfos, 2), inputs) };
  const both = Object.fromEntries(
    Object.entries(one).map(([name, tensor]) => [
      name,
      inputs.has(name) ? stackFrames([tensor, two[name]!]) : tensor,
    ]),
  );
  const [alone1, alone2] = await runForTensors(flow.model, runtime, wanted, [one, two]).catch((cause) => {
    throw explainFailure(flow, cause);
  });
  try {
    const [together] = await runForTensors(open.model, runtime, wanted, [both]);
    const batched = new Set<string>();
    for (const name of wanted) {
      const kind = compareBatch(alone1![name]!, alone2![name]!, together![name]!);
      if (kind === 'different') return undefined;
      if (kind === 'batched') batched.add(name);
    }
    return { flow: open, batched };
  } catch (cause) {
    if (isIsthmusError(cause, 'runtime/load-failed') || isIsthmusError(cause, 'runtime/run-failed')) {
      return undefined;
    }
    throw cause;
  }
}

function compareBatch(first: Tensor, second: Tensor, both: Tensor): 'batched' | 'same' | 'different' {
  const agrees = (a: Tensor, b: Tensor): boolean => relativeDifference(a, b) <= tolerance;
  if (first.shape[0] === 1 && agrees(stackFrames([first, second]), both)) return 'batched';
  return agrees(first, both) && agrees(second, both) ? 'same' : 'different';
}

// Inputs that leave their first axis open; in a model with fixed inputs, those for which it is one.
function batchedInputs(flow: FlowGraph, infos: TensorInfos): Set<string> {
  const candidates = flow.model.graph!.input.filter(({ name }) => infos.get(name)!.shape![0] === 1);
  const open = candidates.filter((input) => declaredShape(input)?.[0] === undefined);
  return new Set((open.length > 0 ? open : candidates).map(({ name }) => name));
}

function rewrite(flow: FlowGraph, infos: TensorInfos, inputs: ReadonlySet<string>): FlowGraph['model'] {
  const graph = flow.model.graph!;
  const constants: TensorProto[] = [];
  const addConstant = (base: string, tensor: Tensor): string => {
    let name = `${base}/any-batch`;
    for (let number = 1; infos.has(name); number++) name = `${base}/any-batch_${number}`;
    infos.set(name, { elementType: toOnnxType(tensor.type), shape: [...tensor.shape] });
    constants.push(tensorProto(name, tensor));
    return name;
  };
  const node = flow.nodes.map((entry) => rewriteNode(flow, infos, entry, addConstant) ?? entry.proto);
  return normalizeModel(
    Object.assign(create(ModelProtoSchema), flow.model, {
      graph: Object.assign(create(GraphProtoSchema), graph, {
        node,
        initializer: [...graph.initializer, ...constants],
        input: graph.input.map((input) => {
          const info = infos.get(input.name)!;
          return inputs.has(input.name) ? openInput(input.name, info) : input;
        }),
        // Their declared first axis may be fixed; the runtime infers them.
        output: graph.output.map(({ name }) =>
          valueInfo(name, fromOnnxType(infos.get(name)!.elementType as number)!),
        ),
      }),
    }),
  );
}

function openInput(name: string, { elementType, shape }: TensorInfo): ReturnType<typeof valueInfo> {
  return valueInfo(name, fromOnnxType(elementType as number)!, ['batch', ...shape!.slice(1)]);
}

function rewriteNode(
  flow: FlowGraph,
  infos: TensorInfos,
  { proto, isFlow }: FlowNode,
  addConstant: (base: string, tensor: Tensor) => string,
): NodeProto | undefined {
  if (!isFlow || !isOnnx(proto)) return undefined;
  if (proto.opType === 'Reshape') {
    const target = rewrittenTarget(flow, infos, proto);
    if (target === undefined) return undefined;
    const name = addConstant(proto.name, int64Tensor(target));
    return copyNode(proto, { input: [proto.input[0]!, name] });
  }
  if (proto.opType === 'Resize' && flow.initializers.has(proto.input[3] ?? '')) {
    const scales = scalesForSizes(infos, proto);
    if (scales === undefined) return undefined;
    const name = addConstant(proto.name, float32Tensor(scales));
    return copyNode(proto, { input: [proto.input[0]!, proto.input[1]!, name] });
  }
  return undefined;
}

// The first size becomes "whatever is left", all others what they are for one frame.
function rewrittenTarget(flow: FlowGraph, infos: TensorInfos, node: NodeProto): number[] | undefined {
  const constant = flow.initializers.get(node.input[1]!);
  const target = constant === undefined ? undefined : readIntegers(constant);
  const result = infos.get(node.output[0]!)?.shape;
  if (target === undefined || result === undefined || target.length === 0) return undefined;
  if (target.length !== result.length || result.includes(0)) return undefined;
  return target[0] === 0 ? undefined : [-1, ...result.slice(1)];
}

// Sizes name the batch, scales do not. Only where both mean the same size to the engine, which computes in float32.
function scalesForSizes(infos: TensorInfos, node: NodeProto): number[] | undefined {
  const from = infos.get(node.input[0]!)?.shape;
  const to = infos.get(node.output[0]!)?.shape;
  if (from === undefined || to === undefined || intsAttribute(node, 'axes') !== undefined) return undefined;
  const scales = from.map((size, axis) => Math.fround(to[axis]! / size));
  const isExact = scales.every((scale, axis) => Math.floor(Math.fround(from[axis]! * scale)) === to[axis]);
  return isExact ? scales : undefined;
}

function pick(tensors: NamedTensors, names: ReadonlySet<string>): NamedTensors {
  return Object.fromEntries(Object.entries(tensors).filter(([name]) => names.has(name)));
}
