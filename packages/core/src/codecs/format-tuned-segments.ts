import { concatBytes } from '../bytes.js';
import { RansEncoder } from '../entropy/rans-encoder.js';
import { prepareEncoding } from '../entropy/rans-tables.js';
import { formatTables } from '../entropy/table-file.js';
import { type FrequencyTable, tableFromCounts } from '../entropy/tables.js';
import { IsthmusError } from '../errors.js';
import { tunedLayout } from './tuned-segments.js';

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
  const { magic, version, headerBytes, hashBytes, recordBytes } = tunedLayout;
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

/** Per group, by the mean size of its differences. */
function classesOfGroups({ steps, differences }: TunedTensor): Uint8Array {
  const groupSize = differences.length / steps.length;
  if (!Number.isInteger(groupSize) || groupSize === 0) {
    throw new IsthmusError(
      'usage/invalid',
      `${steps.length} groups cannot have ${differences.length} elements.`,
    );
  }
  if (differences.some((difference) => difference < -tunedLayout.largest)) {
    throw new IsthmusError('usage/invalid', `A difference is beyond ±${tunedLayout.largest}.`);
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
  const { largest } = tunedLayout;
  const counts = new Float64Array(2 * largest + 1);
  for (const [index, { steps, differences }] of tensors.entries()) {
    const groupSize = differences.length / steps.length;
    for (const [group, one] of classes[index]!.entries()) {
      if (one !== wanted) continue;
      for (let i = group * groupSize; i < (group + 1) * groupSize; i++)
        counts[differences[i]! + largest]! += 1;
    }
  }
  const from = counts.findIndex((count) => count > 0);
  const to = counts.findLastIndex((count) => count > 0);
  return tableFromCounts(counts.subarray(from, to + 1), { precision, minValue: from - largest });
}
