import { elementCount, IsthmusError } from '@isthmus/core';
import type { AttributeValue } from '../build.js';
import { type Emitter, permute } from './emitter.js';

/**
 * A tensor of the source, which lays images out as NHWC. Whatever has four axes lives in the ONNX graph as
 * NCHW; everything else as it was. `shape` is the source's.
 */
export interface Value {
  readonly shape: readonly number[];
  /** Its name in the ONNX graph; writes the pending node if nothing needed it before. */
  name(): string;
  readonly pending?: Pending;
}

/** A node not written yet, because what follows can often absorb it. */
export type Pending =
  /** Zeros around height and width. A convolution takes them as its own padding. */
  | { kind: 'pad'; of: Value; pads: Pads }
  /** Multiplied by a number. The maximum of this and `of` is a leaky ReLU. */
  | { kind: 'scale'; of: Value; factor: number }
  /** Flattened in NHWC order. A dense layer permutes its weights instead. */
  | { kind: 'flatten'; of: Value }
  /** Space to batch. A convolution between this and its inverse is a dilated one. */
  | { kind: 'blocks'; of: Value; block: Pair };

/** A constant in the source's layout. */
export interface Constant {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export type Operand = Value | Constant;
/** Height, width. */
export type Pair = readonly [number, number];
/** Top, left, bottom, right. */
export type Pads = readonly [number, number, number, number];

/** Axis `i` of a stored image is axis `sourceAxes[i]` of the source. */
const sourceAxes = [0, 3, 1, 2] as const;
/** Axis `i` of a source image is stored as axis `storedAxes[i]`. */
const storedAxes = [0, 2, 3, 1] as const;

/** Where an axis of the source (perhaps counted from the end) is stored. */
export function storedAxis(axis: number, rank: number): number {
  const positive = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(positive) || positive < 0 || positive >= rank) {
    throw new IsthmusError('model/invalid', `A tensor with ${rank} axes has no axis ${axis}.`);
  }
  return rank === 4 ? storedAxes[positive]! : positive;
}

/** The shape a source's tensor has in the ONNX graph. */
export function storedShape(shape: readonly number[]): number[] {
  return shape.length === 4 ? sourceAxes.map((axis) => shape[axis]!) : [...shape];
}

/** A tensor that is in the graph under this name. */
export function writtenValue(name: string, shape: readonly number[]): Value {
  return { shape, name: () => name };
}

/** A tensor whose node is written by `write` when first needed. */
export function pendingValue(
  shape: readonly number[],
  pending: Pending,
  name: string,
  write: () => void,
): Value {
  let written = false;
  return {
    shape,
    pending,
    name() {
      if (!written) write();
      written = true;
      return name;
    },
  };
}

/** The name of a constant that broadcasts against tensors with `rank` axes. */
export function constantName(emitter: Emitter, constant: Constant, rank: number, hint: string): string {
  if (constant.data.length === 1 && rank > 0) return emitter.scalar(constant.data[0]!);
  if (rank !== 4) return emitter.floats(hint, constant.shape, constant.data);
  const shape = [...Array<number>(4 - constant.shape.length).fill(1), ...constant.shape];
  return emitter.floats(hint, storedShape(shape), permute(constant.data, shape, sourceAxes));
}

/** Any operator that treats every element alike. */
export function unary(
  emitter: Emitter,
  opType: string,
  x: Value,
  name: string,
  attributes: Readonly<Record<string, AttributeValue>> = {},
  constants: readonly string[] = [],
): Value {
  emitter.node(opType, [x.name(), ...constants], [name], attributes);
  return writtenValue(name, x.shape);
}

