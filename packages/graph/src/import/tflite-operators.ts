import { elementCount, IsthmusError } from '@isthmus/core';
import { permute } from './emitter.js';
import {
  activate,
  binary,
  concat,
  type Operand,
  type Pair,
  pad,
  prelu,
  reduce,
  reshape,
  slice,
  softmax,
  storedAxis,
  transpose,
  unary,
  type Value,
  writtenValue,
} from './nchw.js';
import { batchToSpace, conv, convTranspose, dense, pool, resize, spaceToBatch } from './nchw-spatial.js';
import type { OperatorSite } from './tflite.js';

type Translation = (site: OperatorSite) => Operand | Operand[];

// Fields of the option tables are numbered as in schema.fbs.
const fusedActivations = ['linear', 'relu', 'relu_n1_to_1', 'relu6', 'tanh'] as const;

/** How each operator becomes ONNX, by its name in schema.fbs. */
export const tfliteOperators: Readonly<Record<string, Translation | undefined>> = {
  CONV_2D: (site) => {
    const { options } = site;
    const kernel = site.constant(1);
    const [outputs = 0, height = 0, width = 0, inputs = 1] = kernel.shape;
    const channels = site.value(0).shape[3] ?? 0;
    const spec = {
      kernel: permute(kernel.data, kernel.shape, [0, 3, 1, 2]),
      kernelShape: [outputs, inputs, height, width] as const,
      bias: site.optionalConstant(2)?.data,
      group: channels / inputs,
      strides: [options.int32(2), options.int32(1)] as const,
      dilations: [options.int32(5, 1), options.int32(4, 1)] as const,
      padding: paddingOf(site),
    };
    return withActivation(site, 3, (name) => conv(site.emitter, site.value(0), spec, name));
  },

  DEPTHWISE_CONV_2D: (site) => {
    const { options } = site;
    const kernel = site.constant(1);
    const [, height = 0, width = 0, outputs = 0] = kernel.shape;
    const spec = {
      kernel: permute(kernel.data, kernel.shape, [3, 0, 1, 2]),
      kernelShape: [outputs, 1, height, width] as const,
      bias: site.optionalConstant(2)?.data,
      group: site.value(0).shape[3] ?? 0,
      strides: [options.int32(2), options.int32(1)] as const,
      dilations: [options.int32(6, 1), options.int32(5, 1)] as const,
      padding: paddingOf(site),
    };
    return withActivation(site, 4, (name) => conv(site.emitter, site.value(0), spec, name));
  },

  TRANSPOSE_CONV: (site) => {
    const { options } = site;
    const [, outHeight = 0, outWidth = 0] = site.integers(0);
    const kernel = site.constant(1);
    const [outputs = 0, height = 0, width = 0, inputs = 0] = kernel.shape;
    const spec = {
      kernel: permute(kernel.data, kernel.shape, [3, 0, 1, 2]),
      kernelShape: [inputs, outputs, height, width] as const,
      bias: site.optionalConstant(3)?.data,
      strides: [options.int32(2), options.int32(1)] as const,
      padding: paddingOf(site),
      outputSize: [outHeight, outWidth] as const,
    };
    return withActivation(site, 3, (name) => convTranspose(site.emitter, site.value(2), spec, name));
  },

  FULLY_CONNECTED: (site) => {
    const { options } = site;
    if (options.int8(1) !== 0) {
      throw new IsthmusError('model/unsupported-operator', 'Shuffled weights are not supported.');
    }
    const weights = site.constant(1);
    const [outputs = 0, inputs = 0] = weights.shape;
    const x = site.value(0);
    const shape = options.bool(2)
      ? [...x.shape.slice(0, -1), outputs]
      : [elementCount(x.shape) / inputs, outputs];
    const spec = {
      weights: weights.data,
      inputs,
      outputs,
      outputsFirst: true,
      bias: site.optionalConstant(2)?.data,
    };
    return withActivation(site, 0, (name) => dense(site.emitter, x, spec, shape, name));
  },

  AVERAGE_POOL_2D: pooling('AveragePool'),
  MAX_POOL_2D: pooling('MaxPool'),

  ADD: arithmetic('Add', 0),
  SUB: arithmetic('Sub', 0),
  MUL: arithmetic('Mul', 0),
  DIV: arithmetic('Div', 0),
  MAXIMUM: arithmetic('Max'),
  MINIMUM: arithmetic('Min'),

  RELU: activation('relu'),
  RELU6: activation('relu6'),
  RELU_N1_TO_1: activation('relu_n1_to_1'),
  LOGISTIC: activation('sigmoid'),
  TANH: activation('tanh'),
  ELU: activation('elu'),
  HARD_SWISH: activation('hard_swish'),
  EXP: elementwise('Exp'),
  LOG: elementwise('Log'),
  SQRT: elementwise('Sqrt'),
  ABS: elementwise('Abs'),
  NEG: elementwise('Neg'),
  FLOOR: elementwise('Floor'),

  LEAKY_RELU: (site) =>
    unary(site.emitter, 'LeakyRelu', site.value(0), site.name(), {
      alpha: { float: site.options.float32(0) },
    }),

  PRELU: (site) => prelu(site.emitter, site.value(0), site.constant(1), site.name()),

  SOFTMAX: (site) => {
    const beta = site.options.float32(0);
    const x = site.value(0);
    if (beta === 1) return softmax(site.emitter, x, site.name());
    const factor = { shape: [], data: Float32Array.of(beta) };
    const scaled = binary(site.emitter, 'Mul', x, factor, site.emitter.unique(`${site.name()}/scaled`));
    return softmax(site.emitter, scaled, site.name());
  },

  RESHAPE: (site) => {
    const x = site.value(0);
    const wanted = site.has(1) ? site.integers(1) : site.options.int32s(0);
    const known = wanted.reduce((product, size) => (size < 0 ? product : product * size), 1);
    const shape = wanted.map((size) => (size < 0 ? elementCount(x.shape) / known : size));
    return reshape(site.emitter, x, shape, site.name());
  },
  SQUEEZE: (site) => {
    const x = site.value(0);
    const axes = site.options.int32s(0).map((axis) => (axis < 0 ? axis + x.shape.length : axis));
    const shape = x.shape.filter((size, axis) =>
      axes.length === 0 ? size !== 1 : !(axes.includes(axis) && size === 1),
    );
    return reshape(site.emitter, x, shape, site.name());
  },
  EXPAND_DIMS: (site) => {
    const x = site.value(0);
    const [axis = 0] = site.integers(1);
    return reshape(
      site.emitter,
      x,
      x.shape.toSpliced(axis < 0 ? axis + x.shape.length + 1 : axis, 0, 1),
      site.name(),
    );
  },

  CONCATENATION: (site) => {
    const parts = Array.from({ length: site.numInputs }, (_, input) => site.operand(input));
    return withActivation(site, 1, (name) => concat(site.emitter, parts, site.options.int32(0), name));
  },
  PAD: (site) => pad(site.emitter, site.value(0), pairs(site.integers(1)), site.name()),
  PADV2: (site) =>
    pad(
      site.emitter,
      site.value(0),
      pairs(site.integers(1)),
      site.name(),
      'constant',
      site.constant(2).data[0] ?? 0,
    ),
  MIRROR_PAD: (site) => {
    if (site.options.int8(0) !== 0) {
      throw new IsthmusError('model/unsupported-operator', 'Only the mode REFLECT is supported.');
    }
    return pad(site.emitter, site.value(0), pairs(site.integers(1)), site.name(), 'reflect');
  },
  TRANSPOSE: (site) => transpose(site.emitter, site.value(0), site.integers(1), site.name()),

  MEAN: reduction('ReduceMean'),
  SUM: reduction('ReduceSum'),
  REDUCE_MAX: reduction('ReduceMax'),

  RESIZE_BILINEAR: (site) => resizing(site, 'bilinear', 2),
  RESIZE_NEAREST_NEIGHBOR: (site) => resizing(site, 'nearest', 0),

  SPACE_TO_BATCH_ND: (site) =>
    spaceToBatch(site.emitter, site.value(0), ...blockAndMargins(site), site.name()),
  BATCH_TO_SPACE_ND: (site) =>
    batchToSpace(site.emitter, site.value(0), ...blockAndMargins(site), site.name()),

  STRIDED_SLICE: stridedSlice,
  SLICE: (site) => {
    const x = site.value(0);
    const [begin, size] = [site.integers(1), site.integers(2)];
    const end = x.shape.map((length, axis) => (size[axis]! < 0 ? length : begin[axis]! + size[axis]!));
    return slice(
      site.emitter,
      x,
      begin,
      end,
      x.shape.map(() => 1),
      site.name(),
    );
  },
  SPLIT: (site) => {
    const count = site.outputShapes.length;
    const [axis = 0] = site.integers(0);
    const x = site.value(1);
    const size = (x.shape[axis < 0 ? axis + x.shape.length : axis] ?? 0) / count;
    return split(site, x, axis, Array<number>(count).fill(size));
  },
  SPLIT_V: (site) => split(site, site.value(0), site.integers(2)[0] ?? 0, site.integers(1)),

  DEQUANTIZE: (site) => site.constant(0),
};

