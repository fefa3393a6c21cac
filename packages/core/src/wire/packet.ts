import { IsthmusError } from '../errors.js';
import { type Manifest, manifestLimits } from '../manifest.js';
import {
  elementCount,
  type NamedTensors,
  type Tensor,
  type TensorType,
  tensorBytes,
  tensorFromBytes,
  tensorToBytes,
  tensorTypes,
} from '../tensor.js';
import { requestHeaderBytes, resultHeaderBytes } from './constants.js';
import { crc32 } from './crc32.js';

const packetVersion = 1;

/** What a request packet says before its payload. docs/protocol.md gives the bytes. */
export interface RequestHeader {
  from: number;
  to: number;
  level: number;
  /** Index into the manifest's codecs. */
  codec: number;
  payloadBytes: number;
  crc: number;
  /** Milliseconds after the first chunk's arrival in which an answer is of use; 0 for no limit. */
  deadlineMs: number;
}

/** A request packet: header and payload in one array. */
export function encodeRequestPacket(
  header: Omit<RequestHeader, 'payloadBytes' | 'crc'>,
  payload: Uint8Array,
): Uint8Array {
  const packet = new Uint8Array(requestHeaderBytes + payload.byteLength);
  const view = new DataView(packet.buffer);
  view.setUint8(0, packetVersion);
  view.setUint8(1, header.from);
  view.setUint8(2, header.to);
  view.setUint8(3, header.level);
  view.setUint16(4, header.codec, true);
  view.setUint32(8, payload.byteLength, true);
  view.setUint32(12, crc32(payload), true);
  view.setUint32(16, Math.min(Math.ceil(header.deadlineMs), 0xffffffff), true);
  packet.set(payload, requestHeaderBytes);
  return packet;
}

/**
 * The header at the start of `bytes`. Says nothing yet about whether codec and cuts exist.
 *
 * @throws IsthmusError `wire/malformed`
 */
export function decodeRequestHeader(bytes: Uint8Array): RequestHeader {
  const view = headerView(bytes, requestHeaderBytes);
  if (view.getUint16(6, true) !== 0) throw malformed('reserved bytes of a request header must be zero');
  return {
    from: view.getUint8(1),
    to: view.getUint8(2),
    level: view.getUint8(3),
    codec: view.getUint16(4, true),
    payloadBytes: view.getUint32(8, true),
    crc: view.getUint32(12, true),
    deadlineMs: view.getUint32(16, true),
  };
}

export interface ResultHeader {
  tensors: number;
  /** Bytes after the header: descriptors and data. */
  payloadBytes: number;
  crc: number;
}

/** A result packet: the tensors of the last cut, in the manifest's order, each with its type and shape. */
export function encodeResultPacket(tensors: readonly Tensor[]): Uint8Array {
  const payloadBytes = tensors.reduce(
    (sum, tensor) => sum + 4 + 4 * tensor.shape.length + tensorBytes(tensor.type, tensor.shape),
    0,
  );
  const packet = new Uint8Array(resultHeaderBytes + payloadBytes);
  const view = new DataView(packet.buffer);
  view.setUint8(0, packetVersion);
  view.setUint16(2, tensors.length, true);
  view.setUint32(4, payloadBytes, true);
  let offset = resultHeaderBytes;
  for (const tensor of tensors) {
    view.setUint8(offset, tensorTypes.indexOf(tensor.type));
    view.setUint8(offset + 1, tensor.shape.length);
    tensor.shape.forEach((size, axis) => {
      view.setUint32(offset + 4 + 4 * axis, size, true);
    });
    offset += 4 + 4 * tensor.shape.length;
    packet.set(tensorToBytes(tensor), offset);
    offset += tensorBytes(tensor.type, tensor.shape);
  }
  view.setUint32(8, crc32(packet.subarray(resultHeaderBytes)), true);
  return packet;
}

/** @throws IsthmusError `wire/malformed` */
export function decodeResultHeader(bytes: Uint8Array): ResultHeader {
  const view = headerView(bytes, resultHeaderBytes);
  return {
    tensors: view.getUint16(2, true),
    payloadBytes: view.getUint32(4, true),
    crc: view.getUint32(8, true),
  };
}

/**
 * The tensors of a whole result packet, named after the manifest's last cut.
 *
 * @throws IsthmusError `wire/malformed` or `wire/crc-mismatch`
 */
export function decodeResultPacket(packet: Uint8Array, manifest: Manifest): NamedTensors {
  const header = decodeResultHeader(packet);
  const payload = packet.subarray(resultHeaderBytes);
  const expected = manifest.cuts.at(-1)!.tensors;
  if (payload.byteLength !== header.payloadBytes) throw malformed('a result is not as long as it says');
  checkCrc(payload, header.crc);
  if (header.tensors !== expected.length) throw malformed('a result holds another number of tensors');
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const tensors: Record<string, Tensor> = {};
  let offset = 0;
  for (const { name, type } of expected) {
    if (offset + 4 > payload.byteLength) throw malformed('a result ends early');
    const actual: TensorType | undefined = tensorTypes[view.getUint8(offset)];
    const rank = view.getUint8(offset + 1);
    if (actual !== type) throw malformed(`result ${name} is ${actual}, not ${type}`);
    if (rank > manifestLimits.rank || offset + 4 + 4 * rank > payload.byteLength) {
      throw malformed('a result ends early');
    }
    const shape = Array.from({ length: rank }, (_, axis) => view.getUint32(offset + 4 + 4 * axis, true));
    offset += 4 + 4 * rank;
    const numBytes = Number.isSafeInteger(elementCount(shape)) ? tensorBytes(type, shape) : Infinity;
    if (offset + numBytes > payload.byteLength) throw malformed('a result ends early');
    tensors[name] = tensorFromBytes(type, shape, payload.subarray(offset, offset + numBytes));
    offset += numBytes;
  }
  if (offset !== payload.byteLength) throw malformed('a result has bytes left over');
  return tensors;
}

/** @throws IsthmusError `wire/crc-mismatch` */
export function checkCrc(payload: Uint8Array, crc: number): void {
  if (crc32(payload) !== crc) {
    throw new IsthmusError('wire/crc-mismatch', 'The payload does not match its checksum; send it again.', {
      retryable: true,
    });
  }
}

function headerView(bytes: Uint8Array, numBytes: number): DataView {
  if (bytes.byteLength < numBytes) throw malformed(`a packet needs a header of ${numBytes} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, numBytes);
  if (view.getUint8(0) !== packetVersion) throw malformed(`packet version ${view.getUint8(0)} is not known`);
  return view;
}

function malformed(what: string): IsthmusError {
  return new IsthmusError('wire/malformed', `Malformed packet: ${what}.`);
}
