import { RansDecoder } from '../entropy/rans-decoder.js';
import { prepareDecoding, type RansDecodingTables } from '../entropy/rans-tables.js';
import { parseTables } from '../entropy/table-file.js';
import type { FrequencyTable } from '../entropy/tables.js';
import { IsthmusError } from '../errors.js';
import { type FileRef, type Manifest, manifestLimits } from '../manifest.js';
import { describeSpan } from '../span.js';
import { tensorFromBytes } from '../tensor.js';

/** Tuned segments as they come in a file: checked, and not yet decoded. */
export interface PackedSegments {
  readonly via: number;
  readonly to: number;
  /**
   * A file of the bundle as tuned: a copy with the differences added, or the same bytes where nothing of it differs.
   *
   * @throws IsthmusError `bundle/invalid` if the differences do not decode
   */
  apply(file: FileRef, bytes: Uint8Array): Uint8Array;
}

interface PackedTensor {
  file: number;
  offset: number;
  numElements: number;
  steps: Float32Array;
  tables: Uint8Array;
  stream: Uint8Array;
  /** Of steps, tables and stream. */
  numBytes: number;
}

/** What is where in the file; `docs/protocol.md` has it as a table. */
export const tunedLayout = {
  /** "ISTN" */
  magic: 0x4e545349,
  version: 1,
  headerBytes: 20,
  hashBytes: 32,
  /** Of a tensor: file, offset, elements, groups, bytes of its stream. */
  recordBytes: 20,
  /** Of a group: its step, and the number of its table. */
  groupBytes: 5,
  /** The largest difference. */
  largest: 127,
} as const;

// As many as the number of a table can tell apart.
const maxTables = 256;

/**
 * Checks the bytes of `formatTunedSegments` against the bundle they are for. Nothing is allocated but by what is there:
 * numbers of tensors by the file's own length, numbers of elements by that of the files they are in.
 *
 * @param path The codec's: the tuned segments lead to its end.
 * @throws IsthmusError `bundle/invalid`
 */
export function parseTunedSegments(
  bytes: Uint8Array,
  manifest: Manifest,
  path: { from: number; to: number },
): PackedSegments {
  const { headerBytes, hashBytes, recordBytes } = tunedLayout;
  const { via, to, numFiles, numTensors, numTableBytes } = parseHeader(bytes, path);
  const tablesAt = headerBytes + numFiles * hashBytes;
  const recordsAt = tablesAt + numTableBytes;
  const bodiesAt = recordsAt + numTensors * recordBytes;
  if (bodiesAt > bytes.byteLength) throw unsound('they end too early');
  const files = findFiles(bytes.subarray(headerBytes, tablesAt), describeSpan(manifest, via, to).files);
  const tables = numTableBytes === 0 ? [] : checkTables(parseTables(bytes.subarray(tablesAt, recordsAt)));
  const tensors: PackedTensor[] = [];
  let at = bodiesAt;
  for (let index = 0; index < numTensors; index++) {
    const record = bytes.subarray(recordsAt + index * recordBytes, recordsAt + (index + 1) * recordBytes);
    const tensor = parseTensor(record, bytes.subarray(at), tables.length);
    checkPlace(tensor, tensors.at(-1), files[tensor.file]);
    tensors.push(tensor);
    at += tensor.numBytes;
  }
  if (at !== bytes.byteLength) throw unsound('something follows their end');

  let prepared: RansDecodingTables | undefined;
  return {
    via,
    to,
    apply({ sha256 }, original) {
      const changed = tensors.filter(({ file }) => files[file]!.sha256 === sha256);
      if (changed.length === 0) return original;
      const tuned = new Uint8Array(original);
      for (const tensor of changed) {
        if (tensor.stream.byteLength === 0) continue;
        prepared ??= prepareDecoding(tables);
        add(tensor, tuned, prepared);
      }
      return tuned;
    },
  };
}

interface Header {
  via: number;
  to: number;
  numFiles: number;
  numTensors: number;
  numTableBytes: number;
}

function parseHeader(bytes: Uint8Array, path: { from: number; to: number }): Header {
  const { magic, version, headerBytes } = tunedLayout;
  if (bytes.byteLength > manifestLimits.tunedBytes) {
    throw unsound(`they take ${bytes.byteLength} bytes, more than ${manifestLimits.tunedBytes}`);
  }
  const view = viewOf(bytes);
  if (bytes.byteLength < headerBytes || view.getUint32(0, true) !== magic) throw unsound('they are none');
  if (view.getUint8(4) !== version) throw unsound(`they are of version ${view.getUint8(4)}`);
  const [via, to] = [view.getUint8(5), view.getUint8(6)];
  if (view.getUint8(7) !== 0) throw unsound('a byte that is to be zero is not');
  if (to !== path.to || via < path.from || via >= to) {
    throw unsound(`they lead from cut ${via} to ${to}, and the codec from ${path.from} to ${path.to}`);
  }
  return {
    via,
    to,
    numFiles: view.getUint32(8, true),
    numTensors: view.getUint32(12, true),
    numTableBytes: view.getUint32(16, true),
  };
}