function paddingOf(site: OperatorSite): 'same' | 'valid' {
  return site.options.int8(0) === 0 ? 'same' : 'valid';
}

function pairs(flat: readonly number[]): Pair[] {
  return Array.from({ length: flat.length / 2 }, (_, row) => [flat[2 * row]!, flat[2 * row + 1]!] as const);
}

function withActivation(site: OperatorSite, field: number, make: (name: string) => Value): Value {
  const kind = fusedActivations[site.options.int8(field)];
  if (kind === undefined) {
    throw new IsthmusError(
      'model/unsupported-operator',
      `Activation ${site.options.int8(field)} is not known.`,
    );
  }
  if (kind === 'linear') return make(site.name());
  const linear = make(site.emitter.unique(`${site.name()}/linear`));
  return activate(site.emitter, kind, linear, site.name())!;
}

function pooling(opType: 'AveragePool' | 'MaxPool'): Translation {
  return (site) => {
    const { options } = site;
    const spec = {
      kernel: [options.int32(4), options.int32(3)] as const,
      strides: [options.int32(2), options.int32(1)] as const,
      padding: paddingOf(site),
    };
    return withActivation(site, 5, (name) => pool(site.emitter, opType, site.value(0), spec, name));
  };
}

function arithmetic(opType: string, activationField?: number): Translation {
  return (site) => {
    const make = (name: string) => binary(site.emitter, opType, site.operand(0), site.operand(1), name);
    return activationField === undefined ? make(site.name()) : withActivation(site, activationField, make);
  };
}