/** Add, Sub, Mul, Div, Max or Min with numpy's broadcasting in the source's layout. */
export function binary(emitter: Emitter, opType: string, a: Operand, b: Operand, name: string): Value {
  const shape = broadcast(a.shape, b.shape);
  if (shape.length > 4 && [a, b].some((operand) => operand.shape.length === 4)) {
    throw new IsthmusError('model/unsupported-operator', 'An image meets a tensor of more than four axes.');
  }
  if (opType === 'Mul') {
    for (const [value, other] of [
      [a, b],
      [b, a],
    ] as const) {
      if (!('data' in value) && 'data' in other && other.data.length === 1) {
        const factor = other.data[0]!;
        return pendingValue(shape, { kind: 'scale', of: value, factor }, name, () =>
          emitter.node('Mul', [value.name(), emitter.scalar(factor)], [name]),
        );
      }
    }
  }
  if (opType === 'Max' && !('data' in a) && !('data' in b)) {
    const leaky = asLeakyRelu(emitter, a, b, name) ?? asLeakyRelu(emitter, b, a, name);
    if (leaky !== undefined) return leaky;
  }
  const inputs = [a, b].map((operand) => {
    if ('data' in operand) return constantName(emitter, operand, shape.length, `${name}/constant`);
    if (operand.shape.length === shape.length || shape.length !== 4) return operand.name();
    const padded = [...Array<number>(4 - operand.shape.length).fill(1), ...operand.shape];
    return reshape(emitter, operand, padded, emitter.unique(`${name}/aligned`)).name();
  });
  emitter.node(opType, inputs, [name]);
  return writtenValue(name, shape);
}

function asLeakyRelu(emitter: Emitter, scaled: Value, x: Value, name: string): Value | undefined {
  const { pending } = scaled;
  if (pending?.kind !== 'scale' || pending.of !== x || pending.factor < 0 || pending.factor > 1) return;
  return unary(emitter, 'LeakyRelu', x, name, { alpha: { float: pending.factor } });
}

function broadcast(a: readonly number[], b: readonly number[]): number[] {
  return Array.from(
    { length: Math.max(a.length, b.length) },
    (_, axis, rank = Math.max(a.length, b.length)) => {
      const left = a[axis - rank + a.length] ?? 1;
      const right = b[axis - rank + b.length] ?? 1;
      if (left !== right && left !== 1 && right !== 1) {
        throw new IsthmusError('model/invalid', `Shapes [${a}] and [${b}] do not broadcast.`);
      }
      return left === 1 ? right : left;
    },
  );
}

/** Activations by the names that Keras gives them. */
const activations: Readonly<Record<string, (emitter: Emitter, x: Value, name: string) => Value>> = {
  relu: (emitter, x, name) => unary(emitter, 'Relu', x, name),
  relu6: (emitter, x, name) => clip(emitter, x, 0, 6, name),
  relu_n1_to_1: (emitter, x, name) => clip(emitter, x, -1, 1, name),
  sigmoid: (emitter, x, name) => unary(emitter, 'Sigmoid', x, name),
  hard_swish: (emitter, x, name) => unary(emitter, 'HardSwish', x, name),
  tanh: (emitter, x, name) => unary(emitter, 'Tanh', x, name),
  elu: (emitter, x, name) => unary(emitter, 'Elu', x, name),
  selu: (emitter, x, name) => unary(emitter, 'Selu', x, name),
  softplus: (emitter, x, name) => unary(emitter, 'Softplus', x, name),
  softmax: (emitter, x, name) => softmax(emitter, x, name),
  swish: (emitter, x, name) => {
    const gate = unary(emitter, 'Sigmoid', x, emitter.unique(`${name}/gate`));
    return binary(emitter, 'Mul', x, gate, name);
  },
};

/** Undefined for a name that is not known. `linear` gives `x` itself. */
export function activate(emitter: Emitter, kind: string, x: Value, name: string): Value | undefined {
  return kind === 'linear' ? x : activations[kind]?.(emitter, x, name);
}

export function clip(emitter: Emitter, x: Value, lowest: number, highest: number, name: string): Value {
  return unary(emitter, 'Clip', x, name, {}, [emitter.scalar(lowest), emitter.scalar(highest)]);
}

/** ReLU with a slope for negative values per channel or element of an image. */
export function prelu(emitter: Emitter, x: Value, slope: Constant, name: string): Value {
  if (x.shape.length !== 4 || slope.shape.length > 4) {
    throw new IsthmusError('model/unsupported-operator', 'Slopes are only supported for images.');
  }
  const shape = [...Array<number>(4 - slope.shape.length).fill(1), ...slope.shape];
  const data = permute(slope.data, shape, sourceAxes);
  const slopeName = emitter.floats(`${name}/slope`, storedShape(shape).slice(1), data);
  return unary(emitter, 'PRelu', x, name, {}, [slopeName]);
}

