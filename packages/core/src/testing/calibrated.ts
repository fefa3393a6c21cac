import {
  type CalibratedTables,
  type CalibratedTensor,
  numBins,
  numContexts,
  numFlagBins,
  numGroups,
} from '../codecs/calibrated/model.js';
import { tableFromCounts } from '../entropy/tables.js';

/** Tables made by rule instead of by fitting, the same every time: a table for every four bins, wider and wider. */
export function makeCalibratedTables(
  tensors: readonly Omit<CalibratedTensor, 'left' | 'up'>[] = [
    { name: 't0', height: 5, width: 4, scales: [170, 150, 128] },
  ],
  follow = 32,
  lambda = 100,
): CalibratedTables {
  const precision = 12;
  const tables = Array.from({ length: 20 }, (_, index) => {
    const width = 0.1 * 1.4 ** index;
    const counts = Array.from({ length: 13 }, (_, i) => 1000 * Math.exp(-Math.abs(i - 6) / width) + 1);
    return tableFromCounts(counts, { precision, minValue: -6, escapeCount: 1 });
  });
  const flag = tableFromCounts([1, 1], { precision, minValue: 0 });
  return {
    version: 1,
    tensors: tensors.map((tensor) => ({
      ...tensor,
      left: tensor.scales.map((_, i) => (i % 2 === 0 ? follow : 0)),
      up: tensor.scales.map((_, i) => (i % 3 === 0 ? follow : 0)),
    })),
    levels: [112, 136].map((scale) => ({
      scale,
      components: tensors.map(({ scales }) => scales.length),
      lambda,
    })),
    priors: Array.from({ length: 256 }, (_, i) => Math.round(Math.min(2 ** 22, 4096 * 2 ** ((i - 128) / 8)))),
    weights: Array.from({ length: numGroups }, () => [1200, 700, 700, 150, 100, 400, 400, 200]).flat(),
    contexts: Array.from({ length: numContexts }, (_, context) => context >> 4),
    flags: new Array<number>(numFlagBins).fill(20),
    tables: [...tables, flag],
    centroids: new Array<number>(numBins * 3).fill(-50),
  };
}
