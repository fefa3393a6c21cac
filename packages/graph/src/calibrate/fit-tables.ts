import {
  type CalibratedTables,
  type CalibratedTensor,
  type FrequencyTable,
  calibratedModel as model,
  PlaneContexts,
  PlaneEncoder,
  tableFromCounts,
} from '@isthmus/core';
import { solve } from './linear-algebra.js';
import { spread } from './spread.js';

const precision = 13;
const listed = 24;
const numSymbols = 2 * listed + 2;
const maxTables = 64;
/** At each level so many values say what is to be expected of a magnitude. */
const enoughValues = 250_000;

export interface TablesInput {
  tensors: readonly CalibratedTensor[];
  /** 8·log2 of each level's step, plus the offset. */
  levelScales: readonly number[];
  components: readonly (readonly number[])[];
  /** Per frame, per tensor: the transformed values. */
  frames: readonly (readonly Float32Array[])[];
  /** Per level: the price of a bit in squares of the step. */
  lambdas: readonly number[];
}

/** Tables that know nothing: good for finding which steps are of use, since rounding does not depend on them. */
export function initialTables({ tensors, levelScales, components }: TablesInput): CalibratedTables {
  const table = tableFromCounts(new Float64Array(2 * listed + 1).fill(1), {
    precision,
    minValue: -listed,
    escapeCount: 1,
  });
  return {
    version: 1,
    tensors,
    levels: levelScales.map((scale, index) => ({ scale, components: components[index]!, lambda: 0 })),
    priors: initialPriors(),
    weights: Array.from({ length: model.numGroups }, () => initialWeights).flat(),
    contexts: new Array<number>(model.numContexts).fill(0),
    flags: new Array<number>(model.numFlagBins).fill(0),
    tables: [table],
    centroids: new Array<number>(model.numBins * 3).fill(0),
  };
}

/**
 * Fits everything the integer coder knows, on the integers the encoder itself makes: first without a price for bits, then
 * with the price that those tables give them, and once more with the tables of that. Some of the frames say enough but
 * for the tables that stay.
 */
export function fitTables(input: TablesInput): CalibratedTables {
  const numValues = input.frames[0]?.reduce((sum, { length }) => sum + length, 0) ?? 0;
  const few = { ...input, frames: spread(input.frames, Math.max(2, Math.ceil(enoughValues / numValues))) };
  let tables = initialTables(input);
  tables = { ...tables, ...fitExpectations({ input: few, tables }) };
  tables = tablesFrom(tables, countSymbols({ input: few, tables }));
  const levels = tables.levels.map((level, index) => ({
    ...level,
    lambda: Math.round(1024 * input.lambdas[index]!),
  }));
  tables = { ...tables, levels };
  tables = { ...tables, ...fitExpectations({ input: few, tables }) };
  tables = tablesFrom(tables, countSymbols({ input, tables }));
  return tablesFrom(tables, countSymbols({ input, tables }));
}

interface PassOptions {
  input: TablesInput;
  tables: CalibratedTables;
}

const initialWeights = [0.3, 0.15, 0.15, 0.05, 0.02, 0.15, 0.15, 0.1].map((x) => Math.round(x * model.one));

// A Laplacian variable of mean magnitude x, rounded with a dead zone.
function initialPriors(): number[] {
  return Array.from({ length: 256 }, (_, index) => {
    const x = 2 ** ((index - 128) / 8);
    const decay = Math.exp(-1 / x);
    const expected = decay < 1 ? Math.exp(-0.65 / x) / (1 - decay) : x;
    return Math.round(Math.min(2 ** 22, expected * model.one));
  });
}

interface Planes {
  level: number;
  tensor: number;
  component: number;
  contexts: PlaneContexts;
  /** Values row by row, or undefined if all are zero. */
  values: Int32Array | undefined;
  exact: Float32Array;
}

/** Plays the encoder, and shows every plane with its contexts before it is finished. */
function* eachPlane(options: PassOptions): Generator<Planes> {
  const { input, tables } = options;
  const encoder = new PlaneEncoder(tables);
  const contextsOf = tables.tensors.map((tensor) => new PlaneContexts(tables, tensor));
  const numTables = tables.tables.length;
  for (const frame of input.frames) {
    for (const [level, { scale, components }] of tables.levels.entries()) {
      const sequence = encoder.collect(frame, level);
      if (sequence === undefined) continue;
      let at = 0;
      for (const [tensor, { height, width }] of tables.tensors.entries()) {
        const contexts = contextsOf[tensor]!;
        const numPositions = height * width;
        contexts.begin(scale);
        for (let component = 0; component < components[tensor]!; component++) {
          const isCoded = sequence.values[at++] !== 0;
          const exact = frame[tensor]!.subarray(component * numPositions, (component + 1) * numPositions);
          let values: Int32Array | undefined;
          if (isCoded) {
            contexts.start(component);
            values = new Int32Array(numPositions);
            for (let i = 0; i < numPositions; i++) {
              let value = sequence.values[at++]!;
              if (sequence.tableOf[at]! >= numTables && at < sequence.length) {
                const plain = sequence.tableOf[at]! - numTables + 1;
                value = (value << plain) | sequence.values[at++]!;
              }
              values[i] = value;
            }
          }
          yield { level, tensor, component, contexts, values, exact };
          contexts.finish(component, isCoded);
        }
      }
    }
  }
}

