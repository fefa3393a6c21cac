import {
  AdaptiveDecoder,
  AdaptiveEncoder,
  countValues,
  decodeRans,
  encodeRans,
  type FrequencyTable,
  prepareDecoding,
  prepareEncoding,
  RansDecoder,
  RansEncoder,
  symbolContexts,
  tableFromCounts,
  trimCounts,
} from '@isthmus/core';
import { generalPurposeCoders } from './general-coders.js';

/** The codes of one cut, of several photographs. */
export interface CodedCut {
  channels: number;
  perChannel: number;
  width: number;
  /** The largest possible code; the least is 0. */
  top: number;
  photos: Int32Array[];
}

/** A way to code them; `photo` is the index, so that tables can come from the other photographs. */
export interface Coder {
  name: string;
  encode: (codes: Int32Array, photo: number) => Uint8Array;
  decode: (bytes: Uint8Array, photo: number) => Int32Array;
}

const precision = 12;
const numGroups = 32;

/**
 * All coders, with tables counted in the photographs they are not used for: nothing is tuned to what it codes, and
 * no bytes are missing from what is counted.
 *
 * @param cut Of two photographs at least.
 */
export function makeCoders(cut: CodedCut): Coder[] {
  return [oneTable(cut), groupedTables(cut), neighbourTables(cut), adaptive(cut), ...generalPurposeCoders()];
}

function tableOfCodes(codes: readonly Int32Array[], top: number): FrequencyTable {
  const counted = { counts: new Float64Array(top + 1), minValue: 0, outside: 0 };
  for (const part of codes) {
    countValues(part, 0, top).counts.forEach((count, code) => {
      counted.counts[code]! += count;
    });
  }
  const { counts, minValue, outside } = trimCounts(counted, precision);
  return tableFromCounts(counts, { precision, minValue, escapeCount: outside });
}

/** For each photograph, what `make` makes of all others. */
function fromOthers<T>(photos: readonly Int32Array[], make: (others: Int32Array[]) => T): T[] {
  return photos.map((_, own) => make(photos.filter((_, index) => index !== own)));
}

function oneTable({ photos, top }: CodedCut): Coder {
  const tables = fromOthers(photos, (others) => [tableOfCodes(others, top)]);
  const encoding = tables.map(prepareEncoding);
  const decoding = tables.map(prepareDecoding);
  return {
    name: 'rANS, one table',
    encode: (codes, photo) => encodeRans(encoding[photo]!, codes, 0),
    decode: (bytes, photo) => {
      const codes = new Int32Array(photos[photo]!.length);
      decodeRans(decoding[photo]!, bytes, codes, 0);
      return codes;
    },
  };
}

/** Channels with a like mean share a table. */
function groupedTables({ photos, channels, perChannel, top }: CodedCut): Coder {
  const made = fromOthers(photos, (others) => {
    const channelOf = (photo: Int32Array, channel: number) =>
      photo.subarray(channel * perChannel, (channel + 1) * perChannel);
    const means = Array.from({ length: channels }, (_, channel) =>
      others.reduce((sum, photo) => sum + channelOf(photo, channel).reduce((a, b) => a + b), 0),
    );
    const order = means.map((_, channel) => channel).sort((a, b) => means[a]! - means[b]!);
    const groups = Math.min(numGroups, channels);
    const groupOf = new Uint8Array(channels);
    order.forEach((channel, rank) => {
      groupOf[channel] = Math.floor((rank * groups) / channels);
    });
    const tables = Array.from({ length: groups }, (_, group) =>
      tableOfCodes(
        others.flatMap((photo) =>
          order.filter((channel) => groupOf[channel] === group).map((channel) => channelOf(photo, channel)),
        ),
        top,
      ),
    );
    return { groupOf, encoding: prepareEncoding(tables), decoding: prepareDecoding(tables) };
  });
  return {
    name: `rANS, ${Math.min(numGroups, channels)} tables by channel`,
    encode: (codes, photo) => {
      const { groupOf, encoding } = made[photo]!;
      const encoder = new RansEncoder(encoding, codes.length);
      for (let channel = channels - 1; channel >= 0; channel--) {
        encoder.writeRun(codes, channel * perChannel, (channel + 1) * perChannel, groupOf[channel]!);
      }
      return encoder.finish();
    },
    decode: (bytes, photo) => {
      const { groupOf, decoding } = made[photo]!;
      const codes = new Int32Array(channels * perChannel);
      const decoder = new RansDecoder(decoding, bytes);
      for (let channel = 0; channel < channels; channel++) {
        decoder.readRun(codes, channel * perChannel, (channel + 1) * perChannel, groupOf[channel]!);
      }
      decoder.finish();
      return codes;
    },
  };
}

