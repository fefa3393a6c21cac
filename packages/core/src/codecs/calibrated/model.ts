import * as v from 'valibot';
import { type FrequencyTable, findTableFault, tableLimits } from '../../entropy/tables.js';
import { IsthmusError } from '../../errors.js';
import { integer, integerFrom, listOf, parseAs } from '../../schema.js';

/** The transformed form of one float32 tensor of a cut: components × height × width integers once quantized. */
export interface CalibratedTensor {
  /** Name of the cut's tensor. */
  name: string;
  height: number;
  width: number;
  /** How large each component is expected to be: 8·log2 of its mean magnitude, plus {@link scaleOffset}. 0…255. */
  scales: readonly number[];
  /** How far a component follows its left and its upper neighbour, in 64ths. −64…64. */
  left: readonly number[];
  up: readonly number[];
}

/** One rate. */
export interface CalibratedLevel {
  /** 8·log2 of the quantizer's step, plus {@link scaleOffset}. */
  scale: number;
  /** How many components of each tensor are kept. */
  components: readonly number[];
  /** For the encoder: the price of a bit in 1024ths of the squared step. 0: it rounds with a dead zone instead. */
  lambda: number;
}

/** What the integer coder of `calibrated` knows beforehand; both ends must hold the very same. */
export interface CalibratedTables {
  version: 1;
  tensors: readonly CalibratedTensor[];
  levels: readonly CalibratedLevel[];
  /** Expected magnitude of an integer in 4096ths, by component's scale − level's scale + 128. 256 numbers. */
  priors: readonly number[];
  /** Per group of {@link groupOf}: {@link numFeatures} weights in 4096ths. */
  weights: readonly number[];
  /** The table of each context, and those of the flags of planes. */
  contexts: readonly number[];
  flags: readonly number[];
  tables: readonly FrequencyTable[];
  /**
   * Where a value is reconstructed, in 1024ths of a step from its integer: the mean of what was quantized to it, by
   * the bin of its context and by its magnitude 1, 2 or more. Not needed to decode the integers.
   */
  centroids: readonly number[];
}

/** Scales are stored as bytes; a scale of this many stands for 1. */
export const scaleOffset = 128;
/** Fixed point of expected magnitudes: 1 is 4096. */
export const one = 4096;
export const numFeatures = 8;
export const numGroups = 10;
/** Expected magnitudes fall into four bins an octave, from 1/256 to 2^11. */
export const numBins = 77;
/** How strong the prediction of a value's sign is: none, weak, strong, or so strong that it shifts the value. */
export const numPredictions = 4;
export const numContexts: number = numBins * numPredictions;
export const numFlagBins = 16;
/** Magnitudes above this are not told apart in contexts. */
export const maxMagnitude = 1023;
/** Values beyond are not told apart when signs are predicted from them. */
export const maxSigned = 8191;
/** The largest quantized magnitude; a frame beyond travels uncompressed. */
export const maxQuantized: number = 2 ** 20;

/** The bin of an expected magnitude in 4096ths. */
export function binOf(expected: number): number {
  if (expected < 16) return 0;
  const exponent = 31 - Math.clz32(expected);
  if (exponent > 22) return numBins - 1;
  return (exponent - 4) * 4 + ((expected >>> (exponent - 2)) & 3) + 1;
}

/** From this bin on, {@link plainBitsOf} is more than zero. */
export const firstPlainBin = 41;

/** How many low bits of a value in this bin are sent as they are, since nothing is known of them. */
export function plainBitsOf(bin: number): number {
  return bin === 0 ? 0 : Math.max(0, ((bin - 1) >> 2) + 4 - 13);
}

/** Components expected to be alike large share the weights of their contexts. */
export function groupOf(prior: number): number {
  return prior < 16 ? 0 : Math.min(numGroups - 1, 31 - Math.clz32(prior) - 3);
}

export function flagBinOf(prior: number, numPositions: number): number {
  const expected = Math.min(2 ** 30, Math.floor((prior * numPositions) / 256));
  return expected < 1 ? 0 : Math.min(numFlagBins - 1, 32 - Math.clz32(expected));
}

/** The prior of a component at a level, in 4096ths. */
export function priorOf(tables: CalibratedTables, scale: number, levelScale: number): number {
  return tables.priors[Math.max(0, Math.min(255, scale - levelScale + 128))]!;
}

