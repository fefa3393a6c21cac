import type { IsthmusError } from '../errors.js';

/**
 * Values outside a range, as bits. A value below `min` or above `max` is a side (1 below, 0 above) and how far
 * outside it lies, `distance` ≥ 1, which is 2^length + rest: `length` takes five bits, `rest` takes `length` bits
 * (an Elias gamma code with its unary part replaced by five plain bits, so that reading it is bounded by
 * construction). All of int32 can be coded, whatever the range.
 *
 * The bits are grouped in pieces of at most fifteen, since that is what one step of the static coder can take:
 * first `length · 2 + side` in six bits, then `rest`, most significant piece first, where all pieces but the last
 * have fifteen bits.
 */
const escapeHeaderBits = 6;
const escapePieceBits = 15;

/** The most pieces of one escape: the header and three for 31 bits of rest. */
export const maxEscapePieces = 4;

/** How far outside `min` … `max` a value lies: 1 to 2^32 − 1. */
function escapeDistance(value: number, min: number, max: number): number {
  return value < min ? min - value : value - max;
}

/** `length · 2 + side` */
function escapeHeader(value: number, min: number, distance: number): number {
  return ((31 - Math.clz32(distance)) << 1) | (value < min ? 1 : 0);
}

/** The value a header and its rest mean, or undefined where that is beyond int32. */
function escapedValue(header: number, rest: number, min: number, max: number): number | undefined {
  const distance = 2 ** (header >>> 1) + rest;
  const value = (header & 1) === 1 ? min - distance : max + distance;
  return (value | 0) === value ? value : undefined;
}

/** What carries the bits: the static coder or the adaptive one. */
export interface BitReader {
  /** `count` bits, 0 to 15, as a number. */
  readBits(count: number): number;
}

/** Reads an escaped value; `fail` makes the error for one beyond int32. */
export function readEscape(
  reader: BitReader,
  min: number,
  max: number,
  fail: (what: string) => IsthmusError,
): number {
  const header = reader.readBits(escapeHeaderBits);
  let missing = header >>> 1;
  let rest = 0;
  while (missing > 0) {
    const count = Math.min(missing, escapePieceBits);
    rest = rest * (1 << count) + reader.readBits(count);
    missing -= count;
  }
  const value = escapedValue(header, rest, min, max);
  if (value === undefined) throw fail('an escaped value is beyond 32 bits');
  return value;
}

/** The pieces of a value's escape in the order they are read: first their bits, then their number of bits. */
export function escapePieces(value: number, min: number, max: number): [bits: number, count: number][] {
  const distance = escapeDistance(value, min, max);
  const header = escapeHeader(value, min, distance);
  const pieces: [number, number][] = [[header, escapeHeaderBits]];
  let missing = header >>> 1;
  while (missing > 0) {
    const count = Math.min(missing, escapePieceBits);
    missing -= count;
    pieces.push([Math.floor(distance / 2 ** missing) % 2 ** count, count]);
  }
  return pieces;
}
