import { elementCount, IsthmusError } from '@isthmus/core';
import { type Emitter, permute } from './emitter.js';
import {
  activate,
  binary,
  type Constant,
  clip,
  concat,
  type Pair,
  pad,
  prelu,
  reduce,
  reshape,
  slice,
  softmax,
  transpose,
  unary,
  type Value,
} from './nchw.js';
import {
  batchNormalization,
  type Convolution,
  conv,
  convTranspose,
  dense,
  pool,
  resize,
} from './nchw-spatial.js';
import { foldNormalization, type Normalization, readNormalization } from './tfjs-normalization.js';

/** What a layer's translation sees. */
export interface LayerSite {
  readonly emitter: Emitter;
  readonly inputs: readonly Value[];
  readonly config: Readonly<Record<string, unknown>>;
  /** The batch normalization to make part of this convolution. */
  readonly normalization: Normalization | undefined;
  weight(kind: string): Constant | undefined;
  /** A name for a tensor; the last one taken is the result's. */
  name(suffix?: string): string;
}

type Translation = (site: LayerSite) => Value;

/** How each layer becomes ONNX, by its Keras class. */
export const tfjsLayers: Readonly<Record<string, Translation | undefined>> = {
  Conv2D: (site) => {
    const kernel = weightOf(site, 'kernel', 4);
    const [height, width, inputs, outputs] = kernel.shape as [number, number, number, number];
    const data = permute(kernel.data, kernel.shape, [3, 2, 0, 1]);
    return convolution(site, data, [outputs, inputs, height, width]);
  },
  DepthwiseConv2D: (site) => {
    const kernel = weightOf(site, 'depthwise_kernel', 4);
    const [height, width, channels, multiplier] = kernel.shape as [number, number, number, number];
    const data = permute(kernel.data, kernel.shape, [2, 3, 0, 1]);
    return convolution(site, data, [channels * multiplier, 1, height, width]);
  },
  SeparableConv2D: (site) => {
    const depthwise = weightOf(site, 'depthwise_kernel', 4);
    const [height, width, channels, multiplier] = depthwise.shape as [number, number, number, number];
    const spread = conv(
      site.emitter,
      inputOf(site),
      {
        ...slidingOf(site),
        kernel: permute(depthwise.data, depthwise.shape, [2, 3, 0, 1]),
        kernelShape: [channels * multiplier, 1, height, width],
        bias: undefined,
        group: channels,
      },
      site.name('depthwise'),
    );
    const pointwise = weightOf(site, 'pointwise_kernel', 4);
    const [, , inputs, outputs] = pointwise.shape as [number, number, number, number];
    const data = permute(pointwise.data, pointwise.shape, [3, 2, 0, 1]);
    const still = { strides: [1, 1], dilations: [1, 1], padding: 'valid' } as const;
    return convolution(site, data, [outputs, inputs, 1, 1], { ...still, x: spread });
  },
  Conv2DTranspose: (site) => {
    const x = inputOf(site);
    const kernel = weightOf(site, 'kernel', 4);
    const [height, width, outputs, inputs] = kernel.shape as [number, number, number, number];
    const { strides, dilations, padding } = slidingOf(site);
    if (dilations.some((step) => step !== 1) || (site.config.output_padding ?? null) !== null) {
      throw refusal('dilation and output_padding are not supported.');
    }
    const grow = (axis: 0 | 1, reach: number): number =>
      x.shape[axis + 1]! * strides[axis] + (padding === 'same' ? 0 : Math.max(reach - strides[axis], 0));
    const spec = {
      kernel: permute(kernel.data, kernel.shape, [3, 2, 0, 1]),
      kernelShape: [inputs, outputs, height, width] as const,
      bias: site.weight('bias')?.data,
      strides,
      padding,
      outputSize: [grow(0, height), grow(1, width)] as const,
    };
    return withActivation(site, convTranspose(site.emitter, x, spec, site.name()));
  },

  BatchNormalization: (site) => {
    const x = inputOf(site);
    const normalization = readNormalization(site.config, site.weight, x.shape.length);
    return batchNormalization(site.emitter, x, normalization, site.name());
  },

  MaxPooling2D: (site) => pooling(site, 'MaxPool'),
  AveragePooling2D: (site) => pooling(site, 'AveragePool'),
  GlobalAveragePooling2D: (site) => globalPooling(site, 'ReduceMean'),
  GlobalMaxPooling2D: (site) => globalPooling(site, 'ReduceMax'),

  ZeroPadding2D: (site) =>
    pad(site.emitter, inputOf(site), [[0, 0], ...marginsOf(site, 'padding'), [0, 0]], site.name()),
  Cropping2D: (site) => {
    const x = inputOf(site);
    const margins: Pair[] = [[0, 0], ...marginsOf(site, 'cropping'), [0, 0]];
    const begin = margins.map(([before]) => before);
    const end = x.shape.map((size, axis) => size - margins[axis]![1]);
    return slice(
      site.emitter,
      x,
      begin,
      end,
      x.shape.map(() => 1),
      site.name(),
    );
  },
  UpSampling2D: (site) => {
    const x = inputOf(site);
    const [down, across] = pairOf(site, 'size', [2, 2]);
    const size = [x.shape[1]! * down, x.shape[2]! * across] as const;
    const mode = site.config.interpolation === 'bilinear' ? 'bilinear' : 'nearest';
    // TensorFlow.js leaves half_pixel_centers off, unlike Keras.
    return resize(site.emitter, x, size, mode, 'asymmetric', site.name());
  },

  Add: merging('Add'),
  Subtract: merging('Sub'),
  Multiply: merging('Mul'),
  Maximum: merging('Max'),
  Minimum: merging('Min'),
  Concatenate: (site) => concat(site.emitter, site.inputs, numberOf(site, 'axis', -1), site.name()),

  Flatten: (site) => {
    const x = inputOf(site);
    const [batch = 1, ...rest] = x.shape;
    return reshape(site.emitter, x, [batch, elementCount(rest)], site.name());
  },
  Reshape: (site) => {
    const x = inputOf(site);
    const target = site.config.target_shape;
    if (!Array.isArray(target)) throw new IsthmusError('model/invalid', 'its target_shape is missing.');
    const known = target.reduce((product: number, size) => (size < 0 ? product : product * size), 1);
    const inferred = elementCount(x.shape.slice(1)) / known;
    const sizes = target.map((size) => (size < 0 ? inferred : Number(size)));
    return reshape(site.emitter, x, [x.shape[0]!, ...sizes], site.name());
  },
  Permute: (site) => {
    const order = site.config.dims;
    if (!Array.isArray(order)) throw new IsthmusError('model/invalid', 'its dims are missing.');
    return transpose(site.emitter, inputOf(site), [0, ...order.map(Number)], site.name());
  },
  Dense: (site) => {
    const x = inputOf(site);
    const kernel = weightOf(site, 'kernel', 2);
    const [inputs, outputs] = kernel.shape as [number, number];
    const bias = site.weight('bias')?.data;
    const spec = { weights: kernel.data, inputs, outputs, outputsFirst: false, bias };
    return withActivation(
      site,
      dense(site.emitter, x, spec, [...x.shape.slice(0, -1), outputs], site.name()),
    );
  },

  Activation: (site) => {
    const kind = String(site.config.activation);
    const result = activate(site.emitter, kind, inputOf(site), site.name());
    if (result === undefined) throw refusal(`the activation ${kind} is not supported.`);
    return result;
  },
  ReLU: (site) => {
    const [x, highest] = [inputOf(site), site.config.max_value ?? null];
    const slope = numberOf(site, 'negative_slope', 0);
    if (numberOf(site, 'threshold', 0) !== 0 || (slope !== 0 && highest !== null)) {
      throw refusal('a threshold, or a slope together with a maximum, is not supported.');
    }
    if (slope !== 0) return unary(site.emitter, 'LeakyRelu', x, site.name(), { alpha: { float: slope } });
    if (highest !== null) return clip(site.emitter, x, 0, Number(highest), site.name());
    return unary(site.emitter, 'Relu', x, site.name());
  },
  LeakyReLU: (site) => {
    const alpha = numberOf(site, 'alpha', numberOf(site, 'negative_slope', 0.3));
    return unary(site.emitter, 'LeakyRelu', inputOf(site), site.name(), { alpha: { float: alpha } });
  },
  ELU: (site) =>
    unary(site.emitter, 'Elu', inputOf(site), site.name(), { alpha: { float: numberOf(site, 'alpha', 1) } }),
  PReLU: (site) => prelu(site.emitter, inputOf(site), weightOf(site, 'alpha'), site.name()),
  Softmax: (site) => {
    const x = inputOf(site);
    const axis = numberOf(site, 'axis', -1);
    if (axis !== -1 && axis !== x.shape.length - 1) throw refusal('only the last axis is supported.');
    return softmax(site.emitter, x, site.name());
  },

  // These act in training only.
  Dropout: inputOf,
  SpatialDropout2D: inputOf,
  GaussianNoise: inputOf,
  GaussianDropout: inputOf,
  ActivityRegularization: inputOf,
};

