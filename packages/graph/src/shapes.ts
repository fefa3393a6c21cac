import { elementCount, IsthmusError } from '@isthmus/core';
import type { FlowGraph, FlowNode } from './flow.js';
import { isOnnx } from './normalize.js';
import type { TensorProto, ValueInfoProto } from './onnx_pb.js';
import { modelOpset } from './read.js';
import { notStatic, type RuleContext, shapeRules } from './shape-rules.js';
import { fromOnnxType, onnxTypeName, readTensor, tensorShape } from './tensors.js';
import { type ElementType, outputTypes } from './type-rules.js';

/** What is known of a tensor. */
export interface TensorInfo {
  /** ONNX element type, `none` for sequences and the like, undefined if not known. */
  elementType: ElementType;
  /** For one frame; undefined if not known. */
  shape: number[] | undefined;
}

export type TensorInfos = Map<string, TensorInfo>;

// Constants longer than this are weights; no shape depends on their values.
const longestShapeConstant = 4096;

// A gigabyte of float32: beyond any frame, and a size that a damaged file can ask for.
const largestInput = 2 ** 28;

/**
 * Types and shapes of a normalized model's tensors, for one frame, as far as they follow from its graph alone.
 * Shape inference as in https://onnx.ai/onnx/repo-docs/ShapeInference.html, for the operators of
 * `shape-rules.ts`; a tensor behind any other operator is there with an undefined shape.
 *
 * @param inputShapes From {@link resolveInputShapes}.
 */
export function inferShapes(
  flow: FlowGraph,
  inputShapes: ReadonlyMap<string, readonly number[]>,
): TensorInfos {
  const infos: TensorInfos = new Map();
  for (const [name, tensor] of flow.initializers) {
    infos.set(name, { elementType: tensor.dataType, shape: tensorShape(tensor) });
  }
  for (const input of flow.model.graph!.input) {
    infos.set(input.name, { elementType: declaredType(input), shape: [...inputShapes.get(input.name)!] });
  }
  for (const node of flow.nodes) inferNode(flow, node, infos);
  return infos;
}

/** Infers again what lies behind tensors whose shapes have become known. */
export function completeShapes(flow: FlowGraph, infos: TensorInfos): void {
  for (const node of flow.nodes) {
    if (node.outputs.some((name) => infos.get(name)?.shape === undefined)) inferNode(flow, node, infos);
  }
}

function inferNode(flow: FlowGraph, node: FlowNode, infos: TensorInfos): void {
  const { proto } = node;
  const types = outputTypes(
    proto,
    proto.input.map((name) => infos.get(name)?.elementType),
  );
  const shapes = isOnnx(proto) ? applyRule(flow, node, infos) : [];
  proto.output.forEach((name, index) => {
    if (name === '') return;
    const known = infos.get(name);
    infos.set(name, {
      elementType: known?.elementType ?? types[index],
      shape: known?.shape ?? shapes[index],
    });
  });
}

function applyRule(flow: FlowGraph, { proto }: FlowNode, infos: TensorInfos): number[][] {
  const rule = shapeRules.get(proto.opType);
  if (rule === undefined) return [];
  const context: RuleContext = {
    node: proto,
    opset: modelOpset(flow.model) ?? 0,
    has: (index) => (proto.input[index] ?? '') !== '',
    shape(index) {
      const shape = infos.get(proto.input[index] ?? '')?.shape;
      if (shape === undefined) throw notStatic;
      return shape;
    },
    values: (index) => constantValues(flow.initializers.get(proto.input[index] ?? '')),
  };
  try {
    const shapes = rule(context);
    // A shape that cannot be means that the rule does not fit this node; the runtime has the last word.
    return shapes.every((shape) => shape.every((size) => Number.isSafeInteger(size) && size >= 0))
      ? shapes
      : [];
  } catch (reason) {
    if (reason instanceof IsthmusError) throw reason;
    // Not static, or an oddity that the rule did not expect: again the runtime has the last word.
    return [];
  }
}

function constantValues(tensor: TensorProto | undefined): number[] {
  if (tensor === undefined) throw notStatic;
  const type = fromOnnxType(tensor.dataType);
  if (type === undefined || type === 'float16' || elementCount(tensorShape(tensor)) > longestShapeConstant) {
    throw notStatic;
  }
  return Array.from(readTensor(tensor).data as ArrayLike<number | bigint>, Number);
}

/**
 * The shapes of the inputs for one frame: the declared sizes, 1 for a batch axis that is left open, and what
 * `given` says where another axis is open.
 *
 * @throws IsthmusError `usage/invalid` if an axis other than the first is open and `given` has no shape for
 * that input, or has one that contradicts the model; `model/unsupported` for an input of a type that cannot be
 * fed.
 */
export function resolveInputShapes(
  inputs: readonly ValueInfoProto[],
  given: Readonly<Record<string, readonly number[]>> = {},
): Map<string, number[]> {
  for (const name of Object.keys(given)) {
    if (!inputs.some((input) => input.name === name)) {
      const names = inputs.map((input) => input.name).join(', ');
      throw new IsthmusError('usage/invalid', `The model has no input ${name}; its inputs are ${names}.`);
    }
  }
  return new Map(inputs.map((input) => [input.name, resolveInputShape(input, given[input.name])]));
}

function resolveInputShape(input: ValueInfoProto, given: readonly number[] | undefined): number[] {
  const type = declaredType(input);
  if (typeof type !== 'number' || fromOnnxType(type) === undefined) {
    const found = typeof type === 'number' ? onnxTypeName(type) : 'no known type';
    throw new IsthmusError('model/unsupported', `The model's input ${input.name} is of ${found}.`);
  }
  const declared = declaredShape(input);
  const shown = declared?.map((size) => size ?? '?').join(', ') ?? 'any rank';
  const usable =
    given === undefined ||
    (given.every((size) => Number.isSafeInteger(size) && size > 0) &&
      (declared === undefined ||
        (declared.length === given.length &&
          declared.every((size, axis) => size === undefined || size === given[axis]))));
  if (!usable) {
    throw new IsthmusError(
      'usage/invalid',
      `The model's input ${input.name} is [${shown}]; the shape [${given}] does not fit it.`,
    );
  }
  const shape =
    given === undefined ? declared?.map((size, axis) => size ?? (axis === 0 ? 1 : undefined)) : [...given];
  if (shape === undefined || shape.includes(undefined)) {
    throw new IsthmusError(
      'usage/invalid',
      `The sizes of the model's input ${input.name} [${shown}] are open. Say which to split it for, as in ` +
        `inputShapes: { ${JSON.stringify(input.name)}: [1, 3, 224, 224] }.`,
      { details: { input: input.name } },
    );
  }
  if (elementCount(shape as number[]) > largestInput) {
    throw new IsthmusError('model/unsupported', `The model's input ${input.name} [${shape}] is too large.`);
  }
  return shape as number[];
}

// The element type that a graph input or output declares.
function declaredType(value: ValueInfoProto): ElementType {
  const type = value.type?.value;
  if (type?.case === undefined) return value.type === undefined ? undefined : 'none';
  return type.value.elemType || undefined;
}

/** The sizes that a graph input or output declares, undefined where an axis, or the whole rank, is open. */
export function declaredShape(value: ValueInfoProto): (number | undefined)[] | undefined {
  const type = value.type?.value;
  return type?.case === 'tensorType'
    ? type.value.shape?.dim.map((dim) => {
        const size = dim.value.case === 'dimValue' ? Number(dim.value.value) : -1;
        // Exporters write 0 or -1 for an open size, too.
        return size > 0 ? size : undefined;
      })
    : undefined;
}
