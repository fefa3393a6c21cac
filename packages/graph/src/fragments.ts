import { create } from '@bufbuild/protobuf';
import { bytesToBase64, type CutTensor, IsthmusError } from '@isthmus/core';
import { valueInfo } from './build.js';
import type { CutCandidate } from './cuts.js';
import type { FlowGraph, FlowNode } from './flow.js';
import { sparseName } from './normalize.js';
import {
  type FunctionProto,
  GraphProtoSchema,
  ModelProtoSchema,
  type SparseTensorProto,
  type TensorProto,
  type ValueInfoProto,
} from './onnx_pb.js';
import type { TensorInfos } from './shapes.js';
import { fromOnnxType, storedBytes } from './tensors.js';
import { writeModel } from './write.js';

/** What is stored together because the same segments use it. */
export interface Fragment {
  /** Indices of the segments that use it, ascending. */
  users: number[];
  nodes: FlowNode[];
  initializers: TensorProto[];
  sparse: SparseTensorProto[];
  functions: readonly FunctionProto[];
}

/** The nodes and weights of a model, divided between its segments. */
export interface Division {
  /** One per segment, used by it alone. */
  segments: Fragment[];
  /** Used by several segments. Constants that others are computed from come before those. */
  shared: Fragment[];
}

/**
 * Divides a model at its cuts. A flow node belongs to the segment between two cuts; an initializer, and a node
 * that computes a constant, to the segments that use it: to one if only one does, else to a shared fragment with
 * everything that exactly the same segments use. So each is stored once, and a span that contains any of its
 * users has it.
 *
 * @param cuts Inner cuts from front to back.
 */
export function divide(flow: FlowGraph, cuts: readonly CutCandidate[]): Division {
  const lastSegment = cuts.length;
  const segmentOf = new Int32Array(flow.nodes.length).fill(lastSegment);
  for (const [segment, cut] of [...cuts.entries()].reverse()) {
    for (const index of cut.prefix) segmentOf[index] = segment;
  }

  const users = new Map<string, Set<number>>();
  const addUsers = (name: string, segments: Iterable<number>): void => {
    const all = users.get(name) ?? new Set();
    for (const segment of segments) all.add(segment);
    users.set(name, all);
  };
  for (const name of flow.outputNames) addUsers(name, [lastSegment]);
  const nodeUsers = (node: FlowNode): number[] =>
    node.isFlow
      ? [segmentOf[node.index]!]
      : [...new Set(node.outputs.flatMap((name) => [...(users.get(name) ?? [])]))].sort((a, b) => a - b);
  for (const node of flow.nodes.toReversed()) {
    const segments = nodeUsers(node);
    for (const name of node.inputs) if (!flow.flowTensors.has(name)) addUsers(name, segments);
  }

  const fragments = new Map<string, Fragment>();
  const fragmentFor = (segments: Iterable<number>): Fragment => {
    const sorted = [...segments].sort((a, b) => a - b);
    const key = sorted.join();
    const known = fragments.get(key);
    if (known !== undefined) return known;
    const fragment: Fragment = { users: sorted, nodes: [], initializers: [], sparse: [], functions: [] };
    fragments.set(key, fragment);
    return fragment;
  };
  const allSegments = Array.from({ length: lastSegment + 1 }, (_, segment) => segment);
  const segments = allSegments.map((segment) => fragmentFor([segment]));
  for (const node of flow.nodes) fragmentFor(nodeUsers(node)).nodes.push(node);
  for (const tensor of flow.initializers.values()) {
    fragmentFor(users.get(tensor.name)!).initializers.push(tensor);
  }
  for (const sparse of flow.model.graph!.sparseInitializer) {
    fragmentFor(users.get(sparseName(sparse))!).sparse.push(sparse);
  }
  if (flow.model.functions.length > 0) fragmentFor(allSegments).functions = flow.model.functions;

  // What a constant is computed from has at least its users, so that supersets come first.
  const shared = [...fragments.values()]
    .filter((fragment) => fragment.users.length > 1)
    .sort((a, b) => b.users.length - a.users.length || a.users.join().localeCompare(b.users.join()));
  return { segments, shared };
}

/**
 * The bytes of a fragment: a ModelProto with nodes, weights and local functions and nothing else, so that
 * concatenating it with others merges their graphs.
 *
 * @throws IsthmusError `model/unsupported` if it is larger than protobuf's 2 GiB.
 */
export function writeFragment(fragment: Fragment): Uint8Array {
  const numBytes = fragment.initializers.reduce((sum, tensor) => sum + storedBytes(tensor), 0);
  if (numBytes >= 2 ** 31) {
    throw new IsthmusError(
      'model/unsupported',
      `A segment holds ${(numBytes / 2 ** 30).toFixed(1)} GiB of weights; the ONNX format ends at 2 GiB. ` +
        'Cut the model into more segments (maxSegments or cutAt).',
    );
  }
  return writeModel(
    create(ModelProtoSchema, {
      functions: [...fragment.functions],
      graph: create(GraphProtoSchema, {
        node: fragment.nodes.map((node) => node.proto),
        initializer: fragment.initializers,
        sparseInitializer: fragment.sparse,
      }),
    }),
  );
}

/** Base64 of the fragment that starts every span: IR version, operator sets, graph name. */
export function writeHeader(flow: FlowGraph): string {
  const { irVersion, opsetImport, graph } = flow.model;
  const header = create(ModelProtoSchema, {
    irVersion,
    opsetImport,
    producerName: 'isthmus',
    graph: create(GraphProtoSchema, { name: graph!.name }),
  });
  return bytesToBase64(writeModel(header));
}

/** How a manifest lists a tensor of a cut. */
export function describeCutTensor(name: string, infos: TensorInfos, isBatched: boolean): CutTensor {
  const { elementType, shape } = infos.get(name)!;
  const type = fromOnnxType(elementType as number)!;
  const declared = valueInfo(name, type, isBatched ? ['batch', ...shape!.slice(1)] : shape!);
  const fragment = (graph: { input?: ValueInfoProto[]; output?: ValueInfoProto[] }): string =>
    bytesToBase64(writeModel(create(ModelProtoSchema, { graph: create(GraphProtoSchema, graph) })));
  return {
    name,
    type,
    shape: [...shape!],
    batched: isBatched,
    asInput: fragment({ input: [declared] }),
    asOutput: fragment({ output: [declared] }),
  };
}