function activation(kind: string): Translation {
  return (site) => activate(site.emitter, kind, site.value(0), site.name())!;
}

function elementwise(opType: string): Translation {
  return (site) => unary(site.emitter, opType, site.value(0), site.name());
}

function reduction(opType: 'ReduceMean' | 'ReduceSum' | 'ReduceMax'): Translation {
  return (site) =>
    reduce(site.emitter, opType, site.value(0), site.integers(1), site.options.bool(0), site.name());
}

function resizing(site: OperatorSite, mode: 'bilinear' | 'nearest', alignField: number): Value {
  const [height = 0, width = 0] = site.integers(1);
  const halfPixel = site.options.bool(alignField + 1) ? 'half-pixel' : 'asymmetric';
  const coordinates = site.options.bool(alignField) ? 'align-corners' : halfPixel;
  return resize(site.emitter, site.value(0), [height, width], mode, coordinates, site.name());
}

function blockAndMargins(site: OperatorSite): [Pair, readonly [Pair, Pair]] {
  const [block, margins] = [site.integers(1), pairs(site.integers(2))];
  if (block.length !== 2 || margins.length !== 2) {
    throw new IsthmusError('model/unsupported-operator', 'Only blocks of height and width are supported.');
  }
  return [
    [block[0]!, block[1]!],
    [margins[0]!, margins[1]!],
  ];
}

function stridedSlice(site: OperatorSite): Value {
  const { options } = site;
  const x = site.value(0);
  const [begins, ends, steps] = [site.integers(1), site.integers(2), site.integers(3)];
  if (options.int32(2) !== 0 || options.int32(3) !== 0 || begins.length !== x.shape.length) {
    throw new IsthmusError('model/unsupported-operator', 'Ellipsis and new axes are not supported.');
  }
  const [beginMask, endMask, shrinkMask] = [options.int32(0), options.int32(1), options.int32(4)];
  const shrinks = (axis: number) => (shrinkMask >> axis) & 1;
  const step = x.shape.map((_, axis) => (shrinks(axis) ? 1 : steps[axis] || 1));
  const bound = (value: number, axis: number): number => {
    const size = x.shape[axis]!;
    const [lowest, highest] = step[axis]! > 0 ? [0, size] : [-1, size - 1];
    return Math.min(Math.max(value < 0 ? value + size : value, lowest), highest);
  };
  const begin = x.shape.map((size, axis) => {
    if ((beginMask >> axis) & 1 && !shrinks(axis)) return step[axis]! > 0 ? 0 : size - 1;
    return bound(begins[axis]!, axis);
  });
  const end = x.shape.map((size, axis) => {
    if (shrinks(axis)) return begin[axis]! + 1;
    if ((endMask >> axis) & 1) return step[axis]! > 0 ? size : -1;
    return bound(ends[axis]!, axis);
  });
  if (shrinkMask === 0) return slice(site.emitter, x, begin, end, step, site.name());
  const whole = slice(site.emitter, x, begin, end, step, site.emitter.unique(`${site.name()}/whole`));
  const shape = whole.shape.filter((_, axis) => !shrinks(axis));
  return reshape(site.emitter, whole, shape, site.name());
}

function split(site: OperatorSite, x: Value, axis: number, sizes: readonly number[]): Value[] {
  const positive = axis < 0 ? axis + x.shape.length : axis;
  const names = sizes.map((_, output) => site.name(output));
  const sizesName = site.emitter.integers(`${names[0]}/sizes`, sizes);
  const at = storedAxis(positive, x.shape.length);
  if (sizes.reduce((sum, size) => sum + size, 0) !== x.shape[positive] || !sizes.every(Number.isInteger)) {
    throw new IsthmusError('model/invalid', `[${x.shape}] does not split into ${sizes} along axis ${axis}.`);
  }
  site.emitter.node('Split', [x.name(), sizesName], names, { axis: at });
  return sizes.map((size, output) => writtenValue(names[output]!, x.shape.with(positive, size)));
}
