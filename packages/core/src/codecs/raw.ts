import * as v from 'valibot';
import { concatBytes } from '../bytes.js';
import { IsthmusError } from '../errors.js';
import { float16ToFloat32, float32ToFloat16 } from '../float16.js';
import { type CutTensor, getCut } from '../manifest.js';
import { parseAs } from '../schema.js';
import {
  createTensor,
  type Tensor,
  type TensorType,
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
import type { PlainTensor } from './plain-tensors.js';

const params = v.object({ dtype: v.picklist(['float32', 'float16']) });

/**
 * `raw`: the tensors of a cut as they are, one after the other, little-endian. At level float16, float32 tensors
 * are rounded to binary16 on the way; other types are never changed.
 */
export const rawCodec: CodecKind = {
  kind: 'raw',
  version: 1,
  createEncoder: createRawEncoder,
  createDecoder: createRawDecoder,
};

/** The device's half of {@link rawCodec}. */
export const rawEncoder: EncoderKind = { kind: 'raw', version: 1, createEncoder: createRawEncoder };

async function createRawEncoder(context: CodecContext): Promise<Encoder> {
  return {
    async encode(tensors, path) {
      const plan = layout(context, path);
      return concatBytes(
        plan.map(({ tensor, wireType }) => {
          const value = checkTensor(tensors[tensor.name], tensor);
          return tensorToBytes(wireType === 'float16' && value.type === 'float32' ? toHalf(value) : value);
        }),
      );
    },
  };
}

async function createRawDecoder(context: CodecContext): Promise<Decoder> {
  const totalBytes = (path: CodecPath): number =>
    layout(context, path).reduce((sum, part) => sum + tensorBytes(part.wireType, part.tensor.shape), 0);
  return {
    maxPayloadBytes: totalBytes,
    async decode(payload, path) {
      const expectedBytes = totalBytes(path);
      if (payload.byteLength !== expectedBytes) {
        throw corrupt(context.entry, `it has ${payload.byteLength} bytes, not ${expectedBytes}`);
      }
      const tensors: Record<string, Tensor> = {};
      let offset = 0;
      for (const { tensor, wireType } of layout(context, path)) {
        const numBytes = tensorBytes(wireType, tensor.shape);
        const value = tensorFromBytes(wireType, tensor.shape, payload.subarray(offset, offset + numBytes));
        tensors[tensor.name] = wireType === tensor.type ? value : fromHalf(value as Tensor<'float16'>);
        offset += numBytes;
      }
      return tensors;
    },
  };
}

interface Part {
  tensor: CutTensor;
  wireType: TensorType;
}

function layout({ manifest, entry }: CodecContext, path: CodecPath): Part[] {
  const parsed = parseAs(params, getLevel(entry, path).params);
  if (!parsed.ok) throw new IsthmusError('bundle/invalid', `Codec ${entry.id} has an unknown level.`);
  return getCut(manifest, path.from).tensors.map((tensor) => ({
    tensor,
    wireType: tensor.type === 'float32' ? parsed.value.dtype : tensor.type,
  }));
}

function toHalf(tensor: Tensor): Tensor {
  return createTensor('float16', tensor.shape, float32ToFloat16(tensor.data as Float32Array));
}

function fromHalf(tensor: Tensor<'float16'>): Tensor {
  return createTensor('float32', tensor.shape, float16ToFloat32(tensor.data));
}

/**
 * The tensor a cut asks for.
 *
 * @throws IsthmusError `tensor/shape-mismatch`, `tensor/type-mismatch`
 */
export function checkTensor(value: Tensor | undefined, expected: PlainTensor): Tensor {
  if (value === undefined) {
    throw new IsthmusError('tensor/shape-mismatch', `The tensor ${expected.name} is missing.`);
  }
  if (value.type !== expected.type) {
    throw new IsthmusError(
      'tensor/type-mismatch',
      `${expected.name} is ${value.type}, not ${expected.type}.`,
    );
  }
  if (
    value.shape.length !== expected.shape.length ||
    value.shape.some((size, i) => size !== expected.shape[i])
  ) {
    throw new IsthmusError(
      'tensor/shape-mismatch',
      `${expected.name} has shape [${value.shape}], not [${expected.shape}].`,
    );
  }
  return value;
}
