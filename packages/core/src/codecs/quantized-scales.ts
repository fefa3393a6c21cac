import { IsthmusError } from '../errors.js';
import { elementCount, type Tensor } from '../tensor.js';

// Leaves room for rounding a scale outwards without reaching infinity.
const largestMagnitude = 1e38;

// A scale of four bytes pays when enough elements share it.
const minElementsPerScale = 16;

/**
 * How many scales a tensor has. Feature maps and token matrices have their channels on axis 1. Where a channel is
 * only a few elements (a vector, a pooled map) the whole tensor is one.
 */
export function channelsOf(shape: readonly number[]): number {
  if (shape.length < 3) return 1;
  const channels = shape[0]! * shape[1]!;
  return elementCount(shape) >= minElementsPerScale * channels ? Math.max(1, channels) : 1;
}

/** The most bytes the scales of so many channels take. */
export function scaleBytes(channels: number): number {
  return 1 + 4 * channels;
}

/**
 * Codes 0 … 2^bits − 1 of every element; and per channel its least value and its step.
 *
 * @throws IsthmusError `tensor/not-finite`
 */
export function quantize(
  { data, shape }: Tensor<'float32'>,
  name: string,
  bits: number,
): { scales: Float32Array; codes: Uint8Array } {
  const channels = channelsOf(shape);
  const perChannel = data.length / channels;
  const top = 2 ** bits - 1;
  const codes = new Uint8Array(data.length);
  const scales = new Float32Array(2 * channels);
  for (let channel = 0; channel < channels; channel++) {
    const from = channel * perChannel;
    const to = from + perChannel;
    const { least, most } = rangeOf(data, from, to, name);
    const low = toBfloat16(least, 'below');
    const step = toBfloat16((most - low) / top, 'above');
    scales[2 * channel] = low;
    scales[2 * channel + 1] = step;
    const inverse = step > 0 ? 1 / step : 0;
    // Adding a half and truncating rounds, and is several times as fast as Math.round.
    for (let i = from; i < to; i++) codes[i] = Math.min(top, ((data[i]! - low) * inverse + 0.5) | 0);
  }
  return { scales, codes };
}

/** The values that codes stand for. */
export function dequantize(codes: Uint8Array, scales: Float32Array): Float32Array {
  const values = new Float32Array(codes.length);
  const perChannel = codes.length / (scales.length / 2);
  for (let channel = 0; 2 * channel < scales.length; channel++) {
    const low = scales[2 * channel]!;
    const step = scales[2 * channel + 1]!;
    const to = (channel + 1) * perChannel;
    for (let i = channel * perChannel; i < to; i++) values[i] = low + codes[i]! * step;
  }
  return values;
}

/** One byte that says whether any least value is not zero, those values if so, the steps; all bfloat16. */
export function writeScales(scales: Float32Array): Uint8Array {
  const channels = scales.length / 2;
  const hasLeast = scales.some((value, i) => i % 2 === 0 && value !== 0);
  const bytes = new Uint8Array(1 + (hasLeast ? 4 : 2) * channels);
  bytes[0] = hasLeast ? 1 : 0;
  let offset = 1;
  for (let which = hasLeast ? 0 : 1; which < 2; which++) {
    for (let i = which; i < scales.length; i += 2, offset += 2) {
      float[0] = scales[i]!;
      bytes[offset] = (pattern[0]! >>> 16) & 255;
      bytes[offset + 1] = pattern[0]! >>> 24;
    }
  }
  return bytes;
}

/** What {@link writeScales} wrote at the start of `bytes`; `fail` makes the error for what it cannot have. */
export function readScales(
  bytes: Uint8Array,
  channels: number,
  fail: (what: string) => IsthmusError,
): { scales: Float32Array; numBytes: number } {
  const flag = bytes[0];
  const numBytes = 1 + (flag === 1 ? 4 : 2) * channels;
  if (flag === undefined || flag > 1 || bytes.byteLength < numBytes) throw fail('its scales end early');
  const scales = new Float32Array(2 * channels);
  let offset = 1;
  for (let which = 1 - flag; which < 2; which++) {
    for (let i = which; i < scales.length; i += 2, offset += 2) {
      pattern[0] = (bytes[offset]! | (bytes[offset + 1]! << 8)) << 16;
      const value = float[0]!;
      if (!Number.isFinite(value) || (which === 1 && value < 0)) throw fail('a scale is not one');
      scales[i] = value;
    }
  }
  return { scales, numBytes };
}

function rangeOf(
  data: Float32Array,
  from: number,
  to: number,
  name: string,
): { least: number; most: number } {
  if (from === to) return { least: 0, most: 0 };
  let least = Infinity;
  let most = -Infinity;
  let sum = 0;
  for (let i = from; i < to; i++) {
    const value = data[i]!;
    // NaN and infinity stay in a sum, though not in a minimum.
    sum += value;
    if (value < least) least = value;
    if (value > most) most = value;
  }
  if (!Number.isFinite(sum) || least < -largestMagnitude || most > largestMagnitude) {
    throw new IsthmusError(
      'tensor/not-finite',
      `${name} holds NaN, infinity or values beyond ${largestMagnitude}; check the frame and the model.`,
    );
  }
  return { least, most };
}

// A bfloat16 is the upper half of a float32: its range is the same, so that no scale overflows.
const float = new Float32Array(1);
const pattern = new Uint32Array(float.buffer);

/** The bfloat16 next to `value`, on the side asked for. */
function toBfloat16(value: number, side: 'below' | 'above'): number {
  float[0] = value;
  const exact = pattern[0]!;
  let upper = exact >>> 16;
  // Truncation moves towards zero; step one further where that is the wrong side.
  const towardZero = value >= 0 ? 'below' : 'above';
  if ((exact & 0xffff) !== 0 && side !== towardZero) upper += 1;
  pattern[0] = upper << 16;
  return float[0]!;
}
