import * as v from 'valibot';
import { concatBytes } from '../bytes.js';
import { IsthmusError } from '../errors.js';
import { type CutTensor, getCut } from '../manifest.js';
import { integerFrom, parseAs } from '../schema.js';
import {
  createTensor,
  elementCount,
  type Tensor,
  tensorBytes,
  tensorFromBytes,
  tensorToBytes,
} from '../tensor.js';
import {
  type CodecContext,
  type CodecKind,
  type CodecPath,
  corrupt,
  type Decoder,
  type Encoder,
  type EncoderKind,
  getLevel,
} from './codec.js';
import { type CodePlanes, maxCodeBytes, readCodes, writeCodes } from './quantized-codes.js';
import { channelsOf, dequantize, quantize, readScales, scaleBytes, writeScales } from './quantized-scales.js';
import { checkTensor } from './raw.js';

const params = v.object({ bits: integerFrom(1, 8) });

/**
 * `quantized`: each channel of each float32 tensor is mapped affinely onto 2^bits steps between its least and
 * its largest value (asymmetric per-channel quantization, arXiv 1806.08342, section 2), and the codes go through
 * rANS with tables counted in the packet itself, chosen by the codes to the left and above. Nothing is calibrated: it
 * works for every cut of every model. Other types travel unchanged. `docs/protocol.md` has the bytes.
 *
 * A reconstruction, `least + code · step`, is rounded to float32 once, and so the same everywhere.
 */
export const quantizedCodec: CodecKind = {
  kind: 'quantized',
  version: 1,
  createEncoder: createQuantizedEncoder,
  createDecoder: createQuantizedDecoder,
};

/** The device's half of {@link quantizedCodec}. */
export const quantizedEncoder: EncoderKind = {
  kind: 'quantized',
  version: 1,
  createEncoder: createQuantizedEncoder,
};

async function createQuantizedEncoder(context: CodecContext): Promise<Encoder> {
  return {
    async encode(tensors, path) {
      const bits = bitsOf(context, path);
      const parts: Uint8Array[] = [];
      const planes: CodePlanes[] = [];
      for (const expected of getCut(context.manifest, path.from).tensors) {
        const value = checkTensor(tensors[expected.name], expected);
        if (!isFloat32(value)) {
          parts.push(tensorToBytes(value));
          continue;
        }
        const { scales, codes } = quantize(value, expected.name, bits);
        parts.push(writeScales(scales));
        planes.push({ codes, ...planeSize(expected.shape) });
      }
      return concatBytes([...parts, writeCodes(planes, bits)]);
    },
  };
}

async function createQuantizedDecoder(context: CodecContext): Promise<Decoder> {
  return {
    maxPayloadBytes: (path) => {
      const bits = bitsOf(context, path);
      const tensors = getCut(context.manifest, path.from).tensors;
      const numCodes = tensors.reduce(
        (sum, { type, shape }) => sum + (type === 'float32' ? elementCount(shape) : 0),
        0,
      );
      return tensors.reduce((sum, tensor) => sum + maxPartBytes(tensor), maxCodeBytes(numCodes, bits));
    },
    async decode(payload, path) {
      const bits = bitsOf(context, path);
      const { tensors: expected } = getCut(context.manifest, path.from);
      const fail = (what: string): IsthmusError => corrupt(context.entry, what);
      const tensors: Record<string, Tensor> = {};
      const quantized: { tensor: CutTensor; scales: Float32Array; planes: CodePlanes }[] = [];
      let offset = 0;
      for (const tensor of expected) {
        if (tensor.type === 'float32') {
          const { scales, numBytes } = readScales(payload.subarray(offset), channelsOf(tensor.shape), fail);
          const codes = new Uint8Array(elementCount(tensor.shape));
          quantized.push({ tensor, scales, planes: { codes, ...planeSize(tensor.shape) } });
          offset += numBytes;
        } else {
          const numBytes = tensorBytes(tensor.type, tensor.shape);
          if (offset + numBytes > payload.byteLength) throw fail('it ends early');
          const bytes = payload.subarray(offset, offset + numBytes);
          tensors[tensor.name] = tensorFromBytes(tensor.type, tensor.shape, bytes);
          offset += numBytes;
        }
      }
      const planes = quantized.map((one) => one.planes);
      readCodes(payload.subarray(offset), planes, bits, fail);
      for (const { tensor, scales, planes } of quantized) {
        tensors[tensor.name] = createTensor('float32', tensor.shape, dequantize(planes.codes, scales));
      }
      return tensors;
    },
  };
}

function bitsOf({ entry }: CodecContext, path: CodecPath): number {
  const parsed = parseAs(params, getLevel(entry, path).params);
  if (!parsed.ok) throw new IsthmusError('bundle/invalid', `Codec ${entry.id} has an unknown level.`);
  return parsed.value.bits;
}

function isFloat32(tensor: Tensor): tensor is Tensor<'float32'> {
  return tensor.type === 'float32';
}

// What of a tensor comes before the codes.
function maxPartBytes({ type, shape }: CutTensor): number {
  return type === 'float32' ? scaleBytes(channelsOf(shape)) : tensorBytes(type, shape);
}

// A vector or a matrix is one plane.
function planeSize(shape: readonly number[]): { width: number; height: number } {
  return { width: Math.max(1, shape.at(-1) ?? 1), height: Math.max(1, shape.at(-2) ?? 1) };
}
