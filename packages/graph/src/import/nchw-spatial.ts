import { elementCount, IsthmusError } from '@isthmus/core';
import { type Emitter, permute } from './emitter.js';
import { type Pads, type Pair, pad, pendingValue, reshape, slice, type Value, writtenValue } from './nchw.js';

export interface Convolution {
  /** In ONNX's order: [outputs, inputs / group, height, width]. */
  kernel: Float32Array;
  kernelShape: readonly [number, number, number, number];
  bias: Float32Array | undefined;
  group: number;
  strides: Pair;
  dilations: Pair;
  padding: 'same' | 'valid';
}

/** TensorFlow's SAME padding as explicit numbers; the odd one goes to the bottom and right. */
function padsFor(
  padding: 'same' | 'valid',
  [height, width]: Pair,
  kernel: Pair,
  strides: Pair,
  dilations: Pair = [1, 1],
): Pads {
  if (padding === 'valid') return [0, 0, 0, 0];
  const along = (size: number, axis: 0 | 1): Pair => {
    const reach = (kernel[axis] - 1) * dilations[axis] + 1;
    const total = Math.max((Math.ceil(size / strides[axis]) - 1) * strides[axis] + reach - size, 0);
    return [Math.floor(total / 2), Math.ceil(total / 2)];
  };
  const [vertical, horizontal] = [along(height, 0), along(width, 1)];
  return [vertical[0], horizontal[0], vertical[1], horizontal[1]];
}

function imageOf(x: Value): { batch: number; size: Pair; channels: number } {
  const [batch, height, width, channels] = x.shape;
  if (x.shape.length !== 4) {
    throw new IsthmusError('model/invalid', `An image needs four axes, not the shape [${x.shape}].`);
  }
  return { batch: batch!, size: [height!, width!], channels: channels! };
}

function slidingSize(size: Pair, pads: Pads, kernel: Pair, strides: Pair, dilations: Pair): Pair {
  const along = (axis: 0 | 1): number => {
    const reach = (kernel[axis] - 1) * dilations[axis] + 1;
    return Math.floor((size[axis] + pads[axis] + pads[axis + 2]! - reach) / strides[axis]) + 1;
  };
  const [height, width] = [along(0), along(1)];
  if (!(height > 0 && width > 0 && [...strides, ...dilations, ...kernel].every((value) => value > 0))) {
    throw new IsthmusError(
      'model/invalid',
      `A ${kernel.join('×')} window with strides ${strides} does not fit ${size.join('×')}.`,
    );
  }
  return [height, width];
}

export function conv(emitter: Emitter, x: Value, spec: Convolution, name: string): Value {
  const { batch, size, channels } = imageOf(x);
  const [outputs, inputs, ...kernel] = spec.kernelShape;
  if (
    elementCount(spec.kernelShape) !== spec.kernel.length ||
    inputs * spec.group !== channels ||
    outputs % spec.group !== 0 ||
    (spec.bias !== undefined && spec.bias.length !== outputs)
  ) {
    throw new IsthmusError('model/invalid', `The weights do not fit ${channels} input channels.`);
  }
  const plain = [...spec.strides, ...spec.dilations].every((value) => value === 1);
  if (x.pending?.kind === 'blocks' && plain && (spec.padding === 'valid' || elementCount(kernel) === 1)) {
    const { of, block } = x.pending;
    const dilated = { ...spec, dilations: block, padding: 'valid' as const };
    return blocks(emitter, conv(emitter, of, dilated, emitter.unique(`${name}/dilated`)), block, name);
  }
  const same = padsFor(spec.padding, size, kernel, spec.strides, spec.dilations);
  const outer: Pads = x.pending?.kind === 'pad' ? x.pending.pads : [0, 0, 0, 0];
  const [height, width] = slidingSize(size, same, kernel, spec.strides, spec.dilations);
  const source = x.pending?.kind === 'pad' ? x.pending.of : x;
  const tensors = [source.name(), emitter.floats(`${name}/weights`, spec.kernelShape, spec.kernel)];
  if (spec.bias !== undefined) tensors.push(emitter.floats(`${name}/bias`, [outputs], spec.bias));
  emitter.node('Conv', tensors, [name], {
    kernel_shape: kernel,
    strides: spec.strides,
    dilations: spec.dilations,
    pads: same.map((count, side) => count + outer[side]!),
    group: spec.group,
  });
  return writtenValue(name, [batch, height, width, outputs]);
}

export interface TransposedConvolution {
  /** In ONNX's order: [inputs, outputs, height, width]. */
  kernel: Float32Array;
  kernelShape: readonly [number, number, number, number];
  bias: Float32Array | undefined;
  strides: Pair;
  padding: 'same' | 'valid';
  outputSize: Pair;
}

