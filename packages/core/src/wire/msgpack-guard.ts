import { IsthmusError } from '../errors.js';

const maxDepth = 8;
const maxItems = 10_000;

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
    if (type <= 0x7f || type >= 0xe0) return;
    if (type <= 0x8f) return walkMany(2 * (type & 15), depth + 1);
    if (type <= 0x9f) return walkMany(type & 15, depth + 1);
    if (type <= 0xbf) return void take(type & 31);
    switch (type) {
      case 0xc0:
      case 0xc2:
      case 0xc3:
        return;
      case 0xc4:
      case 0xd9:
        return void take(length(1));
      case 0xc5:
      case 0xda:
        return void take(length(2));
      case 0xc6:
      case 0xdb:
        return void take(length(4));
      case 0xcc:
      case 0xd0:
        return void take(1);
      case 0xcd:
      case 0xd1:
        return void take(2);
      case 0xca:
      case 0xce:
      case 0xd2:
        return void take(4);
      case 0xcb:
      case 0xcf:
      case 0xd3:
        return void take(8);
      case 0xdc:
        return walkMany(length(2), depth + 1);
      case 0xdd:
        return walkMany(length(4), depth + 1);
      case 0xde:
        return walkMany(2 * length(2), depth + 1);
      case 0xdf:
        return walkMany(2 * length(4), depth + 1);
      default:
        throw refused('it uses an extension type');
    }
  };

  walk(0);
  if (offset !== bytes.byteLength) throw refused('bytes are left over');
}

function refused(why: string): IsthmusError {
  return new IsthmusError('wire/malformed', `Malformed control message: ${why}.`);
}
