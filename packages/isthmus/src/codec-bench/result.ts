/** Median and quartiles. */
export interface Spread {
  median: number;
  low: number;
  high: number;
}

/** What one coder made of all pictures at one cut. */
interface CoderResult {
  coder: string;
  numBytes: number;
  bitsPerSymbol: number;
  /** Of processor time, as is the next. */
  encodeSymbolsPerSecond: Spread;
  decodeSymbolsPerSecond: Spread;
}

export interface CodecCutResult {
  cut: number;
  channels: number;
  /** Values of one channel. */
  perChannel: number;
  /** Of each code. */
  bits: number;
  /** Codes of all pictures together. */
  symbols: number;
  /** Empirical, in bits per symbol: of one distribution for each picture, and of one for each channel of each. */
  entropy: { tensor: number; channel: number };
  coders: CoderResult[];
}

/** What `isthmus bench codec` writes. */
export interface CodecBenchResult {
  model: string;
  images: number;
  rounds: number;
  /** Coders that this machine does not have, and why. */
  missing: Record<string, string>;
  results: CodecCutResult[];
  machine: string;
  /** Processes wanting the processor, over the last minute. */
  load: { before: number; after: number };
  date: string;
}