function refusal(reason: string): IsthmusError {
  return new IsthmusError('model/unsupported-operator', reason);
}

function inputOf(site: LayerSite): Value {
  const [x] = site.inputs;
  if (x === undefined || site.inputs.length !== 1) {
    throw new IsthmusError('model/invalid', `it takes one input, not ${site.inputs.length}.`);
  }
  return x;
}

function weightOf(site: LayerSite, kind: string, rank?: number): Constant {
  const weight = site.weight(kind);
  if (weight === undefined) throw new IsthmusError('model/invalid', `its weight ${kind} is missing.`);
  if (rank !== undefined && weight.shape.length !== rank) {
    throw new IsthmusError('model/invalid', `its ${kind} has the shape [${weight.shape}].`);
  }
  return weight;
}

function numberOf(site: LayerSite, key: string, absent: number): number {
  const value = site.config[key] ?? absent;
  if (typeof value !== 'number') throw new IsthmusError('model/invalid', `its ${key} is not a number.`);
  return value;
}

/** Keras writes one number for both axes, or two. */
function pairOf(site: LayerSite, key: string, absent: Pair): Pair {
  const value = site.config[key] ?? absent;
  const pair = Array.isArray(value) ? value : [value, value];
  if (pair.length !== 2 || !pair.every((item) => Number.isSafeInteger(item) && item > 0)) {
    throw new IsthmusError('model/invalid', `its ${key} is ${JSON.stringify(value)}.`);
  }
  return pair as unknown as Pair;
}

