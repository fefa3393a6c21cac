import { deflateSync, inflateSync } from 'fflate';
import { z } from 'zod';
import { IsthmusError } from '../errors.js';
import { type CutTensor, getCut } from '../manifest.js';
import {
  createTensor,
  elementCount,
  type Tensor,
  tensorBytes,
  tensorFromBytes,
  tensorToBytes,
} from '../tensor.js';
import { type CodecContext, type CodecKind, type CodecPath, corrupt, getLevel } from './codec.js';
import { checkTensor } from './raw.js';

// Leaves room for rounding a scale outwards without reaching infinity.
const largestMagnitude = 1e38;

const params = z.object({ bits: z.number().int().min(1).max(8) });

// Level 4 of deflate is two to three times as fast as 6 on quantized features, and within 2 % of its size.
const deflateLevel = 4;

/**
 * `quantized`: each channel of each float32 tensor is mapped affinely onto 2^bits steps between its least and
 * its largest value (asymmetric per-channel quantization, arXiv 1806.08342, section 2), as many codes as fit are
 * packed into a byte, and the bytes are deflated (RFC 1951). Other types travel unchanged.
 *
 * Before deflating, for each tensor of the cut in the manifest's order: per channel its least value and its step
 * as bfloat16, then the codes, first code in the lowest bits. The reconstruction `least + code · step` is rounded
 * to float32 once, and so the same everywhere.
 */
export const quantizedCodec: CodecKind = {
  kind: 'quantized',
  version: 1,
  async createEncoder(context) {
    return {
      async encode(tensors, path) {
        const bits = bitsOf(context, path);
        const cut = getCut(context.manifest, path.from);
        const plain = new Uint8Array(plainBytes(context, path));
        let offset = 0;
        for (const expected of cut.tensors) {
          const value = checkTensor(tensors[expected.name], expected);
          if (value.type === 'float32') {
            offset = quantize(value as Tensor<'float32'>, expected.name, bits, plain, offset);
          } else {
            plain.set(tensorToBytes(value), offset);
            offset += value.data.byteLength;
          }
        }
        return deflateSync(plain, { level: deflateLevel });
      },
    };
  },
  async createDecoder(context) {
    return {
      // Deflate falls back to stored blocks of at most 65,535 bytes with 5 bytes of overhead each.
      maxPayloadBytes: (path) => Math.ceil(plainBytes(context, path) * 1.01) + 64,
      async decode(payload, path) {
        const bits = bitsOf(context, path);
        const plain = inflate(context, payload, plainBytes(context, path));
        const tensors: Record<string, Tensor> = {};
        let offset = 0;
        for (const expected of getCut(context.manifest, path.from).tensors) {
          const numBytes = plainTensorBytes(expected, bits);
          const part = plain.subarray(offset, offset + numBytes);
          offset += numBytes;
          tensors[expected.name] =
            expected.type === 'float32'
              ? createTensor('float32', expected.shape, dequantize(part, expected.shape, bits))
              : tensorFromBytes(expected.type, expected.shape, part);
        }
        return tensors;
      },
    };
  },
};

function bitsOf({ entry }: CodecContext, path: CodecPath): number {
  const parsed = params.safeParse(getLevel(entry, path).params);
  if (!parsed.success) throw new IsthmusError('bundle/invalid', `Codec ${entry.id} has an unknown level.`);
  return parsed.data.bits;
}

// A scale of four bytes pays when enough elements share it.
const minElementsPerScale = 16;

// Feature maps and token matrices have their channels on axis 1. Where a channel is only a few elements (a vector,
// a pooled map) the whole tensor is one.
function channelsOf(shape: readonly number[]): number {
  if (shape.length < 3) return 1;
  const channels = shape[0]! * shape[1]!;
  return elementCount(shape) >= minElementsPerScale * channels ? Math.max(1, channels) : 1;
}

const codesPerByte = (bits: number): number => Math.floor(8 / bits);

function plainTensorBytes(tensor: CutTensor, bits: number): number {
  if (tensor.type !== 'float32') return tensorBytes(tensor.type, tensor.shape);
  return 4 * channelsOf(tensor.shape) + Math.ceil(elementCount(tensor.shape) / codesPerByte(bits));
}