export function convTranspose(emitter: Emitter, x: Value, spec: TransposedConvolution, name: string): Value {
  const { batch, size, channels } = imageOf(x);
  const [inputs, outputs, ...kernel] = spec.kernelShape;
  if (elementCount(spec.kernelShape) !== spec.kernel.length || inputs !== channels) {
    throw new IsthmusError('model/invalid', `The weights do not fit ${channels} input channels.`);
  }
  // The padding is that of the convolution which this one runs backwards.
  const pads = padsFor(spec.padding, spec.outputSize, kernel, spec.strides);
  const missing = ([0, 1] as const).map(
    (axis) =>
      spec.outputSize[axis] -
      ((size[axis] - 1) * spec.strides[axis] + kernel[axis]! - pads[axis] - pads[axis + 2]!),
  );
  if (missing.some((count, axis) => count < 0 || count >= spec.strides[axis]!)) {
    throw new IsthmusError(
      'model/invalid',
      `${size.join('×')} does not grow to ${spec.outputSize.join('×')}.`,
    );
  }
  const tensors = [x.name(), emitter.floats(`${name}/weights`, spec.kernelShape, spec.kernel)];
  if (spec.bias !== undefined) tensors.push(emitter.floats(`${name}/bias`, [outputs], spec.bias));
  emitter.node('ConvTranspose', tensors, [name], {
    kernel_shape: kernel,
    strides: spec.strides,
    pads,
    output_padding: missing,
  });
  return writtenValue(name, [batch, ...spec.outputSize, outputs]);
}

export function pool(
  emitter: Emitter,
  opType: 'AveragePool' | 'MaxPool',
  x: Value,
  spec: { kernel: Pair; strides: Pair; padding: 'same' | 'valid' },
  name: string,
): Value {
  const { batch, size, channels } = imageOf(x);
  const pads = padsFor(spec.padding, size, spec.kernel, spec.strides);
  const [height, width] = slidingSize(size, pads, spec.kernel, spec.strides, [1, 1]);
  emitter.node(opType, [x.name()], [name], { kernel_shape: spec.kernel, strides: spec.strides, pads });
  return writtenValue(name, [batch, height, width, channels]);
}

export function resize(
  emitter: Emitter,
  x: Value,
  target: Pair,
  mode: 'bilinear' | 'nearest',
  coordinates: 'asymmetric' | 'half-pixel' | 'align-corners',
  name: string,
): Value {
  const { batch, size, channels } = imageOf(x);
  if (target[0] === size[0] && target[1] === size[1]) return x;
  if (![...target].every((length) => Number.isInteger(length) && length > 0)) {
    throw new IsthmusError('model/invalid', `An image cannot be resized to ${target.join('×')}.`);
  }
  // Scales instead of sizes leave the batch free. ONNX takes the whole part of size × scale.
  const scales = [1, 1, ...([0, 1] as const).map((axis) => exactScale(size[axis], target[axis]))];
  const scalesName = emitter.floats(`${name}/scales`, [4], Float32Array.from(scales));
  emitter.node('Resize', [x.name(), '', scalesName], [name], {
    mode: mode === 'bilinear' ? 'linear' : 'nearest',
    coordinate_transformation_mode: coordinates.replace('-', '_'),
    ...(mode === 'nearest' && {
      nearest_mode: coordinates === 'asymmetric' ? 'floor' : 'round_prefer_ceil',
    }),
  });
  return writtenValue(name, [batch, ...target, channels]);
}

/** A float32 that takes `from` to `to`, whether the product is rounded to float32 before the fraction is cut. */
function exactScale(from: number, to: number): number {
  const scale = Math.fround(to / from);
  const isExact = Math.floor(scale * from) === to && Math.floor(Math.fround(scale * from)) === to;
  if (isExact) return scale;
  const bits = new Uint32Array(Float32Array.of(scale).buffer);
  bits[0]! += 1;
  return new Float32Array(bits.buffer)[0]!;
}

/** `x · weights + bias` over the source's last axis; `weights` is [inputs, outputs]. */
export function dense(
  emitter: Emitter,
  x: Value,
  spec: {
    weights: Float32Array;
    inputs: number;
    outputs: number;
    outputsFirst: boolean;
    bias: Float32Array | undefined;
  },
  shape: readonly number[],
  name: string,
): Value {
  const { inputs, outputs, outputsFirst, bias } = spec;
  const rows = elementCount(x.shape) / inputs;
  if (
    spec.weights.length !== inputs * outputs ||
    !Number.isInteger(rows) ||
    (bias !== undefined && bias.length !== outputs) ||
    elementCount(shape) !== rows * outputs
  ) {
    throw new IsthmusError('model/invalid', `Weights [${inputs}, ${outputs}] do not fit [${x.shape}].`);
  }
  let weights = spec.weights;
  let flat: string;
  const image = x.pending?.kind === 'flatten' ? x.pending.of : x;
  if (image.shape.length === 4 && elementCount(image.shape.slice(1)) === inputs) {
    // The weights expect NHWC order; reordering them once is cheaper than every frame.
    const order = image.shape.slice(1);
    weights = outputsFirst
      ? permute(weights, [outputs, ...order], [0, 3, 1, 2])
      : permute(weights, [...order, outputs], [2, 0, 1, 3]);
    flat = emitter.unique(`${name}/flat`);
    emitter.node('Flatten', [image.name()], [flat], { axis: 1 });
  } else {
    flat = reshape(emitter, x, [rows, inputs], emitter.unique(`${name}/flat`)).name();
  }
  const weightShape = outputsFirst ? [outputs, inputs] : [inputs, outputs];
  const tensors = [flat, emitter.floats(`${name}/weights`, weightShape, weights)];
  if (bias !== undefined) tensors.push(emitter.floats(`${name}/bias`, [outputs], bias));
  const direct = shape.length === 2 && shape[0] === rows;
  const product = direct ? name : emitter.unique(`${name}/product`);
  emitter.node('Gemm', tensors, [product], { transB: outputsFirst ? 1 : 0 });
  return reshape(emitter, writtenValue(product, [rows, outputs]), shape, name);
}