const byte = integerFrom(0, 255);
const fraction = integerFrom(-64, 64);
const size = integerFrom(1, 65_536);
const schema = v.object({
  version: v.literal(1),
  tensors: listOf(
    v.object({
      name: v.string(),
      height: size,
      width: size,
      scales: listOf(byte, 0, 65_536),
      left: listOf(fraction, 0, 65_536),
      up: listOf(fraction, 0, 65_536),
    }),
    1,
    32,
  ),
  levels: listOf(
    v.object({
      scale: integerFrom(-4096, 4096),
      components: v.array(integerFrom(0)),
      lambda: integerFrom(0, 65_536),
    }),
    1,
    64,
  ),
  priors: listOf(integerFrom(0, 2 ** 22), 256, 256),
  weights: listOf(integerFrom(-32_768, 32_767), numGroups * numFeatures, numGroups * numFeatures),
  contexts: listOf(integerFrom(0), numContexts, numContexts),
  flags: listOf(integerFrom(0), numFlagBins, numFlagBins),
  tables: listOf(
    v.object({
      precision: integer,
      minValue: integer,
      hasEscape: v.boolean(),
      frequencies: listOf(integerFrom(1, 65_535), 0, 65_536),
    }),
    1,
    256,
  ),
  centroids: listOf(integerFrom(-1024, 1024), numBins * 3, numBins * 3),
});

/** A level's step: what one unit of its integers stands for. */
export function stepOf(levelScale: number): number {
  return 2 ** ((levelScale - scaleOffset) / 8);
}

// None below a tenth, weak below a quarter, strong below a half; beyond, the prediction shifts the value.
export function classOf(strength: number): number {
  if (strength >= one / 2) return 3;
  return strength < 410 ? 0 : strength < 1024 ? 1 : 2;
}

/** By how much a prediction of this strength shifts the value. */
export function shiftOf(strength: number): number {
  return (strength + one / 2) >> 12;
}

/** The text of the tables' file; its SHA-256 is the codec's `tablesSha256`. */
export function formatCalibratedTables(tables: CalibratedTables): string {
  const plain = {
    ...tables,
    tables: tables.tables.map((table) => ({ ...table, frequencies: Array.from(table.frequencies) })),
  };
  return `${JSON.stringify(plain)}\n`;
}

/**
 * Checked tables from their file's text.
 *
 * @throws IsthmusError `bundle/invalid` with what is wrong.
 */
export function parseCalibratedTables(text: string): CalibratedTables {
  const refuse = (what: string, cause?: unknown) =>
    new IsthmusError('bundle/invalid', `The tables of a codec do not fit: ${what}. Fit them again.`, {
      cause,
    });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw refuse('they are not JSON', cause);
  }
  const parsed = parseAs(schema, json);
  if (!parsed.ok) throw refuse(parsed.problem, parsed.cause);
  const tables: CalibratedTables = {
    ...parsed.value,
    tables: parsed.value.tables.map((table) => ({
      ...table,
      frequencies: Uint16Array.from(table.frequencies),
    })),
  };
  const fault = findFault(tables);
  if (fault !== undefined) throw refuse(fault);
  return tables;
}

function findFault({ tensors, levels, contexts, flags, tables }: CalibratedTables): string | undefined {
  for (const { name, scales, left, up, height, width } of tensors) {
    if (left.length !== scales.length || up.length !== scales.length) return `${name} lacks numbers`;
    if (scales.length * height * width > 2 ** 26) return `${name} is too large`;
  }
  for (const { components } of levels) {
    if (components.length !== tensors.length) return 'a level lacks a tensor';
    if (components.some((count, index) => count > tensors[index]!.scales.length)) {
      return 'a level has more components than there are';
    }
  }
  if ([...contexts, ...flags].some((table) => table >= tables.length)) return 'a context has no table';
  for (const table of tables) {
    const fault = findTableFault(table);
    if (fault !== undefined) return `of a table, ${fault}`;
    if (table.precision !== tables[0]!.precision) return 'the precisions of tables differ';
  }
  if (tables.length * 2 ** tables[0]!.precision > tableLimits.maxSlots) return 'the tables are too large';
  return undefined;
}