/** Over the source's last axis. */
export function softmax(emitter: Emitter, x: Value, name: string): Value {
  return unary(emitter, 'Softmax', x, name, { axis: storedAxis(-1, x.shape.length) });
}

/** A reshape with the meaning it has on NHWC data; transposes only where the order of elements differs. */
export function reshape(emitter: Emitter, x: Value, shape: readonly number[], name: string): Value {
  if (elementCount(shape) !== elementCount(x.shape)) {
    throw new IsthmusError('model/invalid', `[${x.shape}] cannot be reshaped to [${shape}].`);
  }
  if (shape.length === x.shape.length && shape.every((size, axis) => size === x.shape[axis])) return x;
  const fromImage = x.shape.length === 4 && !sameOrder(x.shape);
  const toImage = shape.length === 4 && !sameOrder(shape);
  const write = () => {
    let from = x.name();
    if (fromImage) {
      from = emitter.unique(`${name}/nhwc`);
      emitter.node('Transpose', [x.name()], [from], { perm: storedAxes });
    }
    const target = toImage ? shape : storedShape(shape);
    // Zero copies the batch, whatever its size.
    const sizes = target.map((size, axis) => (axis === 0 && size === x.shape[0] ? 0 : size));
    const to = toImage ? emitter.unique(`${name}/nhwc`) : name;
    emitter.node('Reshape', [from, emitter.integers(`${name}/shape`, sizes)], [to]);
    if (toImage) emitter.node('Transpose', [to], [name], { perm: sourceAxes });
  };
  if (fromImage && shape.length === 2 && shape[0] === x.shape[0]) {
    return pendingValue(shape, { kind: 'flatten', of: x }, name, write);
  }
  write();
  return writtenValue(name, shape);
}

/** Whether an image's elements are in the same order as NHWC and as NCHW. */
function sameOrder([, height = 1, width = 1, channels = 1]: readonly number[]): boolean {
  return channels === 1 || height * width === 1;
}

/** `order[i]` is the source axis that becomes axis `i`. */
export function transpose(emitter: Emitter, x: Value, order: readonly number[], name: string): Value {
  const rank = x.shape.length;
  if (order.length !== rank || new Set(order).size !== rank) {
    throw new IsthmusError('model/invalid', `[${order}] does not order the axes of [${x.shape}].`);
  }
  const stored = (axis: number) => storedAxis(axis, rank);
  const perm = new Array<number>(rank);
  order.forEach((from, to) => {
    perm[stored(to)] = stored(from);
  });
  const shape = order.map((axis) => x.shape[axis]!);
  emitter.node('Transpose', [x.name()], [name], { perm });
  return writtenValue(name, shape);
}

export function concat(emitter: Emitter, parts: readonly Operand[], sourceAxis: number, name: string): Value {
  const shape = [...(parts[0]?.shape ?? [])];
  const axis = sourceAxis < 0 ? sourceAxis + shape.length : sourceAxis;
  const fits = (part: Operand) =>
    part.shape.length === shape.length && part.shape.every((size, at) => at === axis || size === shape[at]);
  if (!parts.every(fits)) {
    const list = parts.map((part) => `[${part.shape}]`).join(', ');
    throw new IsthmusError('model/invalid', `${list} do not join along axis ${sourceAxis}.`);
  }
  shape[axis] = parts.reduce((sum, part) => sum + (part.shape[axis] ?? Number.NaN), 0);
  const inputs = parts.map((part) => {
    if (!('data' in part)) return part.name();
    const data = shape.length === 4 ? permute(part.data, part.shape, sourceAxes) : part.data;
    return emitter.floats(`${name}/constant`, storedShape(part.shape), data);
  });
  emitter.node('Concat', inputs, [name], { axis: storedAxis(axis, shape.length) });
  return writtenValue(name, shape);
}