/** Priors by scale, and the weights of what the magnitude is expected from, by least squares. */
function fitExpectations(options: PassOptions): Pick<CalibratedTables, 'priors' | 'weights'> {
  const { tables } = options;
  const sums = new Float64Array(256);
  const counts = new Float64Array(256);
  const n = model.numFeatures;
  const groups = Array.from({ length: model.numGroups }, () => ({
    a: new Float64Array(n * n),
    b: new Float64Array(n),
    count: 0,
  }));
  const features = new Float64Array(n);
  for (const { level, tensor, component, contexts, values, exact } of eachPlane(options)) {
    const scale = tables.tensors[tensor]!.scales[component]!;
    const prior = Math.max(0, Math.min(255, scale - tables.levels[level]!.scale + 128));
    counts[prior]! += exact.length;
    if (values === undefined) continue;
    const group = groups[model.groupOf(contexts.prior(component))]!;
    const { a, b } = group;
    group.count += values.length;
    forEachValue(contexts, values, (i, residual) => {
      const magnitude = Math.min(model.maxMagnitude, Math.abs(residual));
      sums[prior]! += magnitude;
      contexts.features(i, features);
      // Errors of large expectations are large: they weigh less.
      let rough = 0.01;
      for (let k = 0; k < n; k++) rough += features[k]! * 0.125;
      const weight = 1 / rough;
      // The matrix is symmetric: its upper half says all.
      for (let j = 0; j < n; j++) {
        const weighted = features[j]! * weight;
        if (weighted === 0) continue;
        b[j]! += weighted * magnitude;
        for (let k = j, at = j * n + j; k < n; k++, at++) a[at]! += weighted * features[k]!;
      }
    });
  }
  return { priors: smoothPriors(tables.priors, sums, counts), weights: groups.flatMap(weightsOf) };
}

function weightsOf({ a, b, count }: { a: Float64Array; b: Float64Array; count: number }): number[] {
  if (count < 2000) return initialWeights;
  const n = model.numFeatures;
  const ridge = Float64Array.from(a, (_, at) => {
    const [row, column] = [Math.floor(at / n), at % n];
    return a[Math.min(row, column) * n + Math.max(row, column)]!;
  });
  for (let i = 0; i < n; i++) ridge[i * n + i] = a[i * n + i]! * 1.001 + 1e-9;
  const w = solve(ridge, b);
  return Array.from(w, (x) => Math.max(-32_768, Math.min(32_767, Math.round(x * model.one))));
}

// Isotonic: a larger scale never means a smaller prior. Where nothing was seen, what was assumed.
function smoothPriors(assumed: readonly number[], sums: Float64Array, counts: Float64Array): number[] {
  const blocks: { sum: number; count: number; size: number }[] = [];
  for (let i = 0; i < 256; i++) {
    const extra = 50;
    blocks.push({
      sum: sums[i]! + (extra * assumed[i]!) / model.one,
      count: counts[i]! + extra,
      size: 1,
    });
    while (blocks.length > 1) {
      const [before, last] = [blocks.at(-2)!, blocks.at(-1)!];
      if (before.sum * last.count <= last.sum * before.count) break;
      blocks.splice(-2, 2, {
        sum: before.sum + last.sum,
        count: before.count + last.count,
        size: before.size + last.size,
      });
    }
  }
  return blocks.flatMap(({ sum, count, size }) =>
    new Array<number>(size).fill(Math.min(2 ** 22, Math.round((sum / count) * model.one))),
  );
}

function forEachValue(
  contexts: PlaneContexts,
  values: Int32Array,
  visit: (i: number, residual: number, predicted: number, at: number) => void,
): void {
  let at = 0;
  for (let y = 0; y < contexts.height; y++) {
    let i = contexts.first + y * contexts.stride;
    for (const end = i + contexts.width; i < end; i++, at++) {
      const residual = values[at]!;
      const predicted = contexts.prediction(i);
      visit(i, residual, predicted, at);
      const turned = residual + model.shiftOf(Math.abs(predicted));
      contexts.put(i, predicted < 0 ? -turned : turned, residual);
    }
  }
}

interface Counts {
  /** Per context: of −listed … listed, and of all others. */
  symbols: Float64Array;
  flags: Float64Array;
  /** Per bin and magnitude 1, 2, more: sum of distances from the integer, and how many. */
  distances: Float64Array;
}

