import { IsthmusError } from '../errors.js';

/** What control messages are made of. Numbers are doubles; integers beyond 2^53 are refused. */
export type MsgpackValue =
  | null
  | boolean
  | number
  | string
  | Uint8Array
  | readonly MsgpackValue[]
  | { readonly [key: string]: MsgpackValue };

const maxDepth = 8;
const maxItems = 10_000;
const maxUint32 = 0xffff_ffff;

/**
 * A MessagePack value as bytes, each in its shortest form; integers of more than 32 bits and fractions as float64
 * (https://github.com/msgpack/msgpack/blob/master/spec.md).
 */
export function encodeMsgpack(value: MsgpackValue): Uint8Array<ArrayBuffer> {
  const bytes: number[] = [];
  const text = new TextEncoder();
  const number = (type: number, numBytes: 1 | 2 | 4, n: number): void => {
    bytes.push(type);
    for (let shift = 8 * (numBytes - 1); shift >= 0; shift -= 8) bytes.push((n >>> shift) & 0xff);
  };
  // `types` of a length of 8, 16 and 32 bits, in this order; 0 where there is none.
  const length = (n: number, [one, two, four]: readonly [number, number, number]): void => {
    if (one !== 0 && n <= 0xff) number(one, 1, n);
    else if (n <= 0xffff) number(two, 2, n);
    else number(four, 4, n);
  };
  const write = (item: MsgpackValue): void => {
    if (item === null) bytes.push(0xc0);
    else if (typeof item === 'boolean') bytes.push(item ? 0xc3 : 0xc2);
    else if (typeof item === 'number') writeNumber(item);
    else if (typeof item === 'string') {
      const encoded = text.encode(item);
      if (encoded.length < 32) bytes.push(0xa0 | encoded.length);
      else length(encoded.length, [0xd9, 0xda, 0xdb]);
      for (const byte of encoded) bytes.push(byte);
    } else if (item instanceof Uint8Array) {
      length(item.length, [0xc4, 0xc5, 0xc6]);
      for (const byte of item) bytes.push(byte);
    } else if (isList(item)) {
      if (item.length < 16) bytes.push(0x90 | item.length);
      else length(item.length, [0, 0xdc, 0xdd]);
      item.forEach(write);
    } else {
      const entries = Object.entries(item);
      if (entries.length < 16) bytes.push(0x80 | entries.length);
      else length(entries.length, [0, 0xde, 0xdf]);
      entries.flat().forEach(write);
    }
  };
  const writeNumber = (n: number): void => {
    if (!Number.isInteger(n) || n > maxUint32 || n < -0x8000_0000 || Object.is(n, -0)) {
      bytes.push(0xcb, ...new Uint8Array(Float64Array.of(n).buffer).reverse());
    } else if (n >= -32 && n < 128) bytes.push(n & 0xff);
    else if (n >= 0) length(n, [0xcc, 0xcd, 0xce]);
    else if (n >= -0x80) number(0xd0, 1, n);
    else if (n >= -0x8000) number(0xd1, 2, n);
    else number(0xd2, 4, n);
  };
  write(value);
  return Uint8Array.from(bytes);
}

const isList = (value: MsgpackValue): value is readonly MsgpackValue[] => Array.isArray(value);

/**
 * Reads one MessagePack value. Nothing is allocated for what a length only announces: five bytes that speak of a list
 * of four thousand million items end at the first that is missing. Depth and number of values are bounded; extension
 * types are refused, no control message uses them.
 *
 * @throws IsthmusError `wire/malformed`
 */
export function decodeMsgpack(bytes: Uint8Array): MsgpackValue {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = new TextDecoder('utf-8', { ignoreBOM: true });
  let items = 0;
  let offset = 0;

  const take = (numBytes: number): number => {
    const start = offset;
    offset += numBytes;
    if (offset > bytes.byteLength) throw refused('it ends early');
    return start;
  };
  const slice = (numBytes: number): Uint8Array => {
    const start = take(numBytes);
    return bytes.subarray(start, offset);
  };
  const uint = (numBytes: number): number => {
    const start = take(numBytes);
    if (numBytes === 1) return view.getUint8(start);
    return numBytes === 2 ? view.getUint16(start) : view.getUint32(start);
  };
  const int = (numBytes: number): number => {
    const start = take(numBytes);
    if (numBytes === 1) return view.getInt8(start);
    return numBytes === 2 ? view.getInt16(start) : view.getInt32(start);
  };
  const wide = (n: bigint): number => {
    if (!Number.isSafeInteger(Number(n))) throw refused('it holds an integer beyond 2^53');
    return Number(n);
  };
  const list = (count: number, depth: number): MsgpackValue[] => {
    const values: MsgpackValue[] = [];
    for (let i = 0; i < count; i++) values.push(read(depth + 1));
    return values;
  };
  const map = (count: number, depth: number): MsgpackValue => {
    const entries: [string, MsgpackValue][] = [];
    for (let i = 0; i < count; i++) {
      const key = read(depth + 1);
      if (typeof key !== 'string') throw refused('a key is no string');
      entries.push([key, read(depth + 1)]);
    }
    return Object.fromEntries(entries);
  };
  const read = (depth: number): MsgpackValue => {
    if (depth > maxDepth) throw refused('it is nested too deep');
    if (++items > maxItems) throw refused('it holds too many values');
    const type = uint(1);
    if (type <= 0x7f) return type;
    if (type <= 0x8f) return map(type & 15, depth);
    if (type <= 0x9f) return list(type & 15, depth);
    if (type <= 0xbf) return text.decode(slice(type & 31));
    if (type >= 0xe0) return type - 256;
    switch (type) {
      case 0xc0:
        return null;
      case 0xc2:
      case 0xc3:
        return type === 0xc3;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return slice(uint(2 ** (type - 0xc4)));
      case 0xca:
        return view.getFloat32(take(4));
      case 0xcb:
        return view.getFloat64(take(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
        return uint(2 ** (type - 0xcc));
      case 0xcf:
        return wide(view.getBigUint64(take(8)));
      case 0xd0:
      case 0xd1:
      case 0xd2:
        return int(2 ** (type - 0xd0));
      case 0xd3:
        return wide(view.getBigInt64(take(8)));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return text.decode(slice(uint(2 ** (type - 0xd9))));
      case 0xdc:
      case 0xdd:
        return list(uint(2 ** (type - 0xdb)), depth);
      case 0xde:
      case 0xdf:
        return map(uint(2 ** (type - 0xdd)), depth);
      default:
        throw refused('it uses an extension type');
    }
  };

  const value = read(0);
  if (offset !== bytes.byteLength) throw refused('bytes are left over');
  return value;
}

function refused(why: string): IsthmusError {
  return new IsthmusError('wire/malformed', `Malformed control message: ${why}.`);
}
