import { manifestLimits } from '@isthmus/core';
import { infoBytes, nodeCosts } from './costs.js';
import type { FlowGraph, FlowNode } from './flow.js';
import type { TensorInfos } from './shapes.js';
import { fromOnnxType } from './tensors.js';

/** A place where the model can be cut: every path from an input to an output runs through its tensors. */
export interface CutCandidate {
  /** Names, graph inputs and early outputs that are needed behind the cut included. */
  tensors: string[];
  /** Bytes of all tensors for one frame. */
  numBytes: number;
  /** Indices of the flow nodes in front of the cut, ascending: all that its tensors depend on. */
  prefix: readonly number[];
  /** Floating-point operations in front of the cut. */
  flops: number;
  /** Bytes of weights that the nodes in front of the cut need. */
  weightBytes: number;
}

export interface CutOptions {
  /** Cuts with more tensors than this are not returned. @default 4 */
  maxTensorsPerCut?: number;
  /** Whether a tensor may be part of a cut, on top of having a known shape and a type that can be sent. */
  allows?: (name: string) => boolean;
}

// Closures of every node are worth their quadratic cost on all but giant graphs; those have cuts enough.
const mostNodesForClosures = 4000;

/**
 * All places to cut a model, by ascending number of nodes in front of them; the inputs (nothing in front) and
 * the outputs (nothing behind) are not among them.
 *
 * A cut belongs to a set of nodes that contains everything its members depend on. The sets tried are
 * - every prefix of the topological order,
 * - for every node, the node with all its ancestors, and everything but the node with all its descendants,
 *   which do not depend on that order.
 *
 * Single-tensor cuts are complete: they are the dominators of all outputs. If every path runs through tensor
 * `t`, the ancestors of its producer precede, and all other nodes follow, in every topological order; so that
 * each is the prefix up to the producer. For the same reason they are nested in any other cut.
 *
 * @example
 * ```ts
 * const flow = indexFlow(normalizeModel(await readModel(bytes)));
 * const infos = inferShapes(flow, resolveInputShapes(flow.model.graph!.input));
 * for (const cut of findCuts(flow, infos)) console.log(cut.tensors, cut.numBytes);
 * ```
 */
export function findCuts(flow: FlowGraph, infos: TensorInfos, options: CutOptions = {}): CutCandidate[] {
  const { maxTensorsPerCut = 4, allows = () => true } = options;
  const mostTensors = Math.min(maxTensorsPerCut, manifestLimits.tensorsPerCut);
  const costs = nodeCosts(flow, infos);
  const flowNodes = flow.nodes.filter((node) => node.isFlow);
  const found = new Map<string, CutCandidate>();
  const consider = (inPrefix: Uint8Array): void => {
    const prefix = flowNodes.filter(({ index }) => inPrefix[index] === 1);
    if (prefix.length === 0 || prefix.length === flowNodes.length) return;
    const tensors = crossingTensors(flow, inPrefix);
    const key = tensors.join('\n');
    if (tensors.length > mostTensors || found.has(key)) return;
    if (!tensors.every((name) => isSendable(infos, name) && allows(name))) return;
    found.set(key, makeCut(prefix, tensors, infos, costs));
  };

  const growing = new Uint8Array(flow.nodes.length);
  for (const { index } of flowNodes) {
    growing[index] = 1;
    consider(growing);
  }
  if (flowNodes.length <= mostNodesForClosures) {
    for (const node of flowNodes) {
      consider(ancestors(flow, [node]));
      consider(descendants(flow, node).map((inside) => 1 - inside));
    }
  }
  return [...found.values()].sort((a, b) => a.prefix.length - b.prefix.length || a.flops - b.flops);
}

/**
 * The cut through exactly these tensors, whatever their number; undefined with the tensors that are missing if
 * something flows around them.
 */
export function cutThrough(
  flow: FlowGraph,
  infos: TensorInfos,
  tensors: readonly string[],
): { cut: CutCandidate } | { actual: string[] } {
  const producers = tensors.flatMap((name) => flow.producers.get(name) ?? []);
  const inPrefix = ancestors(flow, producers);
  const actual = crossingTensors(flow, inPrefix);
  const isExact = actual.length === tensors.length && actual.every((name) => tensors.includes(name));
  if (!isExact) return { actual };
  const prefix = flow.nodes.filter(({ index, isFlow }) => isFlow && inPrefix[index] === 1);
  return { cut: makeCut(prefix, actual, infos, nodeCosts(flow, infos)) };
}

/** Whether a tensor's type and shape are known and fit into a manifest. */
export function isSendable(infos: TensorInfos, name: string): boolean {
  const info = infos.get(name);
  return (
    typeof info?.elementType === 'number' &&
    fromOnnxType(info.elementType) !== undefined &&
    info.shape !== undefined &&
    info.shape.length <= manifestLimits.rank &&
    name.length <= 1000
  );
}

// What is there when the nodes in front have run, and is read behind or is an output.
function crossingTensors(flow: FlowGraph, inPrefix: Uint8Array): string[] {
  const crosses = (name: string): boolean =>
    flow.outputNames.includes(name) ||
    flow.consumers.get(name)?.some(({ index, isFlow }) => isFlow && inPrefix[index] !== 1) === true;
  const made = flow.nodes.filter(({ index, isFlow }) => isFlow && inPrefix[index] === 1);
  return [...flow.inputNames, ...made.flatMap((node) => node.outputs)].filter(crosses);
}

function makeCut(
  prefix: readonly FlowNode[],
  tensors: string[],
  infos: TensorInfos,
  costs: readonly { flops: number; weightBytes: number }[],
): CutCandidate {
  const indices = prefix.map(({ index }) => index);
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
  return {
    tensors,
    numBytes: sum(tensors.map((name) => infoBytes(infos.get(name)))),
    prefix: indices,
    flops: sum(indices.map((index) => costs[index]!.flops)),
    weightBytes: sum(indices.map((index) => costs[index]!.weightBytes)),
  };
}

// Marks flow nodes; nodes that compute constants belong to no side.
function ancestors(flow: FlowGraph, from: readonly FlowNode[]): Uint8Array {
  const marked = new Uint8Array(flow.nodes.length);
  const pending = from.filter((node) => node.isFlow);
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    if (marked[node.index] === 1) continue;
    marked[node.index] = 1;
    for (const name of node.inputs) {
      const producer = flow.producers.get(name);
      if (producer?.isFlow === true) pending.push(producer);
    }
  }
  return marked;
}

function descendants(flow: FlowGraph, from: FlowNode): Uint8Array {
  const marked = new Uint8Array(flow.nodes.length);
  const pending = [from];
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    if (marked[node.index] === 1) continue;
    marked[node.index] = 1;
    for (const name of node.outputs) pending.push(...(flow.consumers.get(name) ?? []));
  }
  return marked;
}
