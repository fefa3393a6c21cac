import { createTensor, elementCount, IsthmusError, type Tensor, tensorToBytes } from '@isthmus/core';

/** What a safetensors file holds. */
export interface SafetensorsFile {
  readonly tensors: ReadonlyMap<string, Tensor<'float32'>>;
  /** Texts by name. */
  readonly metadata: ReadonlyMap<string, string>;
}

const headerLengthBytes = 8;
const longestHeaderBytes = 100e6;
const metadataKey = '__metadata__';

/**
 * Float32 tensors as a safetensors file (https://github.com/huggingface/safetensors): eight bytes with the length of
 * a JSON header, the header, then the tensors' bytes, little-endian and without gaps. PyTorch reads it, and no file
 * of this kind can run code.
 *
 * @throws IsthmusError `usage/invalid` for a tensor called `__metadata__`.
 */
export function writeSafetensors({ tensors, metadata }: SafetensorsFile): Uint8Array {
  let offset = 0;
  const entries = [...tensors].map(([name, tensor]): [string, object] => {
    if (name === metadataKey) {
      throw new IsthmusError('usage/invalid', `No tensor of a safetensors file can be called ${name}.`);
    }
    const start = offset;
    offset += tensor.data.byteLength;
    return [name, { dtype: 'F32', shape: tensor.shape, data_offsets: [start, offset] }];
  });
  const texts: [string, object][] = metadata.size > 0 ? [[metadataKey, Object.fromEntries(metadata)]] : [];
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries([...texts, ...entries])));
  // Spaces at the end, so that the tensors are aligned.
  const headerBytes = Math.ceil(json.length / 8) * 8;
  const bytes = new Uint8Array(headerLengthBytes + headerBytes + offset).fill(0x20, headerLengthBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerBytes), true);
  bytes.set(json, headerLengthBytes);
  let position = headerLengthBytes + headerBytes;
  for (const tensor of tensors.values()) {
    bytes.set(tensorToBytes(tensor), position);
    position += tensor.data.byteLength;
  }
  return bytes;
}

/**
 * The tensors of a safetensors file that holds float32. Everything the header says is checked against the size of
 * the file before memory is reserved for a tensor.
 *
 * @throws IsthmusError `train/state-invalid` if the file is cut short, damaged, or holds other types.
 */
export function readSafetensors(bytes: Uint8Array): SafetensorsFile {
  const { header, body } = splitHeader(bytes);
  const metadata = new Map<string, string>();
  const found: { name: string; shape: number[]; start: number; end: number }[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name === metadataKey) readMetadata(value, metadata);
    else found.push({ name, ...readEntry(name, value, body.byteLength) });
  }
  // Without gaps and without overlap, to the last byte: a file means one thing only.
  let position = 0;
  for (const { name, start, end } of [...found].sort((a, b) => a.start - b.start || a.end - b.end)) {
    if (start !== position) throw invalid(`Its tensor ${name} begins at ${start}, not at ${position}.`);
    position = end;
  }
  if (position !== body.byteLength) {
    throw invalid(`Its tensors take ${position} bytes, and ${body.byteLength} are there.`);
  }
  const tensors = found.map(({ name, shape, start, end }): [string, Tensor<'float32'>] => {
    // Copied: what is read need not be aligned, nor outlive its file.
    // By a constructor: the slice of a Buffer is no copy.
    const data = new Float32Array(new Uint8Array(body.subarray(start, end)).buffer);
    return [name, createTensor('float32', shape, data)];
  });
  return { tensors: new Map(tensors), metadata };
}

function splitHeader(bytes: Uint8Array): { header: object; body: Uint8Array } {
  if (bytes.byteLength < headerLengthBytes) throw invalid('It is too short for a header.');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const numBytes = view.getBigUint64(0, true);
  if (numBytes > longestHeaderBytes || numBytes > bytes.byteLength - headerLengthBytes) {
    throw invalid(`Its header is said to take ${numBytes} bytes.`);
  }
  const end = headerLengthBytes + Number(numBytes);
  let header: unknown;
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(headerLengthBytes, end));
    header = JSON.parse(text);
  } catch (cause) {
    throw invalid('Its header is not JSON.', cause);
  }
  if (!isRecord(header)) throw invalid('Its header is not an object.');
  return { header, body: bytes.subarray(end) };
}

function readMetadata(value: unknown, into: Map<string, string>): void {
  if (!isRecord(value)) throw invalid('Its metadata is not an object.');
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') throw invalid(`Its metadata ${key} is not a text.`);
    into.set(key, text);
  }
}

function readEntry(
  name: string,
  value: unknown,
  numBytes: number,
): { shape: number[]; start: number; end: number } {
  if (!isRecord(value)) throw invalid(`Its tensor ${name} is not described by an object.`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (dtype !== 'F32') throw invalid(`Its tensor ${name} holds ${String(dtype)}, where F32 is expected.`);
  if (!isSizes(shape)) throw invalid(`Its tensor ${name} has no valid shape.`);
  if (!isSizes(offsets) || offsets.length !== 2) throw invalid(`Its tensor ${name} has no valid offsets.`);
  const [start = 0, end = 0] = offsets;
  if (end > numBytes || end - start !== 4 * elementCount(shape)) {
    throw invalid(
      `Its tensor ${name} of shape [${shape}] lies from ${start} to ${end} of ${numBytes} bytes.`,
    );
  }
  return { shape, start, end };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isSizes(value: unknown): value is number[] {
  return (
    Array.isArray(value) &&
    value.length <= 16 &&
    value.every((size) => Number.isSafeInteger(size) && size >= 0)
  );
}

function invalid(reason: string, cause?: unknown): IsthmusError {
  return new IsthmusError(
    'train/state-invalid',
    `The safetensors file is not usable: ${reason} Get it again.`,
    { cause },
  );
}
