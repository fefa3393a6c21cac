import type { PictureSize } from './picture-header.js';

/** A box of the ISO base media file format: where its contents lie. */
interface Box {
  type: string;
  start: number;
  end: number;
}

/**
 * The size of an AVIF file (https://aomediacodec.github.io/av1-avif/) that holds one AV1 picture and nothing else,
 * as encoders of still pictures write it. Both places that name a size must agree: `ispe`, which a container's
 * reader believes, and the AV1 sequence header, for which a decoder allocates.
 *
 * @returns undefined for anything else.
 * @throws RangeError if the file stops early
 */
export function readAvifSize(view: DataView): PictureSize | undefined {
  const boxes = listBoxes(view, 0, view.byteLength);
  const [fileType, meta] = [boxes[0], boxes.find(({ type }) => type === 'meta')];
  if (fileType?.type !== 'ftyp' || !brandsOf(view, fileType).includes('avif') || meta === undefined) {
    return undefined;
  }
  const inMeta = listBoxes(view, meta.start + 4, meta.end);
  const inside = (type: string): Box[] => inMeta.filter((box) => box.type === type);
  const [items, location, properties] = [inside('iinf'), inside('iloc'), inside('iprp')];
  if (items.length !== 1 || location.length !== 1 || properties.length !== 1) return undefined;
  const data = readOnlyExtent(view, location[0]!);
  if (!holdsOnePicture(view, items[0]!) || data === undefined || data.end > view.byteLength) return undefined;
  const containers = listBoxes(view, properties[0]!.start, properties[0]!.end);
  const sizes = containers
    .filter(({ type }) => type === 'ipco')
    .flatMap((box) => listBoxes(view, box.start, box.end))
    .filter(({ type }) => type === 'ispe')
    .map(({ start }) => ({ width: view.getUint32(start + 4), height: view.getUint32(start + 8) }));
  sizes.push(...readSequenceSizes(view, data.start, data.end));
  const [size] = sizes;
  const agree = sizes.every(({ width, height }) => width === size?.width && height === size.height);
  return sizes.length >= 2 && agree ? size : undefined;
}

// ISO/IEC 14496-12, section 4.2. The file's last box may leave its length open.
function listBoxes(view: DataView, start: number, end: number): Box[] {
  const boxes: Box[] = [];
  for (let offset = start; offset < end; ) {
    const numBytes = view.getUint32(offset) || end - offset;
    const box = { type: tag(view, offset + 4), start: offset + 8, end: offset + numBytes };
    // A length of 1 means one of 64 bits: no picture of ours is that large.
    if (numBytes < 8 || box.end > end) throw new RangeError('a box goes beyond its container');
    boxes.push(box);
    offset = box.end;
  }
  return boxes;
}

function brandsOf(view: DataView, { start, end }: Box): string[] {
  const brands = [tag(view, start)];
  for (let offset = start + 8; offset + 4 <= end; offset += 4) brands.push(tag(view, offset));
  return brands;
}

// `iinf`, section 8.11.6: one entry, of type av01. A grid, a thumbnail or an alpha plane would be others.
function holdsOnePicture(view: DataView, box: Box): boolean {
  const version = view.getUint8(box.start);
  const count = version === 0 ? view.getUint16(box.start + 4) : view.getUint32(box.start + 4);
  const [entry, ...others] = listBoxes(view, box.start + (version === 0 ? 6 : 8), box.end);
  if (count !== 1 || others.length > 0 || entry?.type !== 'infe') return false;
  const idBytes = { 2: 2, 3: 4 }[view.getUint8(entry.start)];
  return idBytes !== undefined && tag(view, entry.start + 4 + idBytes + 2) === 'av01';
}

// `iloc`, section 8.11.3: one item in one piece of the file.
function readOnlyExtent(view: DataView, { start }: Box): { start: number; end: number } | undefined {
  const version = view.getUint8(start);
  const sizes = view.getUint16(start + 4);
  const [offsetSize, lengthSize, baseSize] = [sizes >> 12, (sizes >> 8) & 15, (sizes >> 4) & 15];
  const indexSize = version === 0 ? 0 : sizes & 15;
  if (version > 2) return undefined;
  let at = start + 6;
  const read = (numBytes: number): number => {
    if (![0, 2, 4].includes(numBytes)) throw new RangeError('a location is larger than the file can be');
    at += numBytes;
    if (numBytes === 0) return 0;
    return numBytes === 2 ? view.getUint16(at - 2) : view.getUint32(at - 4);
  };
  const idBytes = version === 2 ? 4 : 2;
  if (read(idBytes) !== 1) return undefined;
  read(idBytes);
  // How the offset is meant: 0 is from the start of the file.
  if (version > 0 && read(2) !== 0) return undefined;
  read(2);
  const base = read(baseSize);
  if (read(2) !== 1) return undefined;
  read(indexSize);
  const offset = base + read(offsetSize);
  return { start: offset, end: offset + read(lengthSize) };
}

const sequenceHeaderType = 1;

// AV1 specification, section 5.3: every sequence header among the item's open bitstream units.
function readSequenceSizes(view: DataView, start: number, end: number): PictureSize[] {
  const sizes: PictureSize[] = [];
  for (let offset = start; offset < end; ) {
    const header = view.getUint8(offset);
    offset += (header & 0b100) !== 0 ? 2 : 1;
    let numBytes = end - offset;
    if ((header & 0b10) !== 0) {
      numBytes = 0;
      for (let shift = 0; ; shift += 7) {
        const byte = view.getUint8(offset++);
        numBytes += (byte & 127) * 2 ** shift;
        if ((byte & 128) === 0) break;
        if (shift === 28) throw new RangeError('a unit is larger than the file can be');
      }
    }
    if (offset + numBytes > end) throw new RangeError('a unit goes beyond its item');
    if (((header >> 3) & 15) === sequenceHeaderType) sizes.push(readSequenceSize(view, offset));
    offset += numBytes;
  }
  if (sizes.length === 0) throw new RangeError('there is no sequence header');
  return sizes;
}

// AV1 specification, section 5.5.1, up to the largest frame size.
function readSequenceSize(view: DataView, start: number): PictureSize {
  let position = 8 * start;
  const read = (bits: number): number => {
    let value = 0;
    for (let i = 0; i < bits; i++, position++) {
      value = 2 * value + ((view.getUint8(position >> 3) >> (7 - (position & 7))) & 1);
    }
    return value;
  };
  read(3 + 1);
  const isReduced = read(1) === 1;
  if (isReduced) read(5);
  else skipOperatingPoint(read);
  const [widthBits, heightBits] = [1 + read(4), 1 + read(4)];
  return { width: 1 + read(widthBits), height: 1 + read(heightBits) };
}

function skipOperatingPoint(read: (bits: number) => number): void {
  const hasTiming = read(1) === 1;
  const hasDelay = read(1) === 1;
  if (hasTiming || read(5) !== 0)
    throw new RangeError('a still picture has no times and one operating point');
  read(12);
  if (read(5) > 7) read(1);
  if (hasDelay && read(1) === 1) read(4);
}

function tag(view: DataView, offset: number): string {
  return String.fromCharCode(...[0, 1, 2, 3].map((i) => view.getUint8(offset + i)));
}
