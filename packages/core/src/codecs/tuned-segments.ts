import { concatBytes } from '../bytes.js';
import { RansDecoder } from '../entropy/rans-decoder.js';
import { RansEncoder } from '../entropy/rans-encoder.js';
import { prepareDecoding, prepareEncoding, type RansDecodingTables } from '../entropy/rans-tables.js';
import { formatTables, parseTables } from '../entropy/table-file.js';
import { countValues, type FrequencyTable, tableFromCounts } from '../entropy/tables.js';
import { IsthmusError } from '../errors.js';
import { type FileRef, type Manifest, manifestLimits } from '../manifest.js';
import { describeSpan } from '../span.js';
import { tensorFromBytes } from '../tensor.js';

/** How the float32 numbers of one tensor differ from those that a file of the bundle holds. */
export interface TunedTensor {
  /** Index into {@link TunedSegments.files}. */
  file: number;
  /** Where in that file its elements begin, in bytes. */
  offset: number;
  /** Per group of as many elements: what a difference of 1 stands for; 0 where nothing differs. */
  steps: Float32Array;
  /** Per element, −127…127; all zero in groups whose step is 0. */
  differences: Int8Array;
}

/** What a codec changes of a bundle's segments from cut `via` to cut `to`. */
export interface TunedSegments {
  via: number;
  to: number;
  /** SHA-256 of the files that are changed, lower-case hexadecimal. */
  files: readonly string[];
  /** By file, then by offset. */
  tensors: readonly TunedTensor[];
}

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
}

const magic = 0x4e545349; // "ISTN"
const version = 1;
const headerBytes = 20;
const hashBytes = 32;
const recordBytes = 20;
// A float32 step, and the number of a table.
const groupBytes = 5;
const largest = 127;
const precision = 12;
const numClasses = 20;
/** The class of groups that are not coded. */
const unchanged = 255;

/**
 * The bytes of tuned segments; `docs/protocol.md` has the format. Groups whose differences are of about one size share an
 * integer table. The same differences always give the same bytes.
 *
 * @throws IsthmusError `usage/invalid` for groups that do not divide a tensor, or differences beyond ±127
 */
export function formatTunedSegments({ via, to, files, tensors }: TunedSegments): Uint8Array {
  const classes = tensors.map(classesOfGroups);
  const used = [...new Set(classes.flatMap((of) => [...of]))]
    .filter((one) => one !== unchanged)
    .sort((a, b) => a - b);
  const tables = used.map((one) => tableOf(tensors, classes, one));
  const tableBytes = tables.length === 0 ? new Uint8Array() : formatTables(tables);
  const prepared = tables.length === 0 ? undefined : prepareEncoding(tables);
  const records = new DataView(new ArrayBuffer(tensors.length * recordBytes));
  const bodies: Uint8Array[] = [];
  for (const [index, tensor] of tensors.entries()) {
    const { steps, differences } = tensor;
    const groupSize = differences.length / steps.length;
    const numbers = Uint8Array.from(classes[index]!, (one) => Math.max(0, used.indexOf(one)));
    const coded = [...steps.keys()].filter((group) => steps[group] !== 0);
    const values = Int32Array.from(differences);
    let stream: Uint8Array = new Uint8Array();
    if (prepared !== undefined && coded.length > 0) {
      const encoder = new RansEncoder(prepared, coded.length * groupSize);
      for (const group of coded.reverse()) {
        encoder.writeRun(values, group * groupSize, (group + 1) * groupSize, numbers[group]!);
      }
      stream = encoder.finish();
    }
    const fields = [tensor.file, tensor.offset, differences.length, steps.length, stream.byteLength];
    for (const [field, value] of fields.entries()) {
      records.setUint32(index * recordBytes + 4 * field, value, true);
    }
    bodies.push(new Uint8Array(steps.slice().buffer), numbers, stream);
  }
  const header = new DataView(new ArrayBuffer(headerBytes));
  header.setUint32(0, magic, true);
  header.setUint8(4, version);
  header.setUint8(5, via);
  header.setUint8(6, to);
  header.setUint32(8, files.length, true);
  header.setUint32(12, tensors.length, true);
  header.setUint32(16, tableBytes.byteLength, true);
  return concatBytes([
    new Uint8Array(header.buffer),
    ...files.map((hash) =>
      Uint8Array.from({ length: hashBytes }, (_, i) => parseInt(hash.slice(2 * i, 2 * i + 2), 16)),
    ),
    tableBytes,
    new Uint8Array(records.buffer),
    ...bodies,
  ]);
}

/**
 * Checks the bytes of {@link formatTunedSegments} against the bundle they are for. Nothing is allocated but by what is
 * there: numbers of tensors by the file's own length, numbers of elements by that of the files they are in.
 *
 * @param path The codec's: the tuned segments lead to its end.
 * @throws IsthmusError `bundle/invalid`
 */
