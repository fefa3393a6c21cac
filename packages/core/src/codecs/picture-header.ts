import { readAvifSize } from './avif-header.js';

/** Picture formats whose decoders every cloud has. */
export const pictureFormats = ['jpeg', 'webp', 'avif'] as const;
export type PictureFormat = (typeof pictureFormats)[number];

export interface PictureSize {
  width: number;
  height: number;
}

/**
 * The size a picture file announces, read without decoding it, so that nothing is allocated for a file that says
 * it is huge. Strict: three 8-bit channels, one frame, no alpha, nothing in the way that a decoder might read
 * differently.
 *
 * @returns undefined for what is not such a file.
 */
export function readPictureSize(bytes: Uint8Array, format: PictureFormat): PictureSize | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    if (format === 'jpeg') return readJpegSize(view);
    if (format === 'webp') return readWebpSize(view);
    return readAvifSize(view);
  } catch (error) {
    // A view refuses to read beyond its end: the file stops early.
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

// ITU-T T.81, annex B: markers until the frame header, SOF0…SOF15.
function readJpegSize(view: DataView): PictureSize | undefined {
  if (view.getUint16(0) !== 0xffd8) return undefined;
  for (let offset = 2; ; ) {
    const marker = view.getUint16(offset);
    const numBytes = view.getUint16(offset + 2);
    // Neither a scan nor the end may come before the frame; below 0xffc0 is nothing with a length.
    if (marker < 0xffc0 || (marker >= 0xffd0 && marker <= 0xffda) || marker === 0xffff || numBytes < 2) {
      return undefined;
    }
    const isFrame = marker <= 0xffcf && marker !== 0xffc4 && marker !== 0xffc8 && marker !== 0xffcc;
    if (isFrame) {
      const [precision, components] = [view.getUint8(offset + 4), view.getUint8(offset + 9)];
      if (precision !== 8 || components !== 3) return undefined;
      return { width: view.getUint16(offset + 7), height: view.getUint16(offset + 5) };
    }
    offset += 2 + numBytes;
  }
}

// RFC 9649: a lone VP8 or VP8L chunk, or a VP8X chunk that announces metadata around one of them.
function readWebpSize(view: DataView): PictureSize | undefined {
  if (tag(view, 0) !== 'RIFF' || tag(view, 8) !== 'WEBP') return undefined;
  let canvas: PictureSize | undefined;
  for (let offset = 12; ; ) {
    const [name, numBytes, data] = [tag(view, offset), view.getUint32(offset + 4, true), offset + 8];
    if (name === 'VP8 ' || name === 'VP8L') {
      const size = name === 'VP8 ' ? readVp8Size(view, data) : readVp8lSize(view, data);
      if (canvas === undefined || size === undefined) return size;
      return size.width === canvas.width && size.height === canvas.height ? size : undefined;
    }
    if (name === 'VP8X' && offset === 12) {
      const [alpha, animation] = [0x10, 0x02];
      if ((view.getUint8(data) & (alpha | animation)) !== 0) return undefined;
      canvas = { width: 1 + uint24(view, data + 4), height: 1 + uint24(view, data + 7) };
    } else if (name !== 'ICCP' || canvas === undefined) {
      return undefined;
    }
    offset = data + numBytes + (numBytes & 1);
  }
}

// RFC 6386, section 9.1: a key frame's start code and two sizes of 14 bits.
function readVp8Size(view: DataView, data: number): PictureSize | undefined {
  const isKeyFrame = (view.getUint8(data) & 1) === 0;
  if (!isKeyFrame || view.getUint16(data + 3) !== 0x9d01 || view.getUint8(data + 5) !== 0x2a)
    return undefined;
  return { width: view.getUint16(data + 6, true) & 0x3fff, height: view.getUint16(data + 8, true) & 0x3fff };
}

// RFC 9649, section 3.4: a signature, then two sizes less one, of 14 bits each.
function readVp8lSize(view: DataView, data: number): PictureSize | undefined {
  if (view.getUint8(data) !== 0x2f) return undefined;
  const bits = view.getUint32(data + 1, true);
  return { width: 1 + (bits & 0x3fff), height: 1 + ((bits >>> 14) & 0x3fff) };
}

function tag(view: DataView, offset: number): string {
  return String.fromCharCode(...[0, 1, 2, 3].map((i) => view.getUint8(offset + i)));
}

function uint24(view: DataView, offset: number): number {
  return view.getUint16(offset, true) | (view.getUint8(offset + 2) << 16);
}