/** Pads every source axis by `[before, after]`. */
export function pad(
  emitter: Emitter,
  x: Value,
  paddings: readonly Pair[],
  name: string,
  mode: 'constant' | 'reflect' = 'constant',
  filler: number = 0,
): Value {
  const rank = x.shape.length;
  if (paddings.length !== rank || paddings.flat().some((count) => count < 0)) {
    throw new IsthmusError('model/invalid', `[${paddings.join('; ')}] does not pad [${x.shape}].`);
  }
  if (paddings.every(([before, after]) => before === 0 && after === 0)) return x;
  const shape = x.shape.map((size, axis) => size + paddings[axis]![0] + paddings[axis]![1]);
  const write = () => {
    const stored = rank === 4 ? sourceAxes.map((axis) => paddings[axis]!) : paddings;
    const pads = [...stored.map(([before]) => before), ...stored.map(([, after]) => after)];
    const inputs = [x.name(), emitter.integers(`${name}/pads`, pads)];
    emitter.node('Pad', filler === 0 ? inputs : [...inputs, emitter.scalar(filler)], [name], { mode });
  };
  const [batch, height, width, channels] = paddings;
  const spatial = rank === 4 && [...batch!, ...channels!].every((count) => count === 0);
  if (spatial && mode === 'constant' && filler === 0) {
    const pads: Pads = [height![0], width![0], height![1], width![1]];
    return pendingValue(shape, { kind: 'pad', of: x, pads }, name, write);
  }
  write();
  return writtenValue(name, shape);
}

/** `x[begin:end:step]` per source axis, `begin` and `end` already within bounds. */
export function slice(
  emitter: Emitter,
  x: Value,
  begin: readonly number[],
  end: readonly number[],
  step: readonly number[],
  name: string,
): Value {
  const shape = x.shape.map((_, axis) => Math.max(0, Math.ceil((end[axis]! - begin[axis]!) / step[axis]!)));
  const changed = x.shape.flatMap((size, axis) =>
    begin[axis] === 0 && end[axis] === size && step[axis] === 1 ? [] : [axis],
  );
  if (changed.length === 0) return x;
  const list = (hint: string, of: (axis: number) => number) =>
    emitter.integers(`${name}/${hint}`, changed.map(of));
  emitter.node(
    'Slice',
    [
      x.name(),
      list('starts', (axis) => begin[axis]!),
      // An end before the first element can only be written as a very negative one.
      list('ends', (axis) => (end[axis]! < 0 ? -(2 ** 31) : end[axis]!)),
      list('axes', (axis) => storedAxis(axis, x.shape.length)),
      list('steps', (axis) => step[axis]!),
    ],
    [name],
  );
  return writtenValue(name, shape);
}

/** Mean, sum, largest or smallest over source axes. */
export function reduce(
  emitter: Emitter,
  opType: 'ReduceMean' | 'ReduceSum' | 'ReduceMax' | 'ReduceMin',
  x: Value,
  sourceAxesReduced: readonly number[],
  keepAxes: boolean,
  name: string,
): Value {
  const rank = x.shape.length;
  const positive = sourceAxesReduced.map((axis) => (axis < 0 ? axis + rank : axis));
  const kept = x.shape.map((size, axis) => (positive.includes(axis) ? 1 : size));
  const shape = x.shape.filter((_, axis) => !positive.includes(axis));
  const axes = positive.map((axis) => storedAxis(axis, rank)).sort((a, b) => a - b);
  const reduced = keepAxes ? name : emitter.unique(`${name}/reduced`);
  if (rank === 4 && opType !== 'ReduceSum' && opType !== 'ReduceMin' && `${axes}` === '2,3') {
    emitter.node(opType === 'ReduceMean' ? 'GlobalAveragePool' : 'GlobalMaxPool', [x.name()], [reduced]);
  } else if (opType === 'ReduceSum') {
    emitter.node(opType, [x.name(), emitter.integers(`${name}/axes`, axes)], [reduced], { keepdims: 1 });
  } else {
    emitter.node(opType, [x.name()], [reduced], { axes, keepdims: 1 });
  }
  const value = writtenValue(reduced, kept);
  return keepAxes ? value : reshape(emitter, value, shape, name);
}