export function batchNormalization(
  emitter: Emitter,
  x: Value,
  spec: {
    scale: Float32Array;
    shift: Float32Array;
    mean: Float32Array;
    variance: Float32Array;
    epsilon: number;
  },
  name: string,
): Value {
  const tensors = (['scale', 'shift', 'mean', 'variance'] as const).map((key) =>
    emitter.floats(`${name}/${key}`, [spec[key].length], spec[key]),
  );
  emitter.node('BatchNormalization', [x.name(), ...tensors], [name], { epsilon: { float: spec.epsilon } });
  return writtenValue(name, x.shape);
}

/** Pads, then moves every `block` of pixels apart into the batch. */
export function spaceToBatch(
  emitter: Emitter,
  x: Value,
  block: Pair,
  paddings: readonly [Pair, Pair],
  name: string,
): Value {
  const padded = pad(emitter, x, [[0, 0], ...paddings, [0, 0]], emitter.unique(`${name}/padded`));
  const { size } = imageOf(padded);
  if (block.some((step, axis) => step < 1 || size[axis]! % step !== 0)) {
    throw new IsthmusError(
      'model/invalid',
      `${size.join('×')} does not fall into blocks of ${block.join('×')}.`,
    );
  }
  return blocks(emitter, padded, block, name);
}

function blocks(emitter: Emitter, whole: Value, [down, across]: Pair, name: string): Value {
  const { batch, size, channels } = imageOf(whole);
  const [height, width] = [size[0] / down, size[1] / across];
  const shape = [batch * down * across, height, width, channels];
  return pendingValue(shape, { kind: 'blocks', of: whole, block: [down, across] }, name, () => {
    const [split, moved] = [emitter.unique(`${name}/split`), emitter.unique(`${name}/moved`)];
    const apart = [batch, channels, height, down, width, across];
    emitter.node('Reshape', [whole.name(), emitter.integers(`${split}/shape`, apart)], [split]);
    emitter.node('Transpose', [split], [moved], { perm: [3, 5, 0, 1, 2, 4] });
    const joined = [shape[0]!, channels, height, width];
    emitter.node('Reshape', [moved, emitter.integers(`${name}/shape`, joined)], [name]);
  });
}

/** The inverse of {@link spaceToBatch}, with `crops` taken off instead of paddings put on. */
export function batchToSpace(
  emitter: Emitter,
  x: Value,
  block: Pair,
  crops: readonly [Pair, Pair],
  name: string,
): Value {
  const { batch, size, channels } = imageOf(x);
  const [down, across] = block;
  const whole: Pair = [size[0] * down, size[1] * across];
  const frames = batch / (down * across);
  let joined: Value;
  if (x.pending?.kind === 'blocks' && x.pending.block.every((step, axis) => step === block[axis])) {
    joined = x.pending.of;
  } else {
    if (!Number.isInteger(frames)) {
      throw new IsthmusError('model/invalid', `A batch of ${batch} is no multiple of ${down * across}.`);
    }
    const [split, moved, target] = ['split', 'moved', 'joined'].map((part) =>
      emitter.unique(`${name}/${part}`),
    );
    const apart = [down, across, frames, channels, ...size];
    emitter.node('Reshape', [x.name(), emitter.integers(`${split}/shape`, apart)], [split!]);
    emitter.node('Transpose', [split!], [moved!], { perm: [2, 3, 4, 0, 5, 1] });
    const shape = [frames, channels, ...whole];
    emitter.node('Reshape', [moved!, emitter.integers(`${target}/shape`, shape)], [target!]);
    joined = writtenValue(target!, [frames, ...whole, channels]);
  }
  const [vertical, horizontal] = crops;
  const end = [frames, whole[0] - vertical[1], whole[1] - horizontal[1], channels];
  return slice(emitter, joined, [0, vertical[0], horizontal[0], 0], end, [1, 1, 1, 1], name);
}