const numContexts = 14;

/** By the sum of the codes to the left and above: 0, 1, 2, 3, 4–5, 6–7, 8–11, … */
function contextOf(codes: Int32Array, at: number, start: number, column: number, width: number): number {
  const left = column > 0 ? codes[at - 1]! : 0;
  const sum = left + (at - width >= start ? codes[at - width]! : 0);
  if (sum < 4) return sum;
  const length = 31 - Math.clz32(sum);
  return Math.min(numContexts - 1, 2 * length + ((sum >>> (length - 1)) & 1));
}

function contextsOf({ channels, perChannel, width }: CodedCut, codes: Int32Array): Uint8Array {
  const contexts = new Uint8Array(codes.length);
  for (let start = 0; start < channels * perChannel; start += perChannel) {
    for (let i = 0, column = 0; i < perChannel; i++) {
      contexts[start + i] = contextOf(codes, start + i, start, column, width);
      if (++column === width) column = 0;
    }
  }
  return contexts;
}

/** A table for each context; the decoder goes value by value. */
function neighbourTables(cut: CodedCut): Coder {
  const { photos, channels, perChannel, width, top } = cut;
  const made = fromOthers(photos, (others) => {
    const contexts = others.map((photo) => contextsOf(cut, photo));
    const tables = Array.from({ length: numContexts }, (_, context) =>
      tableOfCodes(
        others.map((photo, index) => photo.filter((_, i) => contexts[index]![i] === context)),
        top,
      ),
    );
    return { encoding: prepareEncoding(tables), decoding: prepareDecoding(tables) };
  });
  return {
    name: `rANS, ${numContexts} tables by neighbours`,
    encode: (codes, photo) => encodeRans(made[photo]!.encoding, codes, contextsOf(cut, codes)),
    decode: (bytes, photo) => {
      const codes = new Int32Array(channels * perChannel);
      const decoder = new RansDecoder(made[photo]!.decoding, bytes);
      for (let start = 0; start < codes.length; start += perChannel) {
        for (let i = start, column = 0; i < start + perChannel; i++) {
          codes[i] = decoder.readOne(contextOf(codes, i, start, column, width));
          if (++column === width) column = 0;
        }
      }
      decoder.finish();
      return codes;
    },
  };
}

/** Each code as a path of bits down a tree, of which every context has one. */
function adaptive({ channels, perChannel, width, top }: CodedCut): Coder {
  const numBits = 32 - Math.clz32(top);
  const room = symbolContexts(numBits);
  return {
    name: `adaptive, ${numContexts} contexts`,
    encode: (codes) => {
      const encoder = new AdaptiveEncoder(numContexts * room);
      for (let start = 0; start < codes.length; start += perChannel) {
        for (let i = start, column = 0; i < start + perChannel; i++) {
          encoder.writeSymbol(contextOf(codes, i, start, column, width) * room, codes[i]!, numBits);
          if (++column === width) column = 0;
        }
      }
      return encoder.finish();
    },
    decode: (bytes) => {
      const codes = new Int32Array(channels * perChannel);
      const decoder = new AdaptiveDecoder(bytes, numContexts * room);
      for (let start = 0; start < codes.length; start += perChannel) {
        for (let i = start, column = 0; i < start + perChannel; i++) {
          codes[i] = decoder.readSymbol(contextOf(codes, i, start, column, width) * room, numBits);
          if (++column === width) column = 0;
        }
      }
      decoder.finish();
      return codes;
    },
  };
}