export function parseTunedSegments(
  bytes: Uint8Array,
  manifest: Manifest,
  path: { from: number; to: number },
): PackedSegments {
  if (bytes.byteLength > manifestLimits.tunedBytes) {
    throw unsound(`they take ${bytes.byteLength} bytes, more than ${manifestLimits.tunedBytes}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.byteLength < headerBytes || view.getUint32(0, true) !== magic) throw unsound('they are none');
  if (view.getUint8(4) !== version) throw unsound(`they are of version ${view.getUint8(4)}`);
  const [via, to] = [view.getUint8(5), view.getUint8(6)];
  if (view.getUint8(7) !== 0) throw unsound('a byte that is to be zero is not');
  if (to !== path.to || via < path.from || via >= to) {
    throw unsound(`they lead from cut ${via} to ${to}, and the codec from ${path.from} to ${path.to}`);
  }
  const numFiles = view.getUint32(8, true);
  const numTensors = view.getUint32(12, true);
  const numTableBytes = view.getUint32(16, true);
  const recordsAt = headerBytes + numFiles * hashBytes + numTableBytes;
  let at = recordsAt + numTensors * recordBytes;
  if (at > bytes.byteLength) throw unsound('they end too early');

  const known = new Map(describeSpan(manifest, via, to).files.map((file) => [file.sha256, file]));
  const files = Array.from({ length: numFiles }, (_, index) => {
    const from = headerBytes + index * hashBytes;
    const hash = toHex(bytes.subarray(from, from + hashBytes));
    const file = known.get(hash);
    if (file === undefined) throw unsound('they are of other segments than the bundle has');
    known.delete(hash);
    return file;
  });
  const tables =
    numTableBytes === 0 ? [] : checkTables(parseTables(bytes.subarray(recordsAt - numTableBytes, recordsAt)));
  const tensors: PackedTensor[] = [];
  for (let index = 0; index < numTensors; index++) {
    const field = (which: number): number =>
      view.getUint32(recordsAt + index * recordBytes + 4 * which, true);
    const [file, offset, numElements, numGroups, streamBytes] = [0, 1, 2, 3, 4].map(field) as [
      number,
      number,
      number,
      number,
      number,
    ];
    const before = tensors.at(-1);
    const isBehind =
      before === undefined ||
      file > before.file ||
      (file === before.file && offset >= before.offset + 4 * before.numElements);
    if (!isBehind) throw unsound('tensors overlap or are not in order');
    if (offset + 4 * numElements > (files[file]?.numBytes ?? -1)) {
      throw unsound('a tensor is not inside its file');
    }
    if (numGroups === 0 || numElements === 0 || numElements % numGroups !== 0) {
      throw unsound(`${numGroups} groups cannot have ${numElements} elements`);
    }
    const end = at + numGroups * groupBytes + streamBytes;
    if (end > bytes.byteLength) throw unsound('they end too early');
    const steps = tensorFromBytes('float32', [numGroups], bytes.subarray(at, at + 4 * numGroups)).data;
    if (!steps.every((step) => step >= 0 && step < Infinity)) throw unsound('a step is not one');
    const numbers = bytes.subarray(at + 4 * numGroups, at + groupBytes * numGroups);
    if (numbers.some((table, group) => steps[group] !== 0 && table >= tables.length)) {
      throw unsound('a table is missing');
    }
    if (streamBytes > 0 !== steps.some((step) => step !== 0))
      throw unsound('a stream is missing, or of nothing');
    const stream = bytes.subarray(end - streamBytes, end);
    tensors.push({ file, offset, numElements, steps, tables: numbers, stream });
    at = end;
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

/** Per group, by the mean size of its differences. */
function classesOfGroups({ steps, differences }: TunedTensor): Uint8Array {
  const groupSize = differences.length / steps.length;
  if (!Number.isInteger(groupSize) || groupSize === 0) {
    throw new IsthmusError(
      'usage/invalid',
      `${steps.length} groups cannot have ${differences.length} elements.`,
    );
  }
  return Uint8Array.from(steps, (step, group) => {
    if (step === 0) return unchanged;
    let sum = 0;
    for (let i = group * groupSize; i < (group + 1) * groupSize; i++) sum += Math.abs(differences[i]!);
    const size = 6 + 2 * Math.log2(sum / groupSize + 2 ** -4);
    return Math.min(numClasses - 1, Math.max(0, Math.round(size)));
  });
}

function tableOf(
  tensors: readonly TunedTensor[],
  classes: readonly Uint8Array[],
  wanted: number,
): FrequencyTable {
  const counts = new Float64Array(2 * largest + 1);
  for (const [index, { steps, differences }] of tensors.entries()) {
    const groupSize = differences.length / steps.length;
    for (const [group, one] of classes[index]!.entries()) {
      if (one !== wanted) continue;
      const values = differences.subarray(group * groupSize, (group + 1) * groupSize);
      const counted = countValues(values, -largest, largest);
      if (counted.outside > 0) throw new IsthmusError('usage/invalid', `A difference is beyond ±${largest}.`);
      counted.counts.forEach((count, value) => {
        counts[value]! += count;
      });
    }
  }
  const from = Math.max(
    0,
    counts.findIndex((count) => count > 0),
  );
  const to = Math.max(
    from,
    counts.findLastIndex((count) => count > 0),
  );
  return tableFromCounts(counts.subarray(from, to + 1), { precision, minValue: from - largest });
}

function checkTables(tables: FrequencyTable[]): FrequencyTable[] {
  const isSmall = ({ minValue, hasEscape, frequencies }: FrequencyTable): boolean =>
    !hasEscape && minValue >= -largest && minValue + frequencies.length - 1 <= largest;
  if (!tables.every(isSmall)) throw unsound(`a table is of values beyond ±${largest}`);
  return tables;
}

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
