import { fromBinary } from '@bufbuild/protobuf';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { IsthmusError, toIsthmusError } from '@isthmus/core';
import {
  type GraphProto,
  type ModelProto,
  ModelProtoSchema,
  type TensorProto,
  TensorProto_DataLocation,
} from './onnx_pb.js';
import { checkStoredTensor, isExternal, storedBytes } from './tensors.js';

/** The oldest ai.onnx operator set that Isthmus reads. */
export const oldestOpset: number = 9;

export interface ReadOptions {
  /**
   * Reads a file of weights that lies beside the model. `location` is relative, with forward slashes, and
   * never leaves the model's folder.
   */
  readExternal?: (location: string) => Promise<Uint8Array>;
}

/**
 * An ONNX model from the bytes of its file. Weights in `bytes` are viewed, not copied; weights in other files
 * are brought in, so that the model is self-contained.
 *
 * @throws IsthmusError `model/not-onnx`, `model/truncated`, `model/invalid`, `model/unsupported` (operator set
 * older than 9), `model/external-data` (a weight file is missing, too short, or outside the folder).
 *
 * @example
 * ```ts
 * const model = await readModel(await readFile('dir/model.onnx'), {
 *   readExternal: (location) => readFile(join('dir', location)),
 * });
 * ```
 */
export async function readModel(bytes: Uint8Array, options: ReadOptions = {}): Promise<ModelProto> {
  const model = parse(bytes);
  if (model.graph === undefined) {
    if (model.irVersion === 0n || model.opsetImport.length === 0) throw notOnnx();
    throw new IsthmusError('model/invalid', 'The ONNX file holds no graph.');
  }
  if (model.opsetImport.length === 0) {
    throw new IsthmusError(
      'model/truncated',
      'The ONNX file does not say which operator sets it uses. It may be cut short; get it again.',
    );
  }
  const opset = modelOpset(model);
  if (opset !== undefined && opset < oldestOpset) {
    throw new IsthmusError(
      'model/unsupported',
      `The model uses operator set ${opset}; the oldest supported is ${oldestOpset}. ` +
        'Convert it with onnx.version_converter or export it again.',
      { details: { opset } },
    );
  }
  const tensors = [...graphTensors(model.graph)];
  await loadExternal(tensors.filter(isExternal), options);
  for (const tensor of tensors) checkStoredTensor(tensor);
  return model;
}

/** Version of the ai.onnx operator set that a model imports; undefined if it imports only others. */
export function modelOpset(model: ModelProto): number | undefined {
  const entry = model.opsetImport.find(({ domain }) => domain === '' || domain === 'ai.onnx');
  return entry === undefined ? undefined : Number(entry.version);
}

/** Every tensor stored in a graph: initializers and attributes, those of nested graphs too. */
export function* graphTensors(graph: GraphProto): Generator<TensorProto> {
  yield* graph.initializer;
  for (const sparse of graph.sparseInitializer) {
    if (sparse.values !== undefined) yield sparse.values;
    if (sparse.indices !== undefined) yield sparse.indices;
  }
  for (const node of graph.node) {
    for (const attribute of node.attribute) {
      if (attribute.t !== undefined) yield attribute.t;
      yield* attribute.tensors;
      if (attribute.g !== undefined) yield* graphTensors(attribute.g);
      for (const nested of attribute.graphs) yield* graphTensors(nested);
    }
  }
}

function parse(bytes: Uint8Array): ModelProto {
  if (bytes.byteLength === 0) throw new IsthmusError('model/not-onnx', 'The file is empty.');
  try {
    return fromBinary(ModelProtoSchema, bytes);
  } catch (cause) {
    throw explainParseError(bytes, cause);
  }
}

// Fields of ModelProto by number, with the wire type they must have.
const modelFields: ReadonlyMap<number, WireType> = new Map([
  [1, WireType.Varint],
  [5, WireType.Varint],
  ...[2, 3, 4, 6, 7, 8, 14, 20, 25, 26].map((number) => [number, WireType.LengthDelimited] as const),
]);

