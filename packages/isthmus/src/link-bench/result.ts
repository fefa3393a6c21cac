/** What a policy made of the frames of one trace, or of several. */
export interface RunMetrics {
  frames: number;
  /** Share of the frames answered within the deadline. */
  hitRate: number;
  /** Mean expected quality of the frames answered; null where there are none. */
  quality: number | null;
  /** Share of the frames answered that are answered as the uncompressed model does; null where it was not measured. */
  agreement: number | null;
  /** Mean over all frames of the expected quality, 0 for those without an answer in time. */
  utility: number;
  /** 1 − utility over the oracle's; null where the oracle did not run or got nothing. */
  regret: number | null;
  /** Of the frames answered. */
  latencyMs: { p50: number; p95: number; p99: number } | null;
  /** Over the link, per frame, pings and what was sent in vain included. */
  bytesPerFrame: number;
  /** Of the device, per frame. */
  joulesPerFrame: number;
  /** How often a frame was computed up to another cut than the one before. */
  switches: number;
  longestMiss: number;
  /** What a tenfold drop of the capacity did; null where there was none. */
  drops: DropMetrics | null;
}

export interface DropMetrics {
  count: number;
  /** Frames in a row without an answer, from just before the drop until the capacity was back. */
  missedInRow: { median: number; max: number };
  /** From when the capacity was back until five frames were as good as before, but for 5 %. */
  backMs: { median: number; max: number } | null;
  /** How often they were not before the next drop, or the end. */
  neverBack: number;
}

export interface PolicyResult {
  policy: string;
  /** Which plan, where it is a fixed one; which cut, where it keeps one. */
  detail?: string;
  metrics: RunMetrics;
}

/** One group of runs with one deadline: a trace, a class of traces, or all. */
export interface GroupResult {
  name: string;
  deadlineMs: number;
  policies: PolicyResult[];
}

/** What `isthmus bench link` writes. */
export interface LinkBenchResult {
  model: string;
  /** Whether every frame has its own measured size, or all have the mean. */
  sizes: 'frames' | 'means';
  pictures: number;
  framesPerSecond: number;
  deviceSlowdown: number;
  cloudSlowdown: number;
  maxDeviceCut: number;
  seed: number;
  traces: {
    name: string;
    kind: string;
    durationMs: number;
    meanRateBps: number;
    delayMs: number;
    lossless: boolean;
  }[];
  byTrace: GroupResult[];
  byKind: GroupResult[];
  overall: GroupResult[];
  date: string;
}
