import { IsthmusError } from '../errors.js';

const maxDepth = 8;
const maxItems = 10_000;

// Bytes after the type byte of nil, false, true, and of every number.
const scalarBytes: Readonly<Record<number, number>> = {
  192: 0,
  194: 0,
  195: 0,
  202: 4,
  203: 8,
  204: 1,
  205: 2,
  206: 4,
  207: 8,
  208: 1,
  209: 2,
  210: 4,
  211: 8,
};

/**
 * Walks a MessagePack value without building it, so that a message of five bytes that announces a list of four
 * thousand million items is refused before anything is allocated. Extension types are refused: no control
 * message uses them. (https://github.com/msgpack/msgpack/blob/master/spec.md)
 *
 * @throws IsthmusError `wire/malformed`
 */
export function checkMsgpack(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let items = 0;
  let offset = 0;

  const take = (numBytes: number): number => {
    const start = offset;
    offset += numBytes;
    if (offset > bytes.byteLength) throw refused('it ends early');
    return start;
  };
  const length = (numBytes: 1 | 2 | 4): number => {
    const start = take(numBytes);
    if (numBytes === 1) return view.getUint8(start);
    return numBytes === 2 ? view.getUint16(start) : view.getUint32(start);
  };
  const walkMany = (count: number, depth: number): void => {
    if (depth > maxDepth) throw refused('it is nested too deep');
    for (let i = 0; i < count; i++) walk(depth);
  };
  const walk = (depth: number): void => {
    if (++items > maxItems) throw refused('it holds too many values');
    const type = view.getUint8(take(1));
    const fixedBytes = scalarBytes[type];
    if (type <= 0x7f || type >= 0xe0) return;
    if (type <= 0x8f) walkMany(2 * (type & 15), depth + 1);
    else if (type <= 0x9f) walkMany(type & 15, depth + 1);
    else if (type <= 0xbf) take(type & 31);
    else if (fixedBytes !== undefined) take(fixedBytes);
    else if (type === 0xc4 || type === 0xd9) take(length(1));
    else if (type === 0xc5 || type === 0xda) take(length(2));
    else if (type === 0xc6 || type === 0xdb) take(length(4));
    else if (type === 0xdc) walkMany(length(2), depth + 1);
    else if (type === 0xdd) walkMany(length(4), depth + 1);
    else if (type === 0xde) walkMany(2 * length(2), depth + 1);
    else if (type === 0xdf) walkMany(2 * length(4), depth + 1);
    else throw refused('it uses an extension type');
  };

  walk(0);
  if (offset !== bytes.byteLength) throw refused('bytes are left over');
}

function refused(why: string): IsthmusError {
  return new IsthmusError('wire/malformed', `Malformed control message: ${why}.`);
}
