/** What one plan came to, over all photographs: medians of times, means of the rest. */
export interface PlanSummary {
  /** For people: `cut 2 · quantized 4-bit`, or `local`. */
  name: string;
  from: number;
  codec: string;
  level: string;
  frames: number;
  /** Of the request packet, header and chunk headers included. */
  numBytes: number;
  /** Bits of the packet over the pixels of the model's input. */
  bitsPerPixel: number;
  /** Decoding the picture and making it the model's input. */
  pictureMs: number;
  deviceMs: number;
  encodeMs: number;
  linkMs: number;
  cloudMs: number;
  totalMs: number;
  /** Frames whose top-1 class is that of the unsplit model. */
  agreeing: number;
}

/** One photograph and what the unsplit model says of it. */
export interface PhotoSummary {
  name: string;
  label: string;
  score: number;
}

/** Everything a demo run found out. */
export interface DemoResult {
  model: string;
  machine: string;
  date: string;
  uplink: { rateBps: number; delayMs: number };
  wholeModelMs: number;
  cuts: { index: number; tensors: string; numBytes: number }[];
  photos: PhotoSummary[];
  plans: PlanSummary[];
}
