import type { FrequencyTable } from '../../entropy/tables.js';
import { type CalibratedTables, numBins, plainBitsOf } from './model.js';

const maxPlainBits = plainBitsOf(numBins - 1);

/** The tables as the coder uses them: those of the file, and behind them one for each number of plain bits. */
export function coderTables(tables: CalibratedTables): FrequencyTable[] {
  const { precision } = tables.tables[0]!;
  return [
    ...tables.tables,
    ...Array.from({ length: maxPlainBits }, (_, i): FrequencyTable => {
      const frequencies = new Uint16Array(2 ** (i + 1)).fill(2 ** (precision - i - 1));
      return { precision, minValue: 0, hasEscape: false, frequencies };
    }),
  ];
}
