import { fromBinary } from '@bufbuild/protobuf';
import {
  describeSpan,
  formatTunedSegments,
  getCut,
  IsthmusError,
  type Manifest,
  manifestLimits,
  type Tensor,
  type TunedTensor,
} from '@isthmus/core';
import { type Bundle, spanBodies } from '../bundle.js';
import { ModelProtoSchema, type TensorProto, TensorProto_DataType } from '../onnx_pb.js';
import { tensorShape } from '../tensors.js';
import type { TunedWeights } from './tuned-weights.js';

/** A tensor of a segment, and where its numbers lie. */
interface Stored {
  proto: TensorProto;
  file: number;
  offset: number;
}

const largest = 127;
// Fewer share their step with the whole tensor.
const minGroupSize = 8;
/**
 * Steps per root mean square of a group's differences. An error of an eighth step's variance is a thousandth of theirs; halves
 * are for models too large for it.
 */
const finenesses = [8, 4, 2, 1] as const;

/**
 * The bytes of `tuned.bin` for trained weights of the segments from cut `tuned.via` to cut `to`: how they differ from the
 * bundle's, as 8-bit integers with a step for each output channel, entropy-coded. What does not differ takes nothing.
 *
 * @throws IsthmusError
 * - `usage/invalid`: a weight that these segments do not have, by name; weights that do not fit the format's limit;
 * - `model/unsupported`: one that is not stored as plain float32;
 * - `tensor/shape-mismatch`, `tensor/not-finite`; `bundle/not-found` if a segment's file is missing
 */
export function writeTunedSegments(bundle: Bundle, to: number, { via, weights }: TunedWeights): Uint8Array {
  const span = describeSpan(bundle.manifest, via, to);
  const stored = findTensors(spanBodies(bundle, span));
  const changed = [...weights].flatMap(([name, tensor]) => {
    const found = stored.get(name);
    if (found === undefined) {
      throw new IsthmusError(
        'usage/invalid',
        `There is no weight ${name} in the segments from cut ${via} to ${to} that could be tuned.`,
        { details: { tensor: name } },
      );
    }
    const differences = difference(found.proto, tensor);
    return differences === undefined ? [] : [{ ...found, differences }];
  });
  changed.sort((a, b) => a.file - b.file || a.offset - b.offset);
  const files = [...new Set(changed.map(({ file }) => file))];
  for (const fineness of finenesses) {
    const tensors = changed.map(({ proto, file, offset, differences }) => ({
      file: files.indexOf(file),
      offset,
      ...quantize(differences, groupsOf(tensorShape(proto)), fineness),
    }));
    const bytes = formatTunedSegments({ via, to, files: files.map((at) => span.files[at]!.sha256), tensors });
    if (bytes.byteLength <= manifestLimits.tunedBytes) return bytes;
  }
  throw new IsthmusError(
    'usage/invalid',
    `The tuned weights take more than ${manifestLimits.tunedBytes} bytes. Tune fewer segments.`,
  );
}

/** @throws IsthmusError `usage/invalid` for segments to tune that do not lie between the codec's cuts */
export function checkTuned(manifest: Manifest, path: { from: number; to: number }, via: number): void {
  getCut(manifest, via);
  if (via < path.from || via >= path.to) {
    throw new IsthmusError(
      'usage/invalid',
      `Tuned segments begin at the codec's first cut or later, and before its last; ${via} is not within ` +
        `${path.from} to ${path.to}.`,
    );
  }
}

function findTensors(bodies: readonly Uint8Array[]): Map<string, Stored> {
  const tensors = new Map<string, Stored>();
  for (const [file, body] of bodies.entries()) {
    for (const proto of fromBinary(ModelProtoSchema, body).graph?.initializer ?? []) {
      // Weights are views of the bytes they are read from.
      const offset = proto.rawData.byteOffset - body.byteOffset;
      tensors.set(proto.name, { proto, file, offset });
    }
  }
  return tensors;
}

/** Undefined where nothing differs. */
function difference(proto: TensorProto, { shape, data }: Tensor<'float32'>): Float64Array | undefined {
  const { name, rawData } = proto;
  if (proto.dataType !== TensorProto_DataType.FLOAT || rawData.byteLength === 0) {
    throw new IsthmusError(
      'model/unsupported',
      `${name} is not stored as plain float32; it cannot be tuned.`,
    );
  }
  if (tensorShape(proto).join() !== shape.join() || data.byteLength !== rawData.byteLength) {
    throw new IsthmusError(
      'tensor/shape-mismatch',
      `The tuned weight ${name} is [${shape}]; the model's is [${tensorShape(proto)}].`,
    );
  }
  const before = new DataView(rawData.buffer, rawData.byteOffset, rawData.byteLength);
  const differences = Float64Array.from(data, (value, i) => value - before.getFloat32(4 * i, true));
  if (!differences.every(Number.isFinite)) {
    throw new IsthmusError('tensor/not-finite', `The tuned weight ${name} holds NaN or infinity.`);
  }
  return differences.some((value) => value !== 0) ? differences : undefined;
}

// Kernels and matrices have their output channels, or what comes near to it, on the first axis.
function groupsOf(shape: readonly number[]): number {
  const [first = 1, ...others] = shape;
  const size = others.reduce((product, axis) => product * axis, 1);
  return others.length > 0 && size >= minGroupSize ? first : 1;
}

function quantize(
  differences: Float64Array,
  numGroups: number,
  fineness: number,
): Pick<TunedTensor, 'steps' | 'differences'> {
  const size = differences.length / numGroups;
  const steps = new Float32Array(numGroups);
  const quantized = new Int8Array(differences.length);
  for (let group = 0; group < numGroups; group++) {
    const values = differences.subarray(group * size, (group + 1) * size);
    let most = 0;
    let power = 0;
    for (const value of values) {
      most = Math.max(most, Math.abs(value));
      power += value * value;
    }
    steps[group] = Math.max(most / largest, Math.sqrt(power / size) / fineness);
    const step = steps[group]!;
    if (step === 0) continue;
    for (const [i, value] of values.entries()) {
      quantized[group * size + i] = Math.max(-largest, Math.min(largest, Math.round(value / step)));
    }
  }
  return { steps, differences: quantized };
}
