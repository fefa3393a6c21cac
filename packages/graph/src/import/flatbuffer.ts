import { IsthmusError } from '@isthmus/core';
import { ByteBuffer } from 'flatbuffers';

/**
 * Tables of a FlatBuffers file, by field id (https://flatbuffers.dev/internals/). Unlike generated accessors,
 * which read zeros past the end of the file, every offset is checked before it is followed, so that a damaged
 * file ends in an error and not in a model that is slightly wrong.
 */
export interface Table {
  has(field: number): boolean;
  int8(field: number, absent?: number): number;
  uint8(field: number, absent?: number): number;
  int32(field: number, absent?: number): number;
  uint32(field: number, absent?: number): number;
  float32(field: number, absent?: number): number;
  bool(field: number, absent?: boolean): boolean;
  /** Undefined where the field is not set. */
  string(field: number): string | undefined;
  table(field: number): Table | undefined;
  /** Empty where the field is not set. */
  tables(field: number): Table[];
  int32s(field: number): number[];
  /** A view of the file, not a copy. */
  bytes(field: number): Uint8Array;
}

/**
 * The root table of a FlatBuffers file.
 *
 * @param identifier The four characters that name the file's type.
 * @throws IsthmusError `model/truncated` where the file ends before what it refers to, `model/invalid` where
 * it is of another type or contradicts itself.
 */
export function readRootTable(bytes: Uint8Array, identifier: string): Table {
  const file = new ByteBuffer(bytes);
  if (bytes.byteLength < 8) throw truncated(bytes, 8);
  if (!file.__has_identifier(identifier)) {
    throw new IsthmusError(
      'model/invalid',
      `This is not a ${identifier} file: the identifier at byte 4 is something else.`,
    );
  }
  return readTable(file, file.readUint32(0));
}

function readTable(file: ByteBuffer, position: number): Table {
  const bytes = file.bytes();
  const need = (start: number, numBytes: number): number => {
    if (start < 0 || start + numBytes > bytes.byteLength) throw truncated(bytes, start + numBytes);
    return start;
  };
  const vtable = need(need(position, 4) - file.readInt32(position), 4);
  const vtableBytes = file.readUint16(vtable);
  const tableBytes = file.readUint16(vtable + 2);
  if (vtableBytes < 4 || vtableBytes % 2 !== 0) {
    throw new IsthmusError('model/invalid', `The table at byte ${position} has a malformed field list.`);
  }
  need(vtable, vtableBytes);

  // Position of a field's value, or undefined where the file leaves it at its default.
  const locate = (field: number, numBytes: number): number | undefined => {
    const entry = 4 + 2 * field;
    const offset = entry < vtableBytes ? file.readUint16(vtable + entry) : 0;
    if (offset === 0) return undefined;
    if (offset + numBytes > tableBytes) {
      throw new IsthmusError(
        'model/invalid',
        `Field ${field} of the table at byte ${position} lies outside of it.`,
      );
    }
    return need(position + offset, numBytes);
  };
  const follow = (field: number): number | undefined => {
    const at = locate(field, 4);
    return at === undefined ? undefined : at + file.readUint32(at);
  };
  const vector = (field: number, bytesPerItem: number): { start: number; length: number } | undefined => {
    const at = follow(field);
    if (at === undefined) return undefined;
    const length = file.readUint32(need(at, 4));
    return { start: need(at + 4, length * bytesPerItem), length };
  };
  const scalar =
    <T>(numBytes: number, read: (at: number) => T) =>
    (field: number, absent: T): T => {
      const at = locate(field, numBytes);
      return at === undefined ? absent : read(at);
    };
  const readInt8 = scalar(1, (at) => file.readInt8(at));
  const readUint8 = scalar(1, (at) => file.readUint8(at));
  const readInt32 = scalar(4, (at) => file.readInt32(at));
  const readUint32 = scalar(4, (at) => file.readUint32(at));
  const readFloat32 = scalar(4, (at) => file.readFloat32(at));

  return {
    has: (field) => locate(field, 1) !== undefined,
    int8: (field, absent = 0) => readInt8(field, absent),
    uint8: (field, absent = 0) => readUint8(field, absent),
    int32: (field, absent = 0) => readInt32(field, absent),
    uint32: (field, absent = 0) => readUint32(field, absent),
    float32: (field, absent = 0) => readFloat32(field, absent),
    bool: (field, absent = false) => readUint8(field, absent ? 1 : 0) !== 0,
    string(field) {
      const found = vector(field, 1);
      return found && new TextDecoder().decode(bytes.subarray(found.start, found.start + found.length));
    },
    table(field) {
      const at = follow(field);
      return at === undefined ? undefined : readTable(file, at);
    },
    tables(field) {
      const found = vector(field, 4);
      return Array.from({ length: found?.length ?? 0 }, (_, index) => {
        const at = found!.start + 4 * index;
        return readTable(file, at + file.readUint32(at));
      });
    },
    int32s(field) {
      const found = vector(field, 4);
      return Array.from({ length: found?.length ?? 0 }, (_, index) =>
        file.readInt32(found!.start + 4 * index),
      );
    },
    bytes(field) {
      const found = vector(field, 1);
      return found === undefined
        ? new Uint8Array(0)
        : bytes.subarray(found.start, found.start + found.length);
    },
  };
}

function truncated(bytes: Uint8Array, needed: number): IsthmusError {
  return new IsthmusError(
    'model/truncated',
    `The file refers to byte ${needed} but ends at byte ${bytes.byteLength}. Was it copied whole?`,
    { details: { numBytes: bytes.byteLength, needed } },
  );
}
