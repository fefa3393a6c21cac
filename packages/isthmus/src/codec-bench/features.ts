import type { CutTensor, Manifest, NamedTensors, Runtime } from '@isthmus/core';
import { type BundleFiles, loadSpan } from '../rd/measure.js';

/** What crosses one cut, of every picture. */
export interface CutFeatures {
  cut: number;
  channels: number;
  /** Values of one channel. */
  perChannel: number;
  /** How many values of a channel are a row. */
  width: number;
  frames: Float32Array[];
}

/** The cuts that are one tensor of channels of several values each: what there is to code. */
export function codedCuts({ cuts }: Manifest): number[] {
  return cuts
    .filter(({ tensors }) => tensors.length === 1 && isFeatureMap(tensors[0]!))
    .map((cut) => cut.index);
}

// A channel of one value has nothing but its scale to send.
function isFeatureMap({ type, shape }: CutTensor): boolean {
  return type === 'float32' && shape.length === 4 && shape[2]! * shape[3]! > 1;
}

/** What crosses a cut of {@link codedCuts} for each frame of cut 0. */
export async function computeFeatures(
  bundle: BundleFiles,
  cut: number,
  frames: readonly NamedTensors[],
  runtime: Runtime,
): Promise<CutFeatures> {
  const { name, shape } = bundle.manifest.cuts[cut]!.tensors[0]!;
  const [, channels, height, width] = shape as [number, number, number, number];
  const span = await loadSpan(bundle, 0, cut, runtime);
  try {
    const own: Float32Array[] = [];
    for (const frame of frames) {
      const [tensors] = await span.run([frame]);
      own.push(tensors![name]!.data as Float32Array);
    }
    return { cut, channels, perChannel: height * width, width, frames: own };
  } finally {
    await span.release();
  }
}

/** Codes of so many bits, each channel between its least and its largest value: what `quantized` sends. */
export function quantizeChannels(
  { channels, perChannel }: CutFeatures,
  bits: number,
  frame: Float32Array,
): Int32Array {
  const codes = new Int32Array(frame.length);
  const top = 2 ** bits - 1;
  for (let start = 0; start < channels * perChannel; start += perChannel) {
    const channel = frame.subarray(start, start + perChannel);
    const least = channel.reduce((a, b) => Math.min(a, b));
    const step = (channel.reduce((a, b) => Math.max(a, b)) - least) / top;
    if (step === 0) continue;
    for (let i = 0; i < perChannel; i++) {
      codes[start + i] = Math.min(top, Math.round((channel[i]! - least) / step));
    }
  }
  return codes;
}
