import { elementCount, IsthmusError } from '@isthmus/core';
import { widenHalves } from './halves.js';
import type { Constant } from './nchw.js';

/** The binary files of a model: by their path in model.json, or all concatenated in its order. */
export type TfjsWeightFiles = Uint8Array | ReadonlyMap<string, Uint8Array>;

interface WeightSpec {
  name: string;
  shape: number[];
  dtype: string;
  quantization: { dtype: string; scale: number; min: number } | undefined;
}

const bytesPerElement: Readonly<Record<string, number>> = {
  float32: 4,
  int32: 4,
  bool: 1,
  uint8: 1,
  uint16: 2,
  float16: 2,
};

/**
 * The weights that a model.json lists, as floats, by name. All sizes are added up and compared with the files
 * before anything is copied.
 *
 * @throws IsthmusError `model/invalid`, `model/truncated`, `model/unsupported`
 */
export function readTfjsWeights(manifest: unknown, files: TfjsWeightFiles): Map<string, Constant> {
  const groups = asArray(manifest, 'weightsManifest').map((group, index) => {
    const { paths, weights } = asRecord(group, `weightsManifest[${index}]`);
    return {
      paths: asArray(paths, 'paths').map(String),
      specs: asArray(weights, 'weights').map((weight) => readSpec(weight)),
    };
  });
  const sizes = groups.map(({ specs }) => specs.reduce((sum, spec) => sum + storedBytes(spec), 0));
  let offset = 0;
  const constants = new Map<string, Constant>();
  groups.forEach(({ paths, specs }, index) => {
    const parts =
      files instanceof Uint8Array
        ? [files.subarray(offset, offset + sizes[index]!)]
        : paths.map((path) => fileAt(files, path));
    offset += sizes[index]!;
    const available = parts.reduce((sum, part) => sum + part.byteLength, 0);
    if (available !== sizes[index]) {
      throw new IsthmusError(
        available < sizes[index]! ? 'model/truncated' : 'model/invalid',
        `The weights in ${paths[0]} and on take ${sizes[index]} bytes, but there are ${available}.`,
      );
    }
    let at = 0;
    for (const spec of specs) {
      const data = decode(spec, gather(parts, at, storedBytes(spec)));
      constants.set(spec.name.replace(/:\d+$/, ''), { shape: spec.shape, data });
      at += storedBytes(spec);
    }
  });
  if (files instanceof Uint8Array && offset !== files.byteLength) {
    throw new IsthmusError('model/invalid', `The weights take ${offset} bytes, not ${files.byteLength}.`);
  }
  return constants;
}

function readSpec(value: unknown): WeightSpec {
  const { name, shape, dtype, quantization } = asRecord(value, 'a weight');
  const sizes = asArray(shape, `the shape of ${name}`) as number[];
  if (typeof name !== 'string' || typeof dtype !== 'string') {
    throw new IsthmusError('model/invalid', 'A weight in model.json lacks its name or type.');
  }
  if (!sizes.every((size) => Number.isSafeInteger(size) && size >= 0)) {
    throw new IsthmusError('model/invalid', `Weight ${name} has the shape [${sizes}].`);
  }
  const spec: WeightSpec = { name, shape: sizes, dtype, quantization: undefined };
  if (quantization !== undefined) {
    const { dtype: stored, scale = 1, min = 0 } = asRecord(quantization, `the quantization of ${name}`);
    if (typeof stored !== 'string' || typeof scale !== 'number' || typeof min !== 'number') {
      throw new IsthmusError('model/invalid', `The quantization of weight ${name} is malformed.`);
    }
    spec.quantization = { dtype: stored, scale, min };
  }
  if (bytesPerElement[spec.quantization?.dtype ?? dtype] === undefined) {
    throw new IsthmusError(
      'model/unsupported',
      `Weight ${name} is stored as ${spec.quantization?.dtype ?? dtype}, which is not supported.`,
    );
  }
  return spec;
}

function storedBytes({ shape, dtype, quantization }: WeightSpec): number {
  return elementCount(shape) * bytesPerElement[quantization?.dtype ?? dtype]!;
}

function fileAt(files: ReadonlyMap<string, Uint8Array>, path: string): Uint8Array {
  const bytes = files.get(path);
  if (bytes === undefined) {
    throw new IsthmusError('model/invalid', `model.json refers to ${path}, which was not given.`);
  }
  return bytes;
}

/** A copy of bytes that may lie across several files. */
function gather(parts: readonly Uint8Array[], start: number, numBytes: number): ArrayBuffer {
  const result = new Uint8Array(numBytes);
  let partStart = 0;
  for (const part of parts) {
    const from = Math.max(start - partStart, 0);
    const to = Math.min(start + numBytes - partStart, part.byteLength);
    if (from < to) result.set(part.subarray(from, to), partStart + from - start);
    partStart += part.byteLength;
  }
  return result.buffer;
}

function decode({ dtype, quantization }: WeightSpec, buffer: ArrayBuffer): Float32Array {
  const { dtype: stored, scale, min } = quantization ?? { dtype, scale: 1, min: 0 };
  if (stored === 'float32') return new Float32Array(buffer);
  if (stored === 'float16') return widenHalves(new Uint16Array(buffer));
  if (stored === 'int32') return Float32Array.from(new Int32Array(buffer));
  const integers = stored === 'uint16' ? new Uint16Array(buffer) : new Uint8Array(buffer);
  return Float32Array.from(integers, (value) => value * scale + min);
}

/** @throws IsthmusError `model/invalid` */
export function asRecord(value: unknown, what: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new IsthmusError('model/invalid', `In model.json, ${what} should be an object.`);
}

/** @throws IsthmusError `model/invalid` */
export function asArray(value: unknown, what: string): unknown[] {
  if (Array.isArray(value)) return value;
  throw new IsthmusError('model/invalid', `In model.json, ${what} should be a list.`);
}
