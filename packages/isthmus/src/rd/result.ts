import type { PublishedCurve } from './literature.js';

/** One codec at one level from one cut to another, over all pictures. */
export interface RdPoint {
  /** The codec's id. */
  method: string;
  from: number;
  to: number;
  level: number;
  /** The level's name. */
  name: string;
  /** Bits of the request packet, header included, over the pixels of the model's input; the mean. */
  bpp: number;
  /** Share of pictures whose best class is the label; without labels the same as `agreement`. Null for detection. */
  top1: number | null;
  /** Share of pictures answered as the uncompressed model does; for detection AP50 against its detections. */
  agreement: number;
  /** For detection: against the boxes given, else the same as `agreement`. */
  ap50?: number;
  /** Medians, one frame at a time. */
  encodeMs: number;
  decodeMs: number;
  deviceMs: number;
  cloudMs: number;
}

/** See `bdRatePercent`. `from` and `to` are null for a method's Pareto hull over all its cuts. */
export interface RdBdRate {
  method: string;
  from: number | null;
  to: number | null;
  against: string;
  /** Null where the two never reach the same accuracy. */
  percent: number | null;
}

/** What `isthmus bench rd` writes. */
export interface RdResult {
  model: string;
  /** How many pictures were measured. */
  images: number;
  /** Pictures that could not be read. */
  skipped: string[];
  /** What accuracy means in this run: the field of each point that curves and bdRate are about. */
  metric: 'top1' | 'agreement' | 'ap50';
  uncompressed: { top1: number | null; ap50?: number };
  points: RdPoint[];
  bdRate: RdBdRate[];
  /** What others publish, of their models on their photographs: to compare losses with, not accuracies. */
  published: readonly PublishedCurve[];
  /** Of what the points are, for `--with`. */
  identity: RdIdentity;
  /** Where and when which methods were measured: milliseconds of two runs do not compare. */
  runs: RdRun[];
}

/** Hashes of what has to be the same for two runs to be comparable. */
export interface RdIdentity {
  /** Of the bundle's segments. */
  segments: string;
  /** Of the pictures' names. */
  pictures: string;
  /** By id, of each codec that was measured. */
  codecs: Record<string, string>;
}

/** One run of `isthmus bench rd`. */
export interface RdRun {
  methods: string[];
  machine: string;
  date: string;
}

/** The point's accuracy by the run's metric. */
export function accuracyOf(metric: RdResult['metric'], point: RdPoint): number {
  return point[metric] ?? point.agreement;
}
