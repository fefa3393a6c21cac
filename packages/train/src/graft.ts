import { IsthmusError, type Tensor } from '@isthmus/core';
import {
  float32Tensor,
  type ModelProto,
  type NodeProto,
  normalizeModel,
  readTensor,
  type TensorProto,
} from '@isthmus/graph';
import type { Draft } from './draft.js';
import { Ops } from './ops.js';
import { findWeights } from './weights.js';

export interface GraftOptions {
  /** What each input of the model is in the draft. */
  inputs: Readonly<Record<string, string>>;
  /** Before the name of everything that is added. @default '' */
  prefix?: string;
  /**
   * Which of the model's float32 weights are to be trained, by their name in the model. Asked of kernels, matrices,
   * biases and scales, not of limits, statistics and other constants. @default none
   */
  trains?: (name: string) => boolean;
  /**
   * Given it, what is trained of a weight is not the weight itself but a change to it, zero at first, in these units: so
   * that an optimizer that moves all parameters equally far moves each weight by what suits it. The parameter is called
   * as the weight, with `/change` behind it. @default the weights themselves
   */
  pace?: (weight: Tensor<'float32'>) => Float32Array<ArrayBuffer>;
}

/** Operators that mean something else in operator set 17 than in 13 to 16. */
const changed: ReadonlySet<string> = new Set(['RoiAlign']);

/**
 * Adds a model, such as a span of a bundle, to a draft. Its weights are constants, or parameters where `trains`
 * says so.
 *
 * @returns The names in the draft of the model's outputs, by their name in the model.
 *
 * @throws IsthmusError `usage/invalid` if an input is missing; `model/unsupported` for operator sets older than 13 or
 * newer than the draft's, weights of types that Isthmus does not compute with, and operators with nested graphs.
 *
 * @example
 * ```ts
 * const tail = await readModel(bundleSpan(bundle, 3, 6));
 * const outputs = graft(draft, tail, { inputs: { 'conv4/relu': decoded }, prefix: 'teacher/' });
 * ```
 */
export function graft(draft: Draft, model: ModelProto, options: GraftOptions): ReadonlyMap<string, string> {
  const { prefix = '', trains = () => false } = options;
  const { graph, opsetImport } = normalizeModel(model);
  if (graph === undefined) throw new IsthmusError('model/invalid', 'The model holds no graph.');
  const onnx = opsetImport.find(({ domain }) => domain === '' || domain === 'ai.onnx');
  checkOpset(Number(onnx?.version ?? draft.opset), draft.opset, graph.node);
  const names = new Map<string, string>([['', '']]);
  for (const { name } of graph.input) {
    const given = options.inputs[name];
    if (given === undefined) {
      throw new IsthmusError('usage/invalid', `The model's input ${name} is not among the given inputs.`);
    }
    names.set(name, given);
  }
  const weights = findWeights(graph.node, graph.initializer);
  for (const proto of graph.initializer) {
    names.set(
      proto.name,
      addWeight(draft, proto, `${prefix}${proto.name}`, {
        isTrained: weights.has(proto.name) && trains(proto.name),
        pace: options.pace,
      }),
    );
  }
  const nameOf = (name: string): string => names.get(name) ?? '';
  for (const node of graph.node) {
    if (node.attribute.some(({ g, graphs }) => g !== undefined || graphs.length > 0)) {
      throw new IsthmusError(
        'model/unsupported',
        `Node ${node.name} (${node.opType}) holds a graph of its own.`,
      );
    }
    for (const name of node.output) if (name !== '') names.set(name, `${prefix}${name}`);
    draft.copy(node, node.input.map(nameOf), node.output.map(nameOf));
  }
  return new Map(graph.output.map(({ name }) => [name, nameOf(name)]));
}

function addWeight(
  draft: Draft,
  proto: TensorProto,
  name: string,
  { isTrained, pace }: { isTrained: boolean; pace: GraftOptions['pace'] },
): string {
  const tensor = readTensor(proto);
  if (!isTrained || !isFloat32(tensor)) return draft.constant(tensor, name);
  if (pace === undefined) return draft.parameter(name, tensor);
  const zeros = float32Tensor(new Float32Array(tensor.data.length), tensor.shape);
  const ops = new Ops(draft);
  const units = ops.floats(pace(tensor), tensor.shape);
  const change = ops.mul(draft.parameter(`${name}/change`, zeros), units);
  return ops.add(draft.constant(tensor, `${name}/before`), change);
}

function isFloat32(tensor: Tensor): tensor is Tensor<'float32'> {
  return tensor.type === 'float32';
}

function checkOpset(opset: number, ofDraft: number, nodes: readonly NodeProto[]): void {
  const refuse = (reason: string): IsthmusError =>
    new IsthmusError('model/unsupported', `The model uses operator set ${opset}: ${reason}`, {
      details: { opset },
    });
  if (opset < 13) throw refuse('training takes 13 or later. Convert it, or export it again.');
  if (opset === ofDraft) return;
  if (opset > ofDraft) throw refuse(`make the draft with { opset: ${opset} }.`);
  const node = nodes.find(({ opType }) => changed.has(opType));
  if (ofDraft > 17 || node !== undefined) {
    const means = node === undefined ? '' : `, in which ${node.opType} means something else`;
    throw refuse(`the draft uses ${ofDraft}${means}.`);
  }
}