/** One number, one per axis, or before and after per axis. */
function marginsOf(site: LayerSite, key: string): [Pair, Pair] {
  const value = site.config[key] ?? 1;
  const axes = Array.isArray(value) ? value : [value, value];
  const pairs = axes.map((item): unknown[] => (Array.isArray(item) ? item : [item, item]));
  const whole = pairs.flat().every((count) => Number.isSafeInteger(count) && (count as number) >= 0);
  if (pairs.length !== 2 || pairs.some((pair) => pair.length !== 2) || !whole) {
    throw new IsthmusError('model/invalid', `its ${key} is ${JSON.stringify(value)}.`);
  }
  return pairs as unknown as [Pair, Pair];
}

function slidingOf(site: LayerSite): Pick<Convolution, 'strides' | 'dilations' | 'padding'> {
  const padding = site.config.padding ?? 'valid';
  if (padding !== 'same' && padding !== 'valid') throw refusal(`the padding ${padding} is not supported.`);
  return {
    padding,
    strides: pairOf(site, 'strides', [1, 1]),
    dilations: pairOf(site, 'dilation_rate', [1, 1]),
  };
}

function convolution(
  site: LayerSite,
  kernel: Float32Array,
  kernelShape: Convolution['kernelShape'],
  override: Partial<Convolution> & { x?: Value } = {},
): Value {
  const { x = inputOf(site), ...rest } = override;
  const spec: Convolution = {
    ...slidingOf(site),
    kernel,
    kernelShape,
    bias: site.weight('bias')?.data,
    group: (x.shape[3] ?? 0) / kernelShape[1],
    ...rest,
  };
  const { normalization } = site;
  const whole = normalization === undefined ? spec : foldNormalization(spec, normalization);
  return withActivation(site, conv(site.emitter, x, whole, site.name()));
}

/** With the layer's own activation, if it has one. */
function withActivation(site: LayerSite, linear: Value): Value {
  const kind = String(site.config.activation ?? 'linear');
  if (kind === 'linear') return linear;
  const result = activate(site.emitter, kind, linear, site.name(kind));
  if (result === undefined) throw refusal(`the activation ${kind} is not supported.`);
  return result;
}

function pooling(site: LayerSite, opType: 'MaxPool' | 'AveragePool'): Value {
  const kernel = pairOf(site, 'pool_size', [2, 2]);
  const { padding } = slidingOf(site);
  const spec = { kernel, padding, strides: pairOf(site, 'strides', kernel) };
  return pool(site.emitter, opType, inputOf(site), spec, site.name());
}

function globalPooling(site: LayerSite, opType: 'ReduceMean' | 'ReduceMax'): Value {
  const keepAxes = site.config.keepdims === true;
  return reduce(site.emitter, opType, inputOf(site), [1, 2], keepAxes, site.name());
}

function merging(opType: string): Translation {
  return (site) => {
    const [first, ...others] = site.inputs;
    if (first === undefined || others.length === 0) {
      throw new IsthmusError('model/invalid', 'it takes at least two inputs.');
    }
    return others.reduce((sum, x, index) => {
      const name = index === others.length - 1 ? site.name() : site.name('part');
      return binary(site.emitter, opType, sum, x, name);
    }, first);
  };
}