function plainBytes(context: CodecContext, path: CodecPath): number {
  const bits = bitsOf(context, path);
  return getCut(context.manifest, path.from).tensors.reduce(
    (sum, tensor) => sum + plainTensorBytes(tensor, bits),
    0,
  );
}

function inflate(context: CodecContext, payload: Uint8Array, numBytes: number): Uint8Array {
  let plain: Uint8Array;
  try {
    // One byte of slack shows a stream that holds more than it may; fflate never writes past `out`.
    plain = inflateSync(payload, { out: new Uint8Array(numBytes + 1) });
  } catch (cause) {
    throw corrupt(context.entry, 'it does not inflate', cause);
  }
  if (plain.byteLength !== numBytes) throw corrupt(context.entry, 'it inflates to another size');
  return plain;
}

// A bfloat16 is the upper half of a float32: its range is the same, so that no scale overflows.
const float = new Float32Array(1);
const pattern = new Uint32Array(float.buffer);

function bfloat16At(bytes: Uint8Array, offset: number): number {
  pattern[0] = (bytes[offset]! | (bytes[offset + 1]! << 8)) << 16;
  return float[0]!;
}

/** Writes the bfloat16 next to `value`, away from it in the direction `toward`, and returns what was written. */
function putBfloat16(bytes: Uint8Array, offset: number, value: number, toward: 'below' | 'above'): number {
  float[0] = value;
  const exact = pattern[0]!;
  let upper = exact >>> 16;
  // Truncation moves towards zero; step one further where that is the wrong side.
  const towardZero = value >= 0 ? 'below' : 'above';
  if ((exact & 0xffff) !== 0 && toward !== towardZero) upper += 1;
  bytes[offset] = upper & 255;
  bytes[offset + 1] = upper >>> 8;
  return bfloat16At(bytes, offset);
}

function quantize(
  tensor: Tensor<'float32'>,
  name: string,
  bits: number,
  plain: Uint8Array,
  start: number,
): number {
  const { data, shape } = tensor;
  const channels = channelsOf(shape);
  const perChannel = data.length / channels;
  const top = 2 ** bits - 1;
  const perByte = codesPerByte(bits);
  const codesAt = start + 4 * channels;
  for (let channel = 0; channel < channels; channel++) {
    const from = channel * perChannel;
    const to = from + perChannel;
    let least = perChannel > 0 ? Infinity : 0;
    let most = perChannel > 0 ? -Infinity : 0;
    let sum = 0;
    for (let i = from; i < to; i++) {
      const value = data[i]!;
      // NaN and infinity stay in a sum, though not in a minimum.
      sum += value;
      if (value < least) least = value;
      if (value > most) most = value;
    }
    if (!Number.isFinite(sum) || least < -largestMagnitude || most > largestMagnitude) {
      throw new IsthmusError(
        'tensor/not-finite',
        `${name} holds NaN, infinity or values beyond ${largestMagnitude}; check the frame and the model.`,
      );
    }
    const header = start + 4 * channel;
    const low = putBfloat16(plain, header, least, 'below');
    const step = putBfloat16(plain, header + 2, (most - low) / top, 'above');
    const inverse = step > 0 ? 1 / step : 0;
    for (let i = from; i < to; i++) {
      // Adding a half and truncating rounds, and is several times as fast as Math.round.
      const code = Math.min(top, ((data[i]! - low) * inverse + 0.5) | 0);
      const at = codesAt + ((i / perByte) | 0);
      plain[at] = plain[at]! | (code << (bits * (i % perByte)));
    }
  }
  return codesAt + Math.ceil(data.length / perByte);
}

function dequantize(part: Uint8Array, shape: readonly number[], bits: number): Float32Array {
  const channels = channelsOf(shape);
  const values = new Float32Array(elementCount(shape));
  const perChannel = values.length / channels;
  const perByte = codesPerByte(bits);
  const mask = 2 ** bits - 1;
  const codesAt = 4 * channels;
  for (let channel = 0; channel < channels; channel++) {
    const low = bfloat16At(part, 4 * channel);
    const step = bfloat16At(part, 4 * channel + 2);
    const to = (channel + 1) * perChannel;
    for (let i = channel * perChannel; i < to; i++) {
      const code = (part[codesAt + ((i / perByte) | 0)]! >>> (bits * (i % perByte))) & mask;
      values[i] = low + code * step;
    }
  }
  return values;
}
