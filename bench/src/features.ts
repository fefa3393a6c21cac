import { preprocessImage } from '@isthmus/core';
import { bundleSpan } from '@isthmus/graph';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { pullPhotos } from 'isthmus';
import sharp from 'sharp';
import { prepareModel } from './models.js';

/** What crosses one cut, of every photograph. */
export interface CutFeatures {
  cut: number;
  channels: number;
  perChannel: number;
  /** How many elements of a channel are a row. */
  width: number;
  frames: Float32Array[];
}

/** The features of the eight public-domain photographs at every cut that is one tensor of channels. */
export async function computeFeatures(name: string): Promise<CutFeatures[]> {
  const runtime = createNodeRuntime();
  try {
    const { bundle } = await prepareModel(name, runtime);
    const { cuts, preprocess } = bundle.manifest;
    if (preprocess === null) throw new Error(`${name} does not take pictures.`);
    const frames = [];
    for (const { bytes } of await pullPhotos()) {
      const picture = sharp(bytes).removeAlpha().toColourspace('srgb').raw();
      const { data, info } = await picture.toBuffer({ resolveWithObject: true });
      const image = { data, width: info.width, height: info.height, channels: 3 } as const;
      frames.push({ [cuts[0]!.tensors[0]!.name]: preprocessImage(image, preprocess) });
    }
    const features: CutFeatures[] = [];
    for (const { index, tensors } of cuts) {
      const [tensor] = tensors;
      if (tensors.length !== 1 || tensor?.type !== 'float32' || tensor.shape.length !== 4) continue;
      const [, channels, height, width] = tensor.shape as [number, number, number, number];
      // A channel of one element has nothing but its scale to send.
      if (height * width === 1) continue;
      const own: Float32Array[] = [];
      const session = index > 0 ? await runtime.load(bundleSpan(bundle, 0, index)) : undefined;
      for (const frame of frames) {
        const given = session === undefined ? frame : (await session.run(frame)).outputs;
        own.push(given[tensor.name]!.data as Float32Array);
      }
      await session?.release();
      features.push({ cut: index, channels, perChannel: height * width, width, frames: own });
    }
    return features;
  } finally {
    await runtime.close();
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