function countSymbols(options: PassOptions): Counts {
  const { tables } = options;
  const symbols = new Float64Array(model.numContexts * numSymbols);
  const flags = new Float64Array(model.numFlagBins * 2);
  const distances = new Float64Array(model.numBins * 3 * 2);
  for (const { level, component, contexts, values, exact } of eachPlane(options)) {
    const flagBin = model.flagBinOf(contexts.prior(component), exact.length);
    flags[flagBin * 2 + (values === undefined ? 0 : 1)]! += 1;
    if (values === undefined) continue;
    const inverseStep = 1 / model.stepOf(tables.levels[level]!.scale);
    forEachValue(contexts, values, (i, residual, predicted, at) => {
      const bin = contexts.bin(i);
      const strength = Math.abs(predicted);
      const symbol = residual >> model.plainBitsOf(bin);
      const index = Math.abs(symbol) <= listed ? symbol + listed : numSymbols - 1;
      symbols[(bin * model.numPredictions + model.classOf(strength)) * numSymbols + index]! += 1;
      const turned = residual + model.shiftOf(strength);
      if (turned === 0) return;
      const value = predicted < 0 ? -turned : turned;
      const distance = (exact[at]! * inverseStep - value) * Math.sign(value);
      const slot = (bin * 3 + Math.min(3, Math.abs(value)) - 1) * 2;
      distances[slot]! += distance;
      distances[slot + 1]! += 1;
    });
  }
  return { symbols, flags, distances };
}

function tablesFrom(tables: CalibratedTables, { symbols, flags, distances }: Counts): CalibratedTables {
  const { contexts, clusters } = cluster(symbols);
  const fitted: FrequencyTable[] = clusters.map(tableOf);
  const flagTables = Array.from({ length: model.numFlagBins }, (_, bin) =>
    tableFromCounts([flags[2 * bin]! + 0.5, flags[2 * bin + 1]! + 0.5], { precision, minValue: 0 }),
  );
  const centroids = Array.from({ length: model.numBins * 3 }, (_, slot) => {
    // A few imagined values at −0.03 keep rare contexts near the integer.
    const mean = (distances[2 * slot]! - 0.03 * 20) / (distances[2 * slot + 1]! + 20);
    return Math.round(1024 * Math.max(-0.5, Math.min(0.5, mean)));
  });
  return {
    ...tables,
    contexts,
    flags: flagTables.map((_, bin) => fitted.length + bin),
    tables: [...fitted, ...flagTables],
    centroids,
  };
}

// Values that are rarer than one in 4,096 escape, so that frequent ones keep their share of the table.
function tableOf(counts: Float64Array): FrequencyTable {
  const total = counts.reduce((sum, count) => sum + count, 0);
  let low = 0;
  let high = 2 * listed;
  let outside = counts[numSymbols - 1]!;
  const mayDrop = total / 4096;
  for (;;) {
    const below = counts[low]!;
    const above = counts[high]!;
    if (low < listed && below <= above && outside + below <= mayDrop) {
      outside += below;
      low++;
    } else if (high > listed && outside + above <= mayDrop) {
      outside += above;
      high--;
    } else if (low < listed && outside + below <= mayDrop) {
      outside += below;
      low++;
    } else break;
  }
  const values = counts.slice(low, high + 1).map((count) => count + 0.02);
  return tableFromCounts(values, { precision, minValue: low - listed, escapeCount: outside + 0.02 });
}

function entropyBits(counts: Float64Array): number {
  let total = 0;
  let sum = 0;
  for (const count of counts) {
    if (count === 0) continue;
    total += count;
    sum += count * Math.log2(count);
  }
  return total === 0 ? 0 : total * Math.log2(total) - sum;
}

/** Merges neighbouring bins of a class where that costs least, until the tables are few and each pays. */
function cluster(symbols: Float64Array): { contexts: number[]; clusters: Float64Array[] } {
  interface Run {
    bins: number[];
    counts: Float64Array;
    bits: number;
  }
  const chains = Array.from({ length: model.numPredictions }, (_, prediction) =>
    Array.from({ length: model.numBins }, (_, bin): Run => {
      const at = (bin * model.numPredictions + prediction) * numSymbols;
      const counts = symbols.slice(at, at + numSymbols);
      return { bins: [bin], counts, bits: entropyBits(counts) };
    }),
  );
  const merged = (a: Run, b: Run): Run => {
    const counts = a.counts.map((count, i) => count + b.counts[i]!);
    return { bins: [...a.bins, ...b.bins], counts, bits: entropyBits(counts) };
  };
  // What a table takes in the file, in bits.
  const tableBits = 200;
  for (;;) {
    let best: { chain: Run[]; at: number; run: Run; loss: number } | undefined;
    for (const chain of chains) {
      for (let at = 0; at + 1 < chain.length; at++) {
        const run = merged(chain[at]!, chain[at + 1]!);
        const loss = run.bits - chain[at]!.bits - chain[at + 1]!.bits;
        if (best === undefined || loss < best.loss) best = { chain, at, run, loss };
      }
    }
    const numTables = chains.reduce((sum, chain) => sum + chain.length, 0);
    if (best === undefined || (numTables <= maxTables && best.loss > tableBits)) break;
    best.chain.splice(best.at, 2, best.run);
  }
  const contexts = new Array<number>(model.numContexts).fill(0);
  const clusters: Float64Array[] = [];
  chains.forEach((chain, prediction) => {
    for (const { bins, counts } of chain) {
      for (const bin of bins) contexts[bin * model.numPredictions + prediction] = clusters.length;
      clusters.push(counts);
    }
  });
  return { contexts, clusters };
}