// What the outermost fields look like tells a file that was cut short from one that never was a model.
function explainParseError(bytes: Uint8Array, cause: unknown): IsthmusError {
  const reader = new BinaryReader(bytes);
  let numFields = 0;
  try {
    while (reader.pos < reader.len) {
      const [fieldNumber, wireType] = reader.tag();
      if (modelFields.get(fieldNumber) !== wireType) {
        return numFields === 0 ? notOnnx(cause) : damaged(cause);
      }
      numFields += 1;
      if (wireType === WireType.Varint) reader.int64();
      else {
        const numBytes = reader.uint32();
        if (reader.pos + numBytes > reader.len) {
          if (numFields === 1) return notOnnx(cause);
          return new IsthmusError(
            'model/truncated',
            `The ONNX file ends ${reader.pos + numBytes - reader.len} bytes early. Get it again.`,
            { cause },
          );
        }
        reader.pos += numBytes;
      }
    }
  } catch {
    return numFields < 2 ? notOnnx(cause) : damaged(cause);
  }
  return damaged(cause);
}

function notOnnx(cause?: unknown): IsthmusError {
  return new IsthmusError(
    'model/not-onnx',
    'The file is not an ONNX model. TensorFlow Lite and TensorFlow.js models must be imported first.',
    cause === undefined ? {} : { cause },
  );
}

function damaged(cause: unknown): IsthmusError {
  return toIsthmusError(cause, 'model/invalid', 'The ONNX file is damaged; get it again');
}

async function loadExternal(tensors: readonly TensorProto[], options: ReadOptions): Promise<void> {
  const files = new Map<string, Uint8Array>();
  for (const tensor of tensors) {
    const entries = new Map(tensor.externalData.map(({ key, value }) => [key, value]));
    const location = safeLocation(tensor, entries.get('location'));
    let file = files.get(location);
    if (file === undefined) {
      file = await readExternalFile(tensor, location, options);
      files.set(location, file);
    }
    const numBytes = storedBytes(tensor);
    const offset = integerEntry(tensor, entries, 'offset') ?? 0;
    const length = integerEntry(tensor, entries, 'length') ?? numBytes;
    if (length !== numBytes || offset + length > file.byteLength) {
      throw externalError(
        tensor,
        `needs ${numBytes} bytes; the model points at ${length} bytes from ${offset} in ${location}, which has ` +
          `${file.byteLength}. The two files do not belong together, or one is cut short.`,
      );
    }
    tensor.rawData = file.subarray(offset, offset + length);
    tensor.dataLocation = TensorProto_DataLocation.DEFAULT;
    tensor.externalData = [];
  }
}

async function readExternalFile(
  tensor: TensorProto,
  location: string,
  options: ReadOptions,
): Promise<Uint8Array> {
  if (options.readExternal === undefined) {
    throw externalError(tensor, `lies in ${location}, and no way to read it was given (readExternal).`);
  }
  try {
    return await options.readExternal(location);
  } catch (cause) {
    throw externalError(tensor, `lies in ${location}, which cannot be read. Put it beside the model.`, cause);
  }
}

// ONNX wants a relative POSIX path below the model's folder; anything else could read the user's files.
function safeLocation(tensor: TensorProto, location: string | undefined): string {
  const parts = location?.split('/').filter((part) => part !== '.') ?? [];
  const safe =
    location !== undefined &&
    !/^[a-z]:/i.test(location) &&
    !location.includes('\\') &&
    !location.includes('\0') &&
    parts.length > 0 &&
    parts.every((part) => part !== '' && part !== '..');
  if (!safe) throw externalError(tensor, `has the location ${JSON.stringify(location)}, outside the folder.`);
  return parts.join('/');
}

function integerEntry(
  tensor: TensorProto,
  entries: ReadonlyMap<string, string>,
  key: string,
): number | undefined {
  const text = entries.get(key);
  if (text === undefined) return undefined;
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isNaN(value)) throw externalError(tensor, `has the ${key} ${JSON.stringify(text)}.`);
  return value;
}

function externalError(tensor: TensorProto, reason: string, cause?: unknown): IsthmusError {
  return new IsthmusError('model/external-data', `External data of ${tensor.name} ${reason}`, {
    details: { tensor: tensor.name },
    ...(cause === undefined ? {} : { cause }),
  });
}