/** The files that hashes name, each at most once. */
function findFiles(hashes: Uint8Array, files: readonly FileRef[]): FileRef[] {
  const { hashBytes } = tunedLayout;
  const known = new Map(files.map((file) => [file.sha256, file]));
  return Array.from({ length: hashes.byteLength / hashBytes }, (_, index) => {
    const hash = toHex(hashes.subarray(index * hashBytes, (index + 1) * hashBytes));
    const file = known.get(hash);
    if (file === undefined) throw unsound('they are of other segments than the bundle has');
    known.delete(hash);
    return file;
  });
}

function checkTables(tables: FrequencyTable[]): FrequencyTable[] {
  const { largest } = tunedLayout;
  const isSmall = ({ minValue, hasEscape, frequencies }: FrequencyTable): boolean =>
    !hasEscape && minValue >= -largest && minValue + frequencies.length - 1 <= largest;
  if (tables.length > maxTables || !tables.every(isSmall)) {
    throw unsound(`they have more than ${maxTables} tables, or one of values beyond ±${largest}`);
  }
  return tables;
}

/** @param rest What follows the tensors before it. */
function parseTensor(record: Uint8Array, rest: Uint8Array, numTables: number): PackedTensor {
  const view = viewOf(record);
  const numElements = view.getUint32(8, true);
  const numGroups = view.getUint32(12, true);
  const streamAt = numGroups * tunedLayout.groupBytes;
  const numBytes = streamAt + view.getUint32(16, true);
  if (numBytes > rest.byteLength) throw unsound('they end too early');
  if (numGroups === 0 || numElements === 0 || numElements % numGroups !== 0) {
    throw unsound(`${numGroups} groups cannot have ${numElements} elements`);
  }
  const steps = tensorFromBytes('float32', [numGroups], rest.subarray(0, 4 * numGroups)).data;
  if (!steps.every((step) => step >= 0 && step < Infinity)) throw unsound('a step is not one');
  const tables = rest.subarray(4 * numGroups, streamAt);
  if (tables.some((table, group) => steps[group] !== 0 && table >= numTables)) {
    throw unsound('a table is missing');
  }
  const isCoded = steps.some((step) => step !== 0);
  if (isCoded !== numBytes > streamAt) throw unsound('a stream is missing, or of nothing');
  return {
    file: view.getUint32(0, true),
    offset: view.getUint32(4, true),
    numElements,
    steps,
    tables,
    stream: rest.subarray(streamAt, numBytes),
    numBytes,
  };
}

function checkPlace(tensor: PackedTensor, before: PackedTensor | undefined, file: FileRef | undefined): void {
  const isBehind =
    before === undefined ||
    tensor.file > before.file ||
    (tensor.file === before.file && tensor.offset >= before.offset + 4 * before.numElements);
  if (!isBehind) throw unsound('tensors overlap or are not in order');
  if (tensor.offset + 4 * tensor.numElements > (file?.numBytes ?? -1)) {
    throw unsound('a tensor is not inside its file');
  }
}

function add(tensor: PackedTensor, tuned: Uint8Array, prepared: RansDecodingTables): void {
  const { offset, numElements, steps, tables, stream } = tensor;
  const groupSize = numElements / steps.length;
  // A copy: a file's tensors lie anywhere, and arrays of numbers only at multiples of four.
  const body = tuned.subarray(offset, offset + 4 * numElements);
  const values = tensorFromBytes('float32', [numElements], body).data;
  const differences = new Int32Array(groupSize);
  try {
    const decoder = new RansDecoder(prepared, stream);
    for (const [group, step] of steps.entries()) {
      if (step === 0) continue;
      decoder.readRun(differences, 0, groupSize, tables[group]!);
      const from = group * groupSize;
      for (let i = 0; i < groupSize; i++) values[from + i] = values[from + i]! + differences[i]! * step;
    }
    decoder.finish();
  } catch (cause) {
    throw unsound('a stream is corrupt', cause);
  }
  body.set(new Uint8Array(values.buffer));
}

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function unsound(what: string, cause?: unknown): IsthmusError {
  return new IsthmusError(
    'bundle/invalid',
    `Tuned segments are unsound: ${what}. Import the codec again.`,
    cause === undefined ? {} : { cause },
  );
}
